"""How much the images of each class count in a loss: `none`, `balanced`, or weights by the names of the classes."""

from __future__ import annotations

import math
from collections.abc import Sequence

ClassWeights = str | tuple[tuple[str, float], ...]
"""`none`, `balanced`, or names with weights; a class without one has the weight 1."""
NONE, BALANCED = "none", "balanced"


def class_weights(stated: ClassWeights, names: Sequence[str], images: Sequence[int]) -> tuple[float, ...] | None:
    """The weight of each class; None for no weights. `names` and `images` are the name and the number of training
    images of each class, in the same order.

    `balanced` weighs a class by the inverse of its number of images. The mean over all images is 1, so that the loss
    of the labels keeps its size beside that of the distillation: only ratios of weights matter. A class without images
    has the weight 1.
    """
    if stated == NONE:
        return None
    if isinstance(stated, str):
        raw = [1.0 / count if count else 0.0 for count in images]
    else:
        by_name = dict(stated)
        raw = [by_name.get(name, 1.0) for name in names]
    mean = math.fsum(weight * count for weight, count in zip(raw, images, strict=True)) / sum(images)
    return tuple(weight / mean if count else 1.0 for weight, count in zip(raw, images, strict=True))


def unknown_classes(stated: ClassWeights, names: Sequence[str]) -> list[str]:
    """The names with weights that are no class of the data."""
    return [] if isinstance(stated, str) else [name for name, _ in stated if name not in names]
