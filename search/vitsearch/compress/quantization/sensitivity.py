"""Sensitivity of a model to the rounding of each layer: which layers should stay out of int8.

One layer at a time rounds as static int8 would (`.fake_quant`); all others compute in fp32. Layers are named as in
the model (`blocks.0.mlp.fc1`), and a cut model has them under the same names.
"""

from __future__ import annotations

import torch
from torch import nn

from vitsearch.compress.quantization import fake_quant
from vitsearch.data.arrays import Floats
from vitsearch.models.divergence import kl_divergence


def rounding_sensitivity(model: nn.Module, images: torch.Tensor) -> dict[str, float]:
    """Mean KL in nats between the outputs in fp32 and with one layer rounded, by layer in the order of the model.

    `images` (n, channels, height, width) also give the ranges. `model` is left unchanged, in evaluation mode.
    Results are reproducible.
    """
    expected, plain = _logits(model, images), dict(model.named_modules())
    fake_quant.prepare(model, [images])
    layers = fake_quant.quantized(model)
    for name, _ in layers:
        fake_quant.put(model, name, plain[name])
    sensitivity = {}
    for name, layer in layers:
        fake_quant.put(model, name, layer)
        sensitivity[name] = kl_divergence(expected, _logits(model, images))
        fake_quant.put(model, name, plain[name])
    return sensitivity


def _logits(model: nn.Module, images: torch.Tensor) -> Floats:
    with torch.inference_mode():
        logits: torch.Tensor = model.eval()(images)
    values: Floats = logits.float().cpu().numpy()
    return values
