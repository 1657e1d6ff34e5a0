"""The size of an image: its text, its JSON, its order."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitsearch.core.image_size import ImageSize, smallest_enclosing
from vitsearch.core.json_value import json_of
from vitsearch.errors import PlanError

sides = st.integers(1, 4096)
sizes = st.builds(ImageSize, sides, sides)


@given(sizes)
def test_text_and_json_say_the_whole_size(size):
    assert ImageSize.of_text(str(size)) == size
    assert ImageSize.of(json.loads(json.dumps(size.to_json()))) == size


@given(sides)
def test_a_square_is_written_as_its_side(side):
    square = ImageSize.square(side)
    assert (str(square), square.to_json(), square.side, square.is_square) == (str(side), side, side, True)


def test_another_rectangle_is_height_and_width():
    size = ImageSize(64, 96)
    assert (str(size), size.to_json(), size.by, json_of(size)) == ("64x96", [64, 96], "64 x 96", [64, 96])


@given(st.lists(sizes, min_size=2, max_size=2, unique=True))
def test_more_pixels_are_larger_and_no_two_sizes_are_equally_large(pair):
    smaller, larger = sorted(pair)
    assert smaller.pixels <= larger.pixels
    assert (smaller < larger, larger < smaller) == (True, False)


@given(st.lists(sizes, min_size=1, max_size=5))
def test_what_holds_several_sizes_has_no_row_or_column_too_many(several):
    whole = smallest_enclosing(several)
    assert all(whole.holds(size) for size in several)
    assert whole.height in {size.height for size in several}
    assert whole.width in {size.width for size in several}


@given(sizes, st.integers(1, 9))
def test_a_multiple_has_the_same_shape(size, factor):
    assert size.has_shape_of(size.scaled(factor))


@pytest.mark.parametrize("text", ["", "64x", "x96", "64X96", "64x96x3", "-64", "6.4", "0", "64x0", "1234567"])
def test_other_text_is_refused(text):
    with pytest.raises(PlanError):
        ImageSize.of_text(text)


def test_an_image_without_pixels_is_refused():
    with pytest.raises(PlanError, match="64x0 pixels is not a valid image size"):
        ImageSize(64, 0)


def test_what_is_cut_off_an_image_is_the_share_beyond_the_shape():
    assert ImageSize.square(224).cut_share(1080, 1920) == pytest.approx(0.4375)
    assert ImageSize.square(224).cut_share(1920, 1080) == pytest.approx(0.4375)
    assert ImageSize(54, 96).cut_share(1080, 1920) == 0
