"""Multiply-accumulates and parameters, attention included."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def count(model: nn.Module, example: torch.Tensor) -> tuple[float, float]:
    """(million MACs of one image, million parameters); ``example`` is (1, C, H, W).

    torch has no formula for the CPU's fused attention and would count it as nothing, so it is counted unfused.
    """
    counter = FlopCounterMode(display=False)
    with torch.inference_mode(), unfused_attention(model), counter:
        model(example)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return counter.get_total_flops() / 2 / 1e6, parameters / 1e6


@contextmanager
def unfused_attention(model: nn.Module) -> Iterator[None]:
    """Attention as plain matrix products inside this block."""
    fused = [module for module in model.modules() if getattr(module, "fused_attn", False)]
    for module in fused:
        module.fused_attn = False  # type: ignore[assignment]  # a plain attribute of timm's modules
    try:
        yield
    finally:
        for module in fused:
            module.fused_attn = True  # type: ignore[assignment]
