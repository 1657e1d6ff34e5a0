"""A model that computes the same and is hard to quantize: for tests and benchmarks of quantization.

Some channels of each norm are multiplied by a factor that the layer behind it divides out again. In
fp32 nothing changes; an int8 range that holds those channels leaves few steps to the others. It is what
SmoothQuant (Xiao et al. 2023) does against outliers of large transformers, the other way round.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import nn


@torch.no_grad()
def add_outliers(model: nn.Module, factor: float, channels: int, seed: int = 0) -> None:
    """In place, ``channels`` drawn for each norm of a plain vision transformer's blocks."""
    generator = torch.Generator().manual_seed(seed)
    for block in cast(Any, model).blocks:
        for norm, layer in ((block.norm1, block.attn.qkv), (block.norm2, block.mlp.fc1)):
            chosen = torch.randperm(len(norm.weight), generator=generator)[:channels]
            norm.weight[chosen] *= factor
            norm.bias[chosen] *= factor
            layer.weight[:, chosen] /= factor
