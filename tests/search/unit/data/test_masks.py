"""What masks say of whole images."""

from __future__ import annotations

import numpy as np

from vitsearch.data.masks import image_classes, label_counts, present_in


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
    masks = np.array([[[0, 2], [255, 2]]], np.uint8)
    assert label_counts(masks, 3).tolist() == [1, 0, 2]
