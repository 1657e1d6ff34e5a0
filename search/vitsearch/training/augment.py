"""Random augmentation of training images with torchvision, drawn from torch's own random state.

Measured on small data sets: augmentation costs accuracy in trainings of a few epochs and gains some only in long ones,
so a recipe has none by default.
"""

from __future__ import annotations

import numpy as np
import torch
from torchvision.transforms import InterpolationMode, v2
from torchvision.tv_tensors import Image, Mask

from vitsearch.core.image_size import ImageSize
from vitsearch.core.plan import Augmentation
from vitsearch.data.arrays import Bytes, Truths

STRETCH = 4 / 3
"""By how much a random crop is stretched at most."""
OPERATIONS = 2
"""Number of RandAugment operations for each image."""


class Views:
    """Draws the augmented views of a batch, which student and teacher both see.

    Each image gets its own crop (Inception's, Szegedy et al. 2015: a share of the area between `crop` and 1, of the
    shape of `size`, stretched by up to 4/3, resized to `size`), mirror and RandAugment operations (Cubuk et al. 2020).
    A batch gets one mixup (Zhang et al. 2018) or CutMix (Yun et al. 2019), with equal probability where both are on.
    """

    def __init__(self, augmentation: Augmentation, size: ImageSize, classes: int) -> None:
        self._each = v2.Compose(_of_each_image(augmentation, size))
        self._mixes = _of_a_batch(augmentation, classes)

    def draw(self, images: Bytes, labels: Truths) -> tuple[Bytes, torch.Tensor]:
        """Turn uint8 (n, H, W, C) and int64 (n,) into uint8 (n, height, width, C) and targets.

        Targets are the labels, or probabilities (n, classes) where images are mixed. Masks, uint8 (n, H, W), are
        cropped and mirrored as their images are.
        """
        pixels = torch.tensor(images).permute(0, 3, 1, 2)
        targets = torch.tensor(labels)
        if targets.dim() > 1:
            pairs = [self._each(Image(image), Mask(mask)) for image, mask in zip(pixels, targets, strict=True)]
            views, targets = (torch.stack([pair[side].as_subclass(torch.Tensor) for pair in pairs]) for side in (0, 1))
        else:
            views = torch.stack([self._each(image) for image in pixels])
        if self._mixes is not None:
            mixed, targets = self._mixes(views.float(), targets)
            views = mixed.round_().to(torch.uint8)
        return np.ascontiguousarray(views.permute(0, 2, 3, 1).numpy()), targets


def _of_each_image(augmentation: Augmentation, size: ImageSize) -> list[torch.nn.Module]:
    transforms: list[torch.nn.Module] = []
    if augmentation.crop < 1.0:
        shape = size.width / size.height
        ratio = shape / STRETCH, shape * STRETCH
        transforms.append(v2.RandomResizedCrop(size.sides, (augmentation.crop, 1.0), ratio, antialias=True))
    if augmentation.flip:
        transforms.append(v2.RandomHorizontalFlip(augmentation.flip))
    if augmentation.randaugment:
        magnitude = augmentation.randaugment
        transforms.append(v2.RandAugment(OPERATIONS, magnitude, interpolation=InterpolationMode.BILINEAR))
    return transforms or [v2.Identity()]


def _of_a_batch(augmentation: Augmentation, classes: int) -> torch.nn.Module | None:
    mixes: list[torch.nn.Module] = []
    if augmentation.mixup:
        mixes.append(v2.MixUp(alpha=augmentation.mixup, num_classes=classes))
    if augmentation.cutmix:
        mixes.append(v2.CutMix(alpha=augmentation.cutmix, num_classes=classes))
    return v2.RandomChoice(mixes) if mixes else None
