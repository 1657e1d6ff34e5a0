"""The small model of a family that is tested, and what is done with it."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import lru_cache
from typing import Any, ClassVar

import torch
from torch import nn

from vitsearch import backbones
from vitsearch.compress import prune
from vitsearch.core.resolve import BlockStructure, ResolvedBlock, ResolvedPlan
from vitsearch.models.backbone import ModelSpec

TOLERANCE = 1e-5
"""Of the largest output, where two ways to compute it are the same in exact arithmetic."""


class Subject:
    """``spec`` names a small model (weights ``none`` will do), ``other_resolution`` another size it
    takes, ``unsupported`` pairs of knob and value that it must refuse."""

    spec: ClassVar[ModelSpec]
    other_resolution: ClassVar[int]
    unsupported: ClassVar[tuple[tuple[str, Any], ...]]
    cuts_heads: ClassVar[bool] = True
    cuts_ffn: ClassVar[bool] = True

    def _model(self, resolution: int | None = None) -> tuple[nn.Module, BlockStructure]:
        spec = ModelSpec(
            self.spec.backbone,
            self.spec.weights,
            resolution or self.spec.resolution,
            self.spec.classes,
            self.spec.channels,
        )
        model = copy.deepcopy(_built(spec))
        return model, backbones.find(spec.backbone).block_structure(model, spec)

    def _images(self, resolution: int | None = None) -> torch.Tensor:
        size = resolution or self.spec.resolution
        return torch.randn(2, self.spec.channels, size, size, generator=torch.Generator().manual_seed(0))

    def _logits(self, model: nn.Module, resolution: int | None = None) -> torch.Tensor:
        with torch.inference_mode():
            found: torch.Tensor = model.eval()(self._images(resolution))
        return found

    def _ships(self, model: nn.Module) -> nn.Module:
        return backbones.find(self.spec.backbone).deployable(model)

    def _effect(self, block_structure: BlockStructure, heads: bool, ffn: bool) -> ResolvedPlan:
        """Every second unit, another one first in each block."""
        blocks = tuple(
            ResolvedBlock(
                _every_second(block.heads, index) if heads else tuple(range(block.heads)),
                _every_second(block.ffn_width, index) if ffn else tuple(range(block.ffn_width)),
                "fp32",
            )
            for index, block in enumerate(block_structure.blocks)
        )
        return ResolvedPlan(block_structure.backbone, block_structure.resolution, None, blocks)

    def _narrow_effect(self, block_structure: BlockStructure) -> ResolvedPlan:
        """Everything of it that can be cut, the residual stream too."""
        resolved = self._effect(block_structure, self.cuts_heads, self.cuts_ffn)
        refused = backbones.supports(self.spec.backbone, "embed_pruning_ratio", 0.25)
        return resolved if refused else replace(resolved, embed=three_of_four(block_structure.embed_dim))

    def _prune(self, model: nn.Module, resolved: ResolvedPlan) -> None:
        prune.apply(model, backbones.find(self.spec.backbone), resolved, self._images()[:1])

    def _pruned(self, model: nn.Module, resolved: ResolvedPlan) -> nn.Module:
        cut = copy.deepcopy(model)
        self._prune(cut, resolved)
        return cut


@lru_cache(maxsize=2)
def _built(spec: ModelSpec) -> nn.Module:
    """Drawing random weights takes longer than most of the tests.

    A fresh model's layer scales are 1e-5 or so: nothing that is cut behind them would be seen.
    """
    model = backbones.find(spec.backbone).build(spec).model
    with torch.no_grad():
        for name, values in model.named_parameters():
            if name.rpartition(".")[2].startswith("gamma") and float(values.abs().max()) < 0.1:
                values.fill_(0.5)
    return model


def three_of_four(size: int) -> tuple[int, ...]:
    return tuple(index for index in range(size) if index % 4)


def _every_second(size: int, first: int) -> tuple[int, ...]:
    return tuple(range(first % 2, size, 2)) or tuple(range(size))
