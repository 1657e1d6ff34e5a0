"""What masks say of whole images."""

from __future__ import annotations

import hashlib
import tracemalloc

import numpy as np

from vitsearch.data.masks import image_classes, label_counts, present_in
from vitsearch.data.splits import digest_of_files
from vitsearch_agent.base.canonical_json import canonical_json


def test_an_image_has_the_class_that_the_fewest_masks_have():
    masks = np.zeros((4, 2, 2), np.uint8)
    masks[0, 0, 0] = masks[1, 0, 0] = 1
    masks[1, 1, 1] = 7
    masks[3] = 255
    assert image_classes(masks).tolist() == [1, 7, 0, -1]


def test_classes_are_left_as_they_are():
    assert image_classes(np.array([3, 1, 2])).tolist() == [3, 1, 2]


def test_an_image_counts_for_each_class_of_its_mask():
    masks = np.zeros((3, 2, 2), np.uint8)
    masks[0, 0] = [1, 2]
    masks[1, 1] = [2, 255]
    masks[2] = 255
    assert present_in(masks)[:, :4].sum(axis=0).tolist() == [2, 1, 2, 0]


def test_pixels_that_are_ignored_count_for_no_class():
    masks = np.array([[[0, 2], [255, 2]], [[1, 1], [1, 1]], [[2, 2], [2, 2]]], np.uint8)
    assert label_counts(masks, np.array([0, 2]), 3).tolist() == [1, 0, 6]
    assert label_counts(np.array([0, 2, 2, 1]), np.array([0, 1, 3]), 4).tolist() == [1, 1, 1, 0]


def test_masks_are_counted_and_digested_one_by_one():
    masks = np.broadcast_to(np.zeros(1, np.uint8), (100, 512, 512))
    tracemalloc.start()
    try:
        label_counts(masks, np.arange(100), 3)
        sha256 = digest_of_files(["a"], masks)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < masks.nbytes / 4
    content = canonical_json([100, 512, 512]) + b"a" + bytes(masks.nbytes)
    assert sha256 == hashlib.sha256(content).hexdigest()
