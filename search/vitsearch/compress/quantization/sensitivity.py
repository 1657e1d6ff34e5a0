"""Sensitivity of a model to the rounding of each layer: which layers should stay out of int8.

One layer at a time rounds as static int8 would (`.fake_quant`); all others compute in fp32. Layers are named as in
the model (`blocks.0.mlp.fc1`), and a cut model has them under the same names.
"""

from __future__ import annotations

import torch
from torch import nn

from vitsearch.compress.quantization import fake_quant
from vitsearch.data.arrays import Floats
from vitsearch.tasks import Task


def rounding_sensitivity(model: nn.Module, images: torch.Tensor, task: Task) -> dict[str, float]:
    """Mean divergence of the outputs from those in fp32 with one layer rounded, by layer in the order of the model.

    `images` (n, channels, height, width) also give the ranges. `model` is left unchanged, in evaluation mode.
    Results are reproducible.
    """
    expected, plain = _outputs(model, images), dict(model.named_modules())
    fake_quant.prepare(model, [images])
    layers = fake_quant.quantized(model)
    for name, _ in layers:
        fake_quant.put(model, name, plain[name])
    sensitivity = {}
    for name, layer in layers:
        fake_quant.put(model, name, layer)
        sensitivity[name] = max(0.0, float(task.diverge(_outputs(model, images), expected).mean()))
        fake_quant.put(model, name, plain[name])
    return sensitivity


def _outputs(model: nn.Module, images: torch.Tensor) -> Floats:
    with torch.inference_mode():
        outputs: torch.Tensor = model.eval()(images)
    values: Floats = outputs.float().cpu().numpy()
    return values
