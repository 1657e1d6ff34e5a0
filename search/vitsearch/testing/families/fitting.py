"""What closed forms win back of a cut: every consumer nearer to what it gave, the logits nearer to the base's."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from torch import nn

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
    """In parallel from statistics, and in sequence on images."""

    def test_a_refit_brings_every_consumer_nearer_to_what_it_gave(self) -> None:
        """On the inputs that the statistics are of: nearer than the cut left it, and right on average."""
        whole, block_structure = self._model()
        family, resolved = (
            backbones.find(self.spec.backbone),
            self._effect(block_structure, self.cuts_heads, self.cuts_ffn),
        )
        statistics = scores.collect(whole, family, self._images(), torch.tensor([0, 1]))
        cut = self._pruned(whole, resolved)
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
            if matrices.has_constant(after.layer, after.norm):
                rows = [axis for axis in range(error.ndim) if axis != before.channels % error.ndim]
                assert float(error.mean(rows).abs().max()) <= MEAN_ERROR * float(expected.abs().max()), before.name

    def test_a_sequential_refit_comes_nearer_to_the_base(self) -> None:
        """On the images that it looks at; with nothing cut it changes nothing."""
        whole, block_structure = self._model()
        family, images = backbones.find(self.spec.backbone), self._images()
        wanted = sequential.targets(whole, family, images)
        cut = self._pruned(whole, self._effect(block_structure, self.cuts_heads, self.cuts_ffn))
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
    """A layer behind a cut, with the norm that may hold its constant."""

    name: str
    layer: Layer
    norm: nn.Module | None

    @property
    def channels(self) -> int:
        return 1 if isinstance(self.layer, nn.Conv2d) else -1

    @torch.inference_mode()
    def __call__(self, inputs: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.layer(inputs)
        if self.norm is None:
            return found
        rows = found if isinstance(self.layer, nn.Conv2d) else found.flatten(0, -2)
        return cast(torch.Tensor, self.norm(rows)).reshape_as(found)


def _consumers(units: Sequence[BlockUnits]) -> list[_Consumer]:
    layers = [(f"{unit.name} {part}", unit, part) for unit in units for part in ("proj", "fc2")]
    found = [_Consumer(name, getattr(unit, part), getattr(unit, f"{part}_norm")) for name, unit, part in layers]
    return [consumer for consumer in found if consumer.layer is not None]


def _kept_columns(units: Sequence[BlockUnits], resolved: ResolvedPlan) -> list[list[int]]:
    """Of every consumer of the unpruned model, in the same order."""
    kept = []
    for unit, block in zip(units, resolved.blocks, strict=True):
        kept += [unit.head_columns(block.heads)] if unit.proj is not None else []
        kept += [list(block.ffn)] if unit.fc2 is not None else []
    return kept
