"""Outliers make a model hard to quantize and leave its outputs as they are."""

from __future__ import annotations

import torch

from vitsearch import backbones
from vitsearch.backbones import ModelSpec
from vitsearch.core.image_size import ImageSize
from vitsearch.testing.outliers import add_outliers

SPEC = ModelSpec("vit_fmnist_p4", "builtin", ImageSize.square(28), 10, 1)


def test_outliers_do_not_change_the_outputs():
    plain, hard = (backbones.find(SPEC.backbone).build(SPEC).model.eval() for _ in range(2))
    add_outliers(hard, 60.0, 4)
    inputs = torch.randn(16, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(hard(inputs), plain(inputs), atol=1e-4, rtol=1e-4)
    for before, after in zip(plain.blocks, hard.blocks, strict=True):
        for name in ("norm1", "norm2"):
            factors = getattr(after, name).weight / getattr(before, name).weight
            assert sorted(factors.round().tolist()) == [1.0] * 188 + [60.0] * 4
