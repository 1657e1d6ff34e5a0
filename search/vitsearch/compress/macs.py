"""Theoretical costs of a model: multiply-accumulates, attention included, and parameters."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from vitsearch.models.onnx_model import OnnxModel
from vitsearch.models.surgery import frozen, unfused_attention


def count(model: nn.Module, example_input: torch.Tensor) -> tuple[float, float]:
    """Millions of multiply-accumulates for one image of `example_input` (batch, channels, height, width), and millions
    of parameters.

    Matrix products and convolutions count; norms, activations and softmax do not. Attention runs unfused, because the
    counter has no formula for the fused kernels of CPUs and would miss them. Parameters are frozen, because the
    counter's hooks fail on a view of one that requires a gradient, which attention pooling makes."""
    if isinstance(model, OnnxModel):  # counted on its graph, when the file was read
        macs, parameters, _ = model.counts.tolist()
        return macs / 1e6, parameters / 1e6
    plain = sdpa_kernel(SDPBackend.MATH)
    counter = FlopCounterMode(display=False)
    with torch.inference_mode(), unfused_attention(model), frozen(model), plain, counter:
        model(example_input)
    macs = counter.get_total_flops() / 2 / len(example_input)
    return macs / 1e6, sum(parameter.numel() for parameter in model.parameters()) / 1e6
