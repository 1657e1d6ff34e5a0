"""Nearly equal images are found, different and flat ones are not."""

from __future__ import annotations

import numpy as np
import pytest

from vitsearch.data import DataSpec, load
from vitsearch.data.near_duplicates import alike, fingerprints, group_of_pairs


@pytest.fixture(scope="module")
def objects() -> np.ndarray:
    """A hundred objects of 20x20 on a dark ground of 32x32."""
    pixels = load(DataSpec("builtin:fashion-mnist-14k")).train.images[:100, 4:24, 4:24, 0]
    return np.pad(pixels, ((0, 0), (6, 6), (6, 6)))


def test_a_moved_and_brighter_image_pairs_with_its_own_alone(objects):
    moved = (np.roll(objects, (2, -3), (1, 2)) * 0.8 + 30).astype(np.uint8)
    pairs = alike(fingerprints(objects), fingerprints(moved))
    assert [(row, row) for row in range(100)] == [tuple(pair) for pair in pairs.tolist()]


def test_flat_images_pair_with_none():
    flat = np.random.default_rng(0).integers(100, 104, (50, 32, 32)).astype(np.uint8)
    assert len(alike(fingerprints(flat), fingerprints(flat))) == 0


@pytest.mark.parametrize("mark", ["_", "-", " "])
def test_the_part_before_the_last_mark_is_the_group(mark):
    paths = [f"bolt/p{part}{mark}{shot}.png" for part in range(3) for shot in range(2)]
    assert group_of_pairs(paths, [(paths[0], paths[1])]) == f"(.*){mark}[^/{mark}]*$"
    assert group_of_pairs(paths, [(paths[0], paths[2])]) is None
    assert group_of_pairs([*paths, "bolt/loose.png"], [(paths[0], paths[1])]) is None


def test_a_counter_is_no_group():
    paths = [f"{name}/img_{number}.png" for name in ("bolt", "nut", "pin") for number in range(4)]
    assert group_of_pairs(paths, [(paths[0], paths[1])]) is None
