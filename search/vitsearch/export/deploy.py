"""The form of a model that ships, compared with the form that was trained."""

from __future__ import annotations

import torch
from torch import nn

from vitsearch.errors import StageError
from vitsearch.export.base import PARITY_LIMIT
from vitsearch.models.backbone import Backbone

IMAGES = 2


@torch.inference_mode()
def deployed(model: nn.Module, backbone: Backbone, example_shape: tuple[int, ...]) -> nn.Module:
    """`model` with those branches merged that only training needs; `model` itself if it has none.

    `StageError` `export` `parity` when the two differ by more than `PARITY_LIMIT` of the largest
    logit on random images of `example_shape` (without its batch size). Both are compared as floats: the smallest
    difference can change how a value is rounded to int8.
    """
    from vitsearch.compress.quantization.fake_quant import unrounded

    merged = backbone.deployable(model.eval())
    if merged is model:
        return model
    images = torch.randn(IMAGES, *example_shape[1:], generator=torch.Generator().manual_seed(0))
    with unrounded(model), unrounded(merged):
        expected, logits = model(images), merged.eval()(images)
    off = float((logits - expected).abs().max()) / max(float(expected.abs().max()), torch.finfo().tiny)
    if not off <= PARITY_LIMIT:
        difference = f"the merged model and the trained one differ by {off:.1e} of the largest logit"
        raise StageError("export", "parity", f"{difference}, allowed {PARITY_LIMIT:.0e}")
    return merged
