"""Properties of all images of a set: their common size, their mean and standard deviation."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from vitsearch.core.image_size import ImageSize
from vitsearch.data.arrays import Bytes
from vitsearch.data.problems import Problems, some

_IMAGES = 2048
_AT_ONCE = 16  # images that are held as float64 at a time


def common_size(sizes: Iterable[tuple[int, int]], problems: Problems) -> ImageSize:
    """Find the size that all images have.

    Args:
        sizes: Width and height of each image, as Pillow has them.
        problems: Gets a line where they differ.

    Returns:
        The size; where they differ, that of the first.
    """
    different = sorted(ImageSize(height, width) for width, height in set(sizes))
    if len(different) > 1:
        seen = some(f"{size.height}x{size.width}" for size in different)
        problems.add(
            f"data.image_size: is missing, and the images are not all of one size ({seen}; height x width); "
            "set it, preferably to the largest resolution of the space"
        )
    return different[0] if different else ImageSize.square(1)


def mean_and_std(images: Bytes) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel, of pixels in [0, 1], over up to 2,048 evenly spaced images."""
    chosen = np.linspace(0, len(images) - 1, min(len(images), _IMAGES)).astype(np.int64)
    sums = squares = np.zeros(images.shape[3])
    pixels = 0
    for start in range(0, len(chosen), _AT_ONCE):
        rows = _reopened(images)[chosen[start : start + _AT_ONCE]]
        values = rows.reshape(-1, images.shape[3]).astype(np.float64) / 255
        sums, squares, pixels = sums + values.sum(0), squares + (values**2).sum(0), pixels + len(values)
    mean = sums / pixels
    std = np.sqrt(np.maximum(squares / pixels - mean**2, 1e-6))
    return tuple(float(v) for v in np.round(mean, 4)), tuple(float(v) for v in np.round(std, 4))


def _reopened(images: Bytes) -> Bytes:
    """A new map of the same file. Pages that a map has read count as this process's memory until the map is closed."""
    if not isinstance(images, np.memmap) or images.filename is None:
        return images
    reopened: Bytes = np.load(images.filename, mmap_mode="r")
    return reopened
