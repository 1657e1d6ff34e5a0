"""How maps are kept and drawn for people."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from vitsearch.tasks.segmentation.pictures import packed, pictures_of, sample_rows, unpacked


@given(arrays.arrays(np.uint8, st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9))))
def test_maps_are_the_same_again_from_json(maps):
    assert np.array_equal(unpacked(json.loads(json.dumps(packed(maps)))), maps)


@given(st.integers(0, 50))
def test_samples_are_different_images_of_the_split(images):
    rows = sample_rows(images)
    assert len(set(rows)) == len(rows) == min(3, images)
    assert all(0 <= row < images for row in rows)


def test_a_text_that_inflates_to_more_than_a_map_is_refused():
    large = packed(np.zeros((1, 900, 900), np.uint8))
    with pytest.raises(ValueError, match="buffer|bytes|reshape|cannot"):
        unpacked({"size": [1000, 1000], "maps": large["maps"]})


def test_a_picture_has_the_index_of_each_class_and_a_colour():
    maps = np.array([[[0, 1], [2, 3]]], np.uint8)
    with Image.open(io.BytesIO(pictures_of(maps)[0])) as picture:
        assert (picture.mode, picture.size) == ("P", (112, 112))
        assert np.unique(np.asarray(picture)).tolist() == [0, 1, 2, 3]
        assert len(np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0)) == 4
