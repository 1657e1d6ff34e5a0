"""Conversion of uint8 images to normalised torch tensors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional

from vitsearch.data.arrays import Bytes


def to_tensor(
    images: Bytes,
    resolution: int,
    mean: Sequence[float],
    std: Sequence[float],
    device: str | torch.device = "cpu",
) -> torch.Tensor:
    """Convert uint8 (N, H, W, C) to contiguous float32 (N, C, resolution, resolution): ``(pixel / 255 - mean) / std``.

    Images of another size are resized first, bilinear and antialiased, as in timm's evaluation.
    """
    # torch.tensor copies: memory maps and views are often read-only, which from_numpy warns about.
    # The strides of the permuted tensor would make every convolution run channels_last, and torch 2.13 corrupts the
    # heap in the backward pass of FastViT there. ``contiguous()`` keeps such strides where there is one channel.
    pixels = torch.tensor(images, device=device).permute(0, 3, 1, 2)
    values = pixels.to(torch.float32, memory_format=torch.contiguous_format).div_(255)
    if values.shape[2:] != (resolution, resolution):
        values = functional.interpolate(
            values, size=(resolution, resolution), mode="bilinear", align_corners=False, antialias=True
        )
    shape = (1, -1, 1, 1)
    means, stds = (torch.tensor(list(v), device=device).reshape(shape) for v in (mean, std))
    return (values - means) / stds
