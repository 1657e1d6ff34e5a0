"""The number of tokens after each block."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitsearch.core.token_counts import METHODS, default_positions, position_problem, tokens_left


def deit(method, ratio, positions=()):
    return tokens_left(method, ratio, positions, depth=12, patches=196, prefix=1)


def test_default_positions_are_quarters_of_the_depth():
    assert deit("topk", 0.3) == (197,) * 3 + (139,) * 3 + (98,) * 3 + (69,) * 3


def test_evit_keeps_one_token_for_the_dropped_ones():
    assert deit("evit", 0.3) == (197,) * 3 + (140,) * 3 + (99,) * 3 + (70,) * 3


def test_dynamicvit_positions_are_one_block_earlier():
    assert deit("dynamicvit", 0.3) == (197,) * 2 + (139,) * 3 + (98,) * 3 + (69,) * 4


def test_dynamicvit_rounds_fractional_quarters_up():
    assert default_positions("dynamicvit", depth=6) == (1, 2, 4)


def test_tome_merges_in_every_block_but_the_last():
    left = deit("tome", 0.3)
    assert left[-2:] == (69, 69)
    assert all(after < before for before, after in itertools.pairwise((197, *left[:-1])))


def test_given_positions_are_used():
    assert deit("topk", 0.5, (4, 8)) == (197,) * 4 + (99,) * 4 + (50,) * 4
    assert deit("tome", 0.3, (4, 8)) == (197,) * 4 + (139,) * 4 + (98,) * 4


def test_tome_removes_at_most_half_at_one_position():
    assert deit("tome", 0.9, (4, 8))[4] == 1 + 98


def test_prefix_tokens_are_not_counted_as_patches():
    assert tokens_left("topk", 0.5, (0,), depth=2, patches=16, prefix=2) == (10, 10)


def test_without_dropped_tokens_the_result_is_empty():
    assert deit("topk", 0.0) == ()
    assert tokens_left("evit", 0.1, (0,), depth=2, patches=9, prefix=1) == ()


@given(
    st.sampled_from(METHODS),
    st.floats(0.01, 0.95),
    st.integers(2, 24),
    st.integers(1, 400),
    st.integers(0, 6),
    st.data(),
)
def test_token_counts_never_rise_and_stay_above_0(method, ratio, depth, patches, prefix, data):
    positions = tuple(sorted(data.draw(st.sets(st.integers(0, depth - 2), max_size=4))))
    left = tokens_left(method, ratio, positions, depth, patches, prefix)
    if left:
        assert len(left) == depth
        assert all(prefix < after <= before for before, after in itertools.pairwise((prefix + patches, *left)))
        assert left[-2] == left[-1] < prefix + patches


@given(st.sampled_from(METHODS), st.integers(1, 48))
def test_default_positions_are_valid(method, depth):
    assert position_problem(default_positions(method, depth), depth) is None


@pytest.mark.parametrize("positions", [(3, 11), (12,), (-1, 3)])
def test_positions_beyond_the_model_are_refused(positions):
    assert "has 12 blocks, so tokens can be dropped after blocks 0 to 10" in position_problem(positions, 12)


def test_positions_that_do_not_rise_are_refused():
    assert "in ascending order" in position_problem((4, 4), 12)
