"""Mean and standard deviation of stored images."""

from __future__ import annotations

import numpy as np

from vitsearch.data.arrays import Bytes

_IMAGES = 2048
_AT_ONCE = 16  # float64 copies of these are held, beside the images themselves


def mean_and_std(images: Bytes) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Per channel, of up to 2,048 evenly spaced images, in [0, 1]."""
    chosen = np.linspace(0, len(images) - 1, min(len(images), _IMAGES)).astype(np.int64)
    sums = squares = np.zeros(images.shape[3])
    pixels = 0
    for start in range(0, len(chosen), _AT_ONCE):
        rows = _mapped_anew(images)[chosen[start : start + _AT_ONCE]]
        values = rows.reshape(-1, images.shape[3]).astype(np.float64) / 255
        sums, squares, pixels = sums + values.sum(0), squares + (values**2).sum(0), pixels + len(values)
    mean = sums / pixels
    std = np.sqrt(np.maximum(squares / pixels - mean**2, 1e-6))
    return tuple(float(v) for v in np.round(mean, 4)), tuple(float(v) for v in np.round(std, 4))


def _mapped_anew(images: Bytes) -> Bytes:
    """What a map has read counts as this process's memory until the map is dropped."""
    if not isinstance(images, np.memmap) or images.filename is None:
        return images
    anew: Bytes = np.load(images.filename, mmap_mode="r")
    return anew
