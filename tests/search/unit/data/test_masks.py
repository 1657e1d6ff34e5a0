"""What masks say of whole images."""

from __future__ import annotations

import numpy as np

from vitsearch.data.masks import count_images, image_classes


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
    assert count_images(masks, 4) == (2, 1, 2, 0)


def test_an_image_with_one_class_counts_for_it():
    assert count_images(np.array([3, 1, 1]), 5) == (0, 2, 0, 1, 0)
