"""Dropping is exact: it equals masking the dropped tokens in all later attention."""

from __future__ import annotations

import pytest
import torch

from vitsearch.compress.tokens import attention
from vitsearch.compress.tokens.base import TokenLayout
from vitsearch.compress.tokens.evit import EViTBlock
from vitsearch.compress.tokens.topk import TopKBlock


def masked_logits(model, images, index_of_block, kept):
    """Logits of the whole `model` when the patches not `kept` are masked behind the attention of block
    `index_of_block`."""
    x = model._pos_embed(model.patch_embed(images))
    mask = None
    for index, block in enumerate(model.blocks):
        x = block(x, attn_mask=mask)
        if index == index_of_block:
            mask = torch.full((len(x), 1, 1, x.shape[1]), float("-inf"))
            mask[..., :1] = 0.0
            mask.scatter_(3, kept[:, None, None] + 1, 0.0)
    return model.forward_head(model.norm(x))


def most_attended(model, images, index_of_block, count):
    x = model._pos_embed(model.patch_embed(images))
    for block in model.blocks[:index_of_block]:
        x = block(x)
    block = model.blocks[index_of_block]
    layer = block.attn
    layer.fused_attn = False
    rows = []
    layer.attn_drop.register_forward_hook(lambda _, __, weights: rows.append(weights))
    block(x)
    return rows[0][:, :, 0, 1:].mean(1).topk(count).indices


def test_equals_the_whole_model_with_the_dropped_tokens_masked(vit, images, pruned):
    whole = vit()
    with torch.no_grad():
        expected = masked_logits(whole, images, 1, most_attended(vit(), images, 1, 8))
        actual = pruned(vit(), "topk", 0.5, (1,))(images)
        assert float((whole(images) - expected).abs().max()) > 1e-3, "the mask changed nothing"
        torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", [TopKBlock, EViTBlock])
def test_prefix_tokens_stay_whatever_their_attention(vit, kind):
    block = kind(vit().blocks[0], TokenLayout(3, 1), kept=2)
    x = torch.randn(2, 9, 32)
    reduced = block.reduce(x, torch.rand(2, 6))
    assert torch.equal(reduced[:, :3], x[:, :3])
    assert reduced.shape[1] < 9


@pytest.mark.parametrize("readers", [1, 2])
def test_attention_is_paid_by_the_tokens_that_the_classifier_reads(vit, images, readers):
    model = vit(reg_tokens=1)
    layer, x = model.blocks[0].attn, torch.randn(2, 18, 32)
    heads = attention.heads_of(layer, x)
    scores = (heads.queries[:, :, :readers] * layer.scale) @ heads.keys.transpose(-2, -1)
    expected = scores.softmax(-1).mean((1, 2))[:, 2:]
    torch.testing.assert_close(attention.attention_received(layer, heads, 2, readers), expected)


@pytest.mark.parametrize(
    ("arguments", "layout"),
    [
        ({}, TokenLayout(1, 1)),
        ({"reg_tokens": 4}, TokenLayout(5, 1)),
        ({"global_pool": "avg"}, TokenLayout(1, 0)),
        ({"global_pool": "map", "class_token": False}, TokenLayout(0, 0)),
    ],
)
def test_layout_of_prefix_and_readers(vit, arguments, layout):
    assert TokenLayout.of(vit(**arguments)) == layout
