"""Pictures of four garments with masks, made from the subset that ships."""

from __future__ import annotations

import numpy as np
import pytest

from vitsearch import data
from vitsearch.core.image_size import ImageSize
from vitsearch.data.fashion_mosaic import COUNTS, DARK, drawn, mosaic_split, mosaics
from vitsearch.errors import DataError


@pytest.fixture(scope="module")
def validation():
    return mosaic_split("validation")


def test_a_picture_has_its_garments_in_four_corners():
    garments = np.stack([np.full((2, 2), 50 + value, np.uint8) for value in range(5)])
    images, masks = mosaics(garments, np.arange(5), np.array([[0, 1, 2, 4]]))
    assert images[0].tolist() == [[50, 50, 51, 51]] * 2 + [[52, 52, 54, 54]] * 2
    assert masks[0].tolist() == [[1, 1, 2, 2]] * 2 + [[3, 3, 5, 5]] * 2


def test_dark_pixels_are_background(validation):
    assert validation.images.shape == (COUNTS["validation"], 56, 56, 1)
    is_dark = validation.images[..., 0] <= DARK
    assert ((validation.labels == 0) == is_dark).all()


def test_every_garment_of_a_split_is_in_equally_many_pictures():
    counts = np.bincount(drawn(10, 5).ravel(), minlength=10)
    assert counts.tolist() == [2] * 10
    assert sorted(drawn(8, 2).ravel()) == list(range(8))


def test_colours_repeat_the_grey_channel(validation):
    coloured = mosaic_split("validation", 3)
    assert (coloured.images == validation.images).all()
    assert (coloured.labels == validation.labels).all()


def test_the_set_is_the_same_every_time_and_holds_out_all_classes():
    loaded = data.load(data.DataSpec("builtin:fashion-mosaic"))
    assert loaded.class_names[0] == "background"
    assert loaded.identity == data.load(data.DataSpec("builtin:fashion-mosaic")).identity
    held_out = np.bincount(loaded.train.labels[loaded.holdout].ravel(), minlength=11)
    assert (held_out > 0).all()
    assert len(loaded.test) == COUNTS["test"]


def test_another_size_is_refused():
    with pytest.raises(DataError, match="images of 56 pixels"):
        data.load(data.DataSpec("builtin:fashion-mosaic", image_size=ImageSize.square(64)))
