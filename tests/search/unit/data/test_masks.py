"""What masks say of whole images."""

from __future__ import annotations

import numpy as np

from vitsearch.data.masks import image_classes


def test_an_image_has_the_class_that_the_fewest_masks_have():
    masks = np.zeros((4, 2, 2), np.uint8)
    masks[0, 0, 0] = masks[1, 0, 0] = 1
    masks[1, 1, 1] = 7
    masks[3] = 255
    assert image_classes(masks).tolist() == [1, 7, 0, -1]


def test_classes_are_left_as_they_are():
    assert image_classes(np.array([3, 1, 2])).tolist() == [3, 1, 2]
