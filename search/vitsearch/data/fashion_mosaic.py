"""Fashion-MNIST as pictures with masks: four garments in 56 x 56 pixels, made from the subset that ships.

A mask has class 0, the background, and one class for each kind of garment: the pixels of its image that are not dark.
A picture takes garments of one split only, so no garment is on both sides.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from vitsearch.core.image_size import ImageSize
from vitsearch.data.arrays import Bytes, Labels, Masks
from vitsearch.data.fashion_mnist import CLASS_NAMES as GARMENTS
from vitsearch.data.fashion_mnist import subset_split
from vitsearch.data.image_data import ImageData
from vitsearch.data.spec import DataSpec
from vitsearch.data.splits import Split
from vitsearch.data.statistics import mean_and_std
from vitsearch.errors import DataError

CLASS_NAMES = ("background", *GARMENTS)
COUNTS = {"train": 6000, "validation": 500, "test": 500}
"""Pictures: a garment of the training images is in 2.4 of them on average, of the others in one."""
DARK = 16
"""A pixel of at most this value is background."""
SIDE = 28
ACROSS = 2
"""Garments in each row and column."""
SIZE = ImageSize.square(SIDE * ACROSS)


def load_fashion_mosaic(spec: DataSpec) -> ImageData:
    """Load `builtin:fashion-mosaic`; 3 channels repeat the grey one."""
    if spec.image_size not in (None, SIZE):
        raise DataError(
            f"data.image_size: {spec.image_size} cannot be used with {spec.source}, which has images of {SIZE} pixels; "
            "leave the key out: a plan's resolution resizes the images"
        )
    train, validation = (mosaic_split(name, spec.channels or 1) for name in ("train", "validation"))
    test = partial(mosaic_split, "test", spec.channels or 1)
    return ImageData(CLASS_NAMES, train, validation, *mean_and_std(train.images), test)


def mosaic_split(name: str, channels: int = 1) -> Split:
    """Make the pictures of `train`, `validation` or `test`: the same ones every time.

    Args:
        name: Of the split.
        channels: 1, or 3 that are alike.

    Returns:
        Pictures (n, 56, 56, channels), with masks.
    """
    garments = subset_split(name)
    images, masks = mosaics(garments.images[..., 0], garments.labels, drawn(len(garments), COUNTS[name]))
    return Split.of(np.repeat(images[..., None], channels, axis=3), masks)


def drawn(garments: int, pictures: int) -> Labels:
    """Which garments are in each picture: one seeded permutation after another, so that all are in equally many.

    Args:
        garments: Their number.
        pictures: Their number.

    Returns:
        int64 (pictures, garments of a picture).
    """
    wanted = pictures * ACROSS**2
    orders = [np.random.default_rng(order).permutation(garments) for order in range(-(-wanted // garments))]
    return np.concatenate(orders)[:wanted].reshape(pictures, ACROSS**2)


def mosaics(garments: Bytes, labels: Labels, rows: Labels) -> tuple[Bytes, Masks]:
    """Put garments beside each other.

    Args:
        garments: uint8 (n, side, side).
        labels: (n,), the kind of each.
        rows: (pictures, garments of a picture), indices of garments, the upper row first.

    Returns:
        Pictures and masks, uint8 (pictures, height, width).
    """
    masks = np.where(garments > DARK, labels[:, None, None] + 1, 0).astype(np.uint8)
    return _tiled(garments[rows]), _tiled(masks[rows])


def _tiled(tiles: Bytes) -> Bytes:
    count, _, height, width = tiles.shape
    grid = tiles.reshape(count, ACROSS, ACROSS, height, width).transpose(0, 1, 3, 2, 4)
    return np.ascontiguousarray(grid.reshape(count, ACROSS * height, ACROSS * width))
