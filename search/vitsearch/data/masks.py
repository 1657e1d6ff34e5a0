"""What masks say of whole images."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vitsearch.data.arrays import Labels, Truths
from vitsearch_agent.verify.segmentation import IGNORED


def label_counts(labels: Truths, rows: Labels, classes: int) -> Labels:
    """Count the images of each class, or the pixels of masks.

    Args:
        labels: int64 (n,), or uint8 (n, height, width), which need not fit in memory.
        rows: Those that count.
        classes: Their number.

    Returns:
        int64 (classes,); pixels that are ignored count nowhere.
    """
    counts = np.zeros(classes, np.int64)
    for values in [labels[rows]] if labels.ndim == 1 else (labels[row] for row in rows):
        counts += np.bincount(values.ravel(), minlength=classes)[:classes]
    return counts


def image_classes(labels: Truths) -> Labels:
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
    return rarest(present_in(labels))


def rarest(present: NDArray[np.bool_]) -> Labels:
    """Choose one class of each image: of those in it the one that the fewest images have.

    Args:
        present: (n, classes), whether each class is in each image.

    Returns:
        int64 (n,); -1 for an image without any.
    """
    counts = np.where(present, present.sum(axis=0), len(present) + 1)
    chosen: Labels = np.where(present.any(axis=1), counts.argmin(axis=1), -1)
    return chosen


def present_in(masks: Truths) -> NDArray[np.bool_]:
    """Look up which classes are in each mask.

    Args:
        masks: uint8 (n, height, width).

    Returns:
        (n, 255), whether each index is in each mask.
    """
    present = np.zeros((len(masks), IGNORED + 1), dtype=bool)
    for row, mask in enumerate(masks):
        present[row] = np.bincount(mask.ravel(), minlength=IGNORED + 1) > 0
    return present[:, :IGNORED]
