"""Merging equal tokens is exact: the merged token counts for several."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from vitsearch.compress.tokens.base import TokenLayout
from vitsearch.compress.tokens.tome import MergingBlock, destinations, merge


def chain(model, merged):
    """The blocks of `model`, the first of which merges."""
    patches = [8, *[8 - merged] * 3]
    for index, (block, came) in enumerate(zip(list(model.blocks), patches, strict=True)):
        model.blocks[index] = MergingBlock(block, TokenLayout(1, 1), came, merged if index == 0 else 0, index == 3)
    return model.blocks


def test_merging_equal_tokens_does_not_change_the_others(vit):
    torch.manual_seed(2)
    first, others = torch.randn(2, 4, 1, 32), torch.randn(2, 1, 32)
    equal = torch.cat([others, first.expand(-1, -1, 2, -1).reshape(2, 8, 32)], dim=1)  # 1 and 2, 3 and 4, ...
    with torch.no_grad():
        expected = vit().blocks(equal)
        output = chain(vit(), merged=4)(equal)
    assert output.shape == (2, 5, 32)
    torch.testing.assert_close(output[:, 0], expected[:, 0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(output[:, 1:], expected[:, [1, 5, 3, 7]], rtol=1e-4, atol=1e-5)


def test_the_most_similar_pair_is_merged():
    features = torch.eye(5)[[0, 1, 2, 3, 2]].unsqueeze(0)  # prefix; first half 1 2; second half 3 2
    assert destinations(features, prefix=1, patches=4, merged=1).tolist() == [[0, 1, 3, 2, 3]]


def test_a_merged_token_is_the_mean_weighted_by_size():
    x, sizes = torch.tensor([[[1.0], [2.0], [6.0]]]), torch.tensor([[[1.0, 3.0, 1.0]]])
    merged, counted = merge(x, sizes, torch.tensor([[0, 1, 1]]), [0, 1])
    assert merged.flatten().tolist() == [1.0, (3 * 2.0 + 6.0) / 4]
    assert counted.tolist() == [[[1.0, 4.0]]]


@given(st.integers(0, 3), st.integers(2, 20), st.integers(0, 5), st.data())
def test_every_slot_is_filled_and_the_prefix_stays(prefix, patches, seed, data):
    merged = data.draw(st.integers(1, patches // 2))
    features = torch.randn(2, prefix + patches, 4, generator=torch.Generator().manual_seed(seed))
    goes_to = destinations(features, prefix, patches, merged)
    for row in goes_to.tolist():
        assert row[:prefix] == list(range(prefix))
        assert set(row) == set(range(prefix + patches - merged))


def test_no_patch_is_lost(vit, images, pruned):
    model, sizes = pruned(vit(), "tome", 0.5), []
    for block in list(model.blocks)[:-1]:
        block.register_forward_hook(lambda _, __, out: sizes.append(out.sizes.sum(2)))
    model(images)
    assert torch.stack(sizes).unique().tolist() == [17.0]
