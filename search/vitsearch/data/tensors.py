"""Conversion of uint8 images to normalised torch tensors."""

from __future__ import annotations

import torch
from torch.nn import functional

from vitsearch.core.image_size import ImageSize
from vitsearch.core.preprocessing import Preprocessing
from vitsearch.data.arrays import Bytes


def to_tensor(
    images: Bytes, resolution: ImageSize, preprocessing: Preprocessing, device: str | torch.device = "cpu"
) -> torch.Tensor:
    """Convert uint8 (N, H, W, C) to contiguous float32 (N, C, height, width) of `resolution`, as `preprocessing` says.

    The centre of the shape of `resolution` is resized, so that no image is squashed. What is resized is antialiased, as
    in timm's evaluation.
    """
    # torch.tensor copies: memory maps and views are often read-only, which from_numpy warns about.
    # The strides of the permuted tensor would make every convolution run channels_last, and torch 2.13 corrupts the
    # heap in the backward pass of FastViT there. `contiguous()` keeps such strides where there is one channel.
    pixels = torch.tensor(_centre(images, resolution, preprocessing), device=device).permute(0, 3, 1, 2)
    values = pixels.to(torch.float32, memory_format=torch.contiguous_format).div_(255)
    if values.shape[2:] != resolution.sides:
        mode = preprocessing.interpolation
        values = functional.interpolate(values, size=resolution.sides, mode=mode, align_corners=False, antialias=True)
        if mode == "bicubic":
            values = values.clamp_(0, 1)  # it overshoots at edges, where 8-bit images are cut off
    shape = (1, -1, 1, 1)
    numbers = (preprocessing.mean, preprocessing.std)
    means, stds = (torch.tensor(list(each), device=device).reshape(shape) for each in numbers)
    return (values - means) / stds


def _centre(images: Bytes, resolution: ImageSize, preprocessing: Preprocessing) -> Bytes:
    stored = ImageSize(*images.shape[1:3])
    seen = preprocessing.crop_size(stored, resolution)
    top, left = ((side - part) // 2 for side, part in zip(stored.sides, seen.sides, strict=True))
    return images[:, top : top + seen.height, left : left + seen.width]
