"""How many tokens are left behind each block."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitsearch.core.token_counts import METHODS, default_places, refused_places, tokens_left


def deit(method, ratio, places=()):
    return tokens_left(method, ratio, places, depth=12, patches=196, prefix=1)


def test_a_quarter_a_half_and_three_quarters_of_the_way():
    assert deit("topk", 0.3) == (197,) * 3 + (139,) * 3 + (98,) * 3 + (69,) * 3


def test_evit_holds_one_more_token_for_those_that_went():
    assert deit("evit", 0.3) == (197,) * 3 + (140,) * 3 + (99,) * 3 + (70,) * 3


def test_dynamicvit_decides_in_front_of_a_block():
    assert deit("dynamicvit", 0.3) == (197,) * 2 + (139,) * 3 + (98,) * 3 + (69,) * 4


def test_dynamicvit_waits_for_the_next_block_where_a_quarter_is_no_whole_number_of_them():
    assert default_places("dynamicvit", depth=6) == (1, 2, 4)


def test_tome_merges_in_every_block_but_the_last_and_ends_with_as_many():
    left = deit("tome", 0.3)
    assert left[-2:] == (69, 69)
    assert all(after < before for before, after in itertools.pairwise((197, *left[:-1])))


def test_named_places_are_taken():
    assert deit("topk", 0.5, (4, 8)) == (197,) * 4 + (99,) * 4 + (50,) * 4
    assert deit("tome", 0.3, (4, 8)) == (197,) * 4 + (139,) * 4 + (98,) * 4


def test_tome_can_take_no_more_than_half_at_once():
    assert deit("tome", 0.9, (4, 8))[4] == 1 + 98


def test_prefix_tokens_are_not_counted_as_patches():
    assert tokens_left("topk", 0.5, (0,), depth=2, patches=16, prefix=2) == (10, 10)


def test_no_ratio_and_nothing_that_goes_are_no_token_pruning():
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
def test_tokens_never_rise_and_some_always_stay(method, ratio, depth, patches, prefix, data):
    places = tuple(sorted(data.draw(st.sets(st.integers(0, depth - 2), max_size=4))))
    left = tokens_left(method, ratio, places, depth, patches, prefix)
    if left:
        assert len(left) == depth
        assert all(prefix < after <= before for before, after in itertools.pairwise((prefix + patches, *left)))
        assert left[-2] == left[-1] < prefix + patches


@given(st.sampled_from(METHODS), st.integers(1, 48))
def test_default_places_are_never_refused(method, depth):
    assert refused_places(default_places(method, depth), depth) is None


@pytest.mark.parametrize("places", [(3, 11), (12,), (-1, 3)])
def test_places_that_the_model_does_not_have_are_refused(places):
    assert "has 12 blocks, so tokens can be dropped behind blocks 0 to 10" in refused_places(places, 12)


def test_places_that_do_not_rise_are_refused():
    assert "must rise" in refused_places((4, 4), 12)
