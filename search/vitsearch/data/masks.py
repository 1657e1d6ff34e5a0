"""What masks say of whole images."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vitsearch.data.arrays import Labels, Masks
from vitsearch_agent.verify.segmentation import IGNORED


def image_classes(labels: Labels | Masks) -> Labels:
    """Give one class of each image, by which images are spread over splits.

    Args:
        labels: int64 (n,), classes, or uint8 (n, height, width), masks.

    Returns:
        int64 (n,): the classes, or the one in each mask that the fewest masks have, so that rare ones are on both
        sides;
        -1 where all pixels are ignored.
    """
    if labels.ndim == 1:
        return labels.astype(np.int64)
    present = _present(labels)
    counts = np.where(present, present.sum(axis=0), len(labels) + 1)
    rarest: Labels = np.where(present.any(axis=1), counts.argmin(axis=1), -1)
    return rarest


def count_images(labels: Labels | Masks, classes: int) -> tuple[int, ...]:
    """Count the images of each class.

    Args:
        labels: int64 (n,), classes, or uint8 (n, height, width), masks.
        classes: Their number.

    Returns:
        The images of each class, or those whose mask has a pixel of it.
    """
    if labels.ndim == 1:
        return tuple(np.bincount(labels, minlength=classes).tolist())
    return tuple(_present(labels)[:, :classes].sum(axis=0).tolist())


def _present(masks: Labels | Masks) -> NDArray[np.bool_]:
    """Whether each mask has each class, (n, classes)."""
    present = np.zeros((len(masks), IGNORED + 1), dtype=bool)
    for row, mask in enumerate(masks):
        present[row, np.unique(mask)] = True
    return present[:, :IGNORED]
