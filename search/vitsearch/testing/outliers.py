"""A model with the same outputs that is hard to quantize, for tests and benchmarks of quantization.

Some channels of each norm are multiplied by a factor, and the layer behind it divides by the same factor. In fp32
nothing changes; an int8 range that contains those channels leaves few steps to the others. This is the inverse of what
SmoothQuant (Xiao et al. 2023) does against outliers of large transformers.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import nn


@torch.no_grad()
def add_outliers(model: nn.Module, factor: float, channels: int, seed: int = 0) -> None:
    """Scale `channels` random channels of each norm in the blocks of a plain vision transformer, in place."""
    generator = torch.Generator().manual_seed(seed)
    for block in cast(Any, model).blocks:
        for norm, layer in ((block.norm1, block.attn.qkv), (block.norm2, block.mlp.fc1)):
            chosen = torch.randperm(len(norm.weight), generator=generator)[:channels]
            norm.weight[chosen] *= factor
            norm.bias[chosen] *= factor
            layer.weight[:, chosen] /= factor
