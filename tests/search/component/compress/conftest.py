"""The built-in base with 256 calibration images, its statistics, and plans that cut it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources

import numpy as np
import pytest
import torch
from torch import nn

from vitsearch import backbones
from vitsearch.backbones import Backbone, ModelSpec
from vitsearch.compress import scores
from vitsearch.compress.statistics import Statistics
from vitsearch.core.image_size import ImageSize
from vitsearch.core.preprocessing import Preprocessing
from vitsearch.core.resolve import ResolvedBlock, ResolvedPlan
from vitsearch.data.tensors import to_tensor

SPEC = ModelSpec("vit_fmnist_p4", "builtin", ImageSize.square(28), 10, 1)


@dataclass(frozen=True, eq=False)
class Base:
    family: Backbone
    statistics: Statistics
    calibration: tuple[torch.Tensor, torch.Tensor]
    held_out: tuple[torch.Tensor, torch.Tensor]
    held_out_logits: torch.Tensor
    """Of the uncut model; tests must not change it."""

    def model(self) -> nn.Module:
        return self.family.build(SPEC).model

    def resolved(self, heads: int = 6, ffn: int = 768) -> ResolvedPlan:
        """Keep the most important units of each block."""
        scores = self.statistics.scores()
        rows = zip(scores.heads, scores.ffn, strict=True)
        blocks = tuple(ResolvedBlock(best(h, heads), best(f, ffn)) for h, f in rows)
        return ResolvedPlan(SPEC.backbone, ImageSize.square(28), None, blocks)


def best(row: tuple[float, ...], count: int) -> tuple[int, ...]:
    return tuple(sorted(np.argsort(row)[::-1][:count].tolist()))


@pytest.fixture(scope="session")
def base() -> Base:
    family = backbones.find(SPEC.backbone)
    calibration, held_out = images(0, 256), images(256, 200)
    model = family.build(SPEC).model
    with torch.inference_mode():
        expected = model(held_out[0])
    return Base(family, scores.collect(model, family, *calibration), calibration, held_out, expected)


def images(start: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Training images and labels of the data set that ships with vitsearch."""
    with np.load(str(resources.files("vitsearch") / "assets" / "fashion_mnist_14k.npz")) as archive:
        pixels, labels = (archive[f"train_{part}"][start : start + count] for part in ("images", "labels"))
    pixels = pixels if pixels.ndim == 4 else pixels[..., None]
    return to_tensor(pixels, ImageSize.square(28), Preprocessing((0.286,), (0.353,))), torch.tensor(
        labels.astype(np.int64)
    )


@pytest.fixture(scope="session")
def logits() -> Callable[[nn.Module, torch.Tensor], torch.Tensor]:
    def run(model: nn.Module, inputs: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            output: torch.Tensor = model.eval()(inputs)
        return output

    return run
