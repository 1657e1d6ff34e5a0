"""Sizes whose sides are multiples of a number."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitsearch.backbones.valid_sizes import are_multiples, img_size, nearest_multiples
from vitsearch.core.image_size import ImageSize

sizes = st.builds(ImageSize, st.integers(1, 300), st.integers(1, 300))


@pytest.mark.parametrize(
    ("size", "step", "least", "near"),
    [
        (200, 16, 1, "192 and 208"),
        (8, 16, 1, "16"),
        (10, 32, 64, "64"),
        (32, 32, 64, "64"),
        ((64, 97), 16, 1, "64x96 and 64x112"),
        ((65, 97), 16, 1, "64x96 and 80x112"),
        ((32, 96), 32, 64, "64x96"),
        ((8, 97), 16, 1, "16x112"),
    ],
)
def test_the_nearest_sizes_are_named(size, step, least, near):
    assert nearest_multiples(ImageSize.of(size), step, least) == near


@given(sizes, st.integers(2, 64), st.integers(1, 3))
def test_all_sizes_that_are_named_are_allowed(size, step, times):
    least = step * times
    if not are_multiples(size, step, least):
        named = map(ImageSize.of_text, nearest_multiples(size, step, least).split(" and "))
        assert all(are_multiples(each, step, least) for each in named)


def test_constructors_get_the_side_of_a_square_and_both_of_another_rectangle():
    assert (img_size(ImageSize.square(64)), img_size(ImageSize(64, 96))) == (64, (64, 96))
