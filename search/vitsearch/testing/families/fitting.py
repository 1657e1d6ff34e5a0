"""Closed-form refits reduce the error of a cut, in every consumer of cut units and in the logits."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from torch import nn
from torch.nn import functional

from vitsearch import backbones
from vitsearch.compress import matrices, refit, scores, sequential
from vitsearch.core.resolve import ResolvedPlan
from vitsearch.models.backbone import BlockUnits
from vitsearch.testing.families.subject import Subject

if TYPE_CHECKING:
    from vitsearch.models.backbone import Layer

MEAN_ERROR = 1e-3
"""Of the largest output: the statistics are float32."""


class FittingTests(Subject):
    """Tests of the parallel refit from statistics and of the sequential refit on images."""

    def test_a_refit_brings_every_consumer_nearer_to_its_output_in_the_base(self, cut: nn.Module) -> None:
        """On the images of the statistics: nearer than the cut left it, and unbiased."""
        whole, block_structure = self._model()
        family = backbones.find(self.spec.backbone)
        resolved = self._every_second_unit(block_structure, self.cuts_heads, self.cuts_ffn)
        statistics = scores.collect(whole, family, self._images(), torch.tensor([0, 1]))
        fitted = copy.deepcopy(cut)
        refit.refit(fitted, whole, family, resolved, statistics)
        inputs, kept = self._inputs_of_consumers(whole), _kept_columns(family.units(whole), resolved)
        consumers = (_consumers(family.units(model)) for model in (whole, cut, fitted))
        for before, as_cut, after, columns in zip(*consumers, kept, strict=True):
            seen = inputs[before.layer]
            left = seen.index_select(before.channels, torch.tensor(columns))
            expected = before(seen)
            error_before, error = expected - as_cut(left), expected - after(left)
            assert float(error.norm()) <= float(error_before.norm()) * (1 + MEAN_ERROR), before.name
            if matrices.can_be_fitted(before.layer) and matrices.has_constant(after.layer, after.norm):
                rows = [axis for axis in range(error.ndim) if axis != before.channels % error.ndim]
                assert float(error.mean(rows).abs().max()) <= MEAN_ERROR * float(expected.abs().max()), before.name

    def test_a_sequential_refit_brings_the_logits_nearer_to_the_base(self, cut: nn.Module) -> None:
        """On the images that it is fitted to; a refit of an uncut model changes nothing."""
        whole, _ = self._model()
        family, images = backbones.find(self.spec.backbone), self._images()
        wanted = sequential.targets(whole, family, images)
        before, expected = self._logits(cut), self._logits(whole)
        sequential.fit(cut, family, wanted, images)
        if not (self.cuts_heads or self.cuts_ffn):
            assert torch.equal(before, expected)
            return
        assert float((self._logits(cut) - expected).norm()) < 0.5 * float((before - expected).norm())
        untouched = copy.deepcopy(whole)
        sequential.fit(untouched, family, wanted, images)
        assert torch.equal(self._logits(untouched), expected)

    def _inputs_of_consumers(self, model: nn.Module) -> dict[nn.Module, torch.Tensor]:
        seen: dict[nn.Module, torch.Tensor] = {}
        units = backbones.find(self.spec.backbone).units(model)
        layers = [layer for unit in units for layer in (unit.proj, unit.fc2) if layer is not None]
        hooks = [layer.register_forward_pre_hook(lambda m, inputs: seen.update({m: inputs[0]})) for layer in layers]
        self._logits(model)
        for hook in hooks:
            hook.remove()
        return seen


@dataclass(frozen=True, eq=False)
class _Consumer:
    """A layer that reads cut units, with the norm that may hold its constant."""

    name: str
    layer: Layer
    norm: nn.Module | None

    @property
    def channels(self) -> int:
        return 1 if isinstance(self.layer, nn.Conv2d) else -1

    @torch.inference_mode()
    def __call__(self, inputs: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.layer(inputs)
        if self.norm is None:
            return output
        rows = output if isinstance(self.layer, nn.Conv2d) else output.flatten(0, -2)
        norm = cast(nn.BatchNorm2d, self.norm)  # without the activation that timm's own may hold
        values = (norm.running_mean, norm.running_var, norm.weight, norm.bias)
        return functional.batch_norm(rows, *values, eps=norm.eps).reshape_as(output)


def _consumers(units: Sequence[BlockUnits]) -> list[_Consumer]:
    layers = [(f"{unit.name} {part}", unit, part) for unit in units for part in ("proj", "fc2")]
    consumers = [_Consumer(name, getattr(unit, part), getattr(unit, f"{part}_norm")) for name, unit, part in layers]
    return [consumer for consumer in consumers if consumer.layer is not None]


def _kept_columns(units: Sequence[BlockUnits], resolved: ResolvedPlan) -> list[list[int]]:
    """The input columns that each consumer of the unpruned model keeps, in the order of `_consumers`."""
    kept = []
    for unit, block in zip(units, resolved.blocks, strict=True):
        kept += [unit.head_columns(block.heads)] if unit.proj is not None else []
        kept += [unit.ffn_columns(block.ffn)] if unit.fc2 is not None else []
    return kept
