"""What the rounding of one layer does to the answers of a model: which layers int8 had better leave alone.

One layer at a time rounds as static int8 would (:mod:`.fake_quant`), all others compute in fp32. Layers are
named as in the model (``blocks.0.mlp.fc1``), and a cut model has them under the same names.
"""

from __future__ import annotations

import torch
from torch import nn

from vitsearch.compress.quantization import fake_quant
from vitsearch.data.arrays import Floats
from vitsearch.models.divergence import kl_divergence


def rounding_sensitivity(model: nn.Module, images: torch.Tensor) -> dict[str, float]:
    """Mean KL in nats of the answers on ``images`` (n, channels, height, width), in fp32 to those with one
    layer rounded, by layer in the order of the model. ``model`` is left as it was, in evaluation mode.

    The ranges are those of the same images. The same model and images give the same values again.
    """
    expected, plain = _answers(model, images), dict(model.named_modules())
    fake_quant.prepare(model, [images])
    layers = fake_quant.quantized(model)
    for name, _ in layers:
        fake_quant.put(model, name, plain[name])
    sensitivity = {}
    for name, layer in layers:
        fake_quant.put(model, name, layer)
        sensitivity[name] = kl_divergence(expected, _answers(model, images))
        fake_quant.put(model, name, plain[name])
    return sensitivity


def _answers(model: nn.Module, images: torch.Tensor) -> Floats:
    with torch.inference_mode():
        logits: torch.Tensor = model.eval()(images)
    found: Floats = logits.float().cpu().numpy()
    return found
