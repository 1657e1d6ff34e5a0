"""Dropped tokens are fused into one."""

from __future__ import annotations

import pytest
import torch

from vitsearch.compress.tokens.base import TokenLayout
from vitsearch.compress.tokens.evit import EViTBlock


def test_the_last_token_is_the_attention_weighted_sum_of_the_dropped_ones(vit):
    block = EViTBlock(vit().blocks[0], TokenLayout(1, 1), kept=2)
    x, attended = torch.randn(1, 6, 32), torch.tensor([[0.3, 0.1, 0.2, 0.25, 0.15]])
    reduced = block.reduce(x, attended)
    gone = 0.1 * x[:, 2] + 0.2 * x[:, 3] + 0.15 * x[:, 5]
    assert reduced.shape == (1, 4, 32)
    assert torch.equal(reduced[:, 0], x[:, 0])
    torch.testing.assert_close(reduced[:, 3], gone)
    assert {float(row[0]) for row in reduced[0, 1:3]} == {float(x[0, 1, 0]), float(x[0, 4, 0])}


def test_the_fused_token_can_be_kept_and_fused_again(vit, images, pruned):
    model = pruned(vit(), "evit", 0.5, (0, 1, 2))
    assert [block.kept for block in model.blocks[:3]] == [8, 4, 2]
    assert model(images).isfinite().all()


def test_the_fused_token_changes_the_logits(vit, images, pruned):
    evit, topk = (pruned(vit(), name, 0.5, (1,))(images) for name in ("evit", "topk"))
    with pytest.raises(AssertionError):
        torch.testing.assert_close(evit, topk)
