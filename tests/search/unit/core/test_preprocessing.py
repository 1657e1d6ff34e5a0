"""What a model sees of a stored image."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from vitsearch.core.image_size import ImageSize
from vitsearch.core.preprocessing import HALF, ModelView

sides = st.integers(8, 2048)
sizes = st.builds(ImageSize, sides, sides)
shares = st.floats(0.1, 1)


def crop(stored, resolution, share=1.0):
    return replace(HALF, crop_share=share).crop_size(stored, resolution)


@given(sides, sides, shares)
def test_of_a_square_a_square_model_sees_a_share_of_each_side(side, resolution, share):
    seen = crop(ImageSize.square(side), ImageSize.square(resolution), share)
    assert seen == ImageSize.square(max(1, round(side * share)))


@given(sizes, shares)
def test_of_an_image_of_its_own_shape_a_model_sees_a_share_of_each_side(size, share):
    stored = size.scaled(2)
    assert crop(stored, size, share) == ImageSize(*(max(1, round(side * share)) for side in stored.sides))


@given(sizes, sizes)
def test_without_a_crop_one_side_is_seen_whole(stored, resolution):
    seen = crop(stored, resolution)
    assert stored.holds(seen)
    assert seen.height == stored.height or seen.width == stored.width


@given(sizes, sizes, shares)
def test_no_image_is_squashed_by_more_than_the_rounding_to_pixels(stored, resolution, share):
    seen = crop(stored, resolution, share)
    off = abs(seen.height * resolution.width - seen.width * resolution.height)
    assert off <= max(resolution.sides) or 1 in seen.sides


def test_a_square_model_sees_the_middle_of_a_wide_image_and_a_wide_one_that_of_a_square():
    wide, square = ImageSize(64, 96), ImageSize.square(64)
    assert crop(wide, square) == ImageSize(64, 64)
    assert crop(ImageSize.square(96), wide) == ImageSize(64, 96)


def test_the_settings_of_a_bundle_have_squares_as_numbers_and_others_as_lists():
    view = ModelView(ImageSize(64, 96), replace(HALF, crop_share=0.5))
    settings = view.settings(ImageSize(160, 240), 3)
    assert (settings["image_size"], settings["crop_size"], settings["resolution"]) == ([160, 240], [80, 120], [64, 96])
    settings = ModelView(ImageSize.square(28), HALF).settings(ImageSize.square(32), 3)
    assert (settings["image_size"], settings["crop_size"], settings["resolution"]) == (32, 32, 28)
