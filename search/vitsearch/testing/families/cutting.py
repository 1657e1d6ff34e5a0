"""Cutting is exact: a model without some units equals the whole model in which the next layer reads zeros for them."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import pytest
import torch
from torch import nn

from vitsearch import backbones
from vitsearch.backbones.found_family import FoundFamily
from vitsearch.compress import macs
from vitsearch.core.resolve import ResolvedPlan
from vitsearch.errors import PlanError
from vitsearch.models.backbone import Backbone
from vitsearch.structure import widths
from vitsearch.testing.families.subject import EXPORT_PARITY, TOLERANCE, Subject, three_of_four

if TYPE_CHECKING:
    from vitsearch.models.backbone import Layer


class CuttingTests(Subject):
    """Tests of cut heads, FFN channels, stream channels and whole blocks."""

    def test_a_plan_that_keeps_all_changes_nothing(self) -> None:
        model, block_structure = self._model()
        before = self._logits(model)
        self._prune(model, self._every_second_unit(block_structure, heads=False, ffn=False))
        assert torch.equal(before, self._logits(model))

    def test_cut_heads_equal_masked_heads(self) -> None:
        self._compare_with_masked(heads=self.cuts_heads, ffn=False)

    def test_cut_channels_equal_masked_channels(self) -> None:
        self._compare_with_masked(heads=False, ffn=self.cuts_ffn)

    def test_a_cut_model_costs_less(self, cut: nn.Module) -> None:
        whole, example = self._ships(self._model()[0]), self._images()[:1]
        before, after = macs.count(whole, example), macs.count(self._ships(cut), example)
        if not (self.cuts_heads or self.cuts_ffn):
            assert after == before
            return
        assert after[0] < 0.9 * before[0]
        assert after[1] < 0.9 * before[1]

    def test_a_model_without_blocks_equals_one_whose_blocks_add_nothing(self) -> None:
        """Drops every second removable block; what is left trains, exports and costs less."""
        whole, block_structure = self._model()
        family = backbones.find(self.spec.backbone)
        removable = [index for index, block in enumerate(block_structure.blocks) if block.removable]
        offered = backbones.supports(self.spec.backbone, "depth_pruning_ratio", 0.5) is None
        assert offered == (len(removable) > 1)
        if not offered:
            return
        dropped = set(removable[::2])
        resolved = self._every_second_unit(block_structure, heads=False, ffn=False)
        blocks = [replace(b, heads=(), ffn=()) if i in dropped else b for i, b in enumerate(resolved.blocks)]
        resolved = replace(resolved, blocks=tuple(blocks))
        masked = copy.deepcopy(whole)
        for name in (block_structure.blocks[index].name for index in dropped):
            masked.get_submodule(name).register_forward_hook(lambda _, inputs, __: inputs[0])
        cut, example = self._pruned(whole, resolved), self._images()[:1]
        assert torch.equal(self._logits(cut), self._logits(masked))
        assert not torch.equal(self._logits(cut), self._logits(whole))
        silenced = copy.deepcopy(whole)
        _silence([silenced.get_submodule(block_structure.blocks[index].name) for index in dropped])
        expected = self._logits(silenced)
        assert float((self._logits(cut) - expected).abs().max()) <= TOLERANCE * float(expected.abs().max())
        costs = macs.count(whole, example), macs.count(cut, example)
        assert all(after < before for before, after in zip(*costs, strict=True))
        assert len(family.units(cut)) == len(block_structure.blocks)
        assert self._export(cut).parity_rel <= EXPORT_PARITY
        assert self._parameters_without_gradient(cut) == []

    def test_a_model_on_fewer_channels_equals_one_whose_norms_read_only_these(self, cut: nn.Module) -> None:
        """Its heads and FFN channels are cut too; it trains, exports and costs less."""
        whole, block_structure = self._model()
        channels = three_of_four(block_structure.embed_dim)
        if backbones.supports(self.spec.backbone, "embed_pruning_ratio", 0.25):
            with pytest.raises(PlanError):
                backbones.find(self.spec.backbone).slice_stream(whole, channels)
            return
        wide, narrow = cut, self._pruned(whole, self._narrow(block_structure))
        masked, example = copy.deepcopy(wide), self._images()[:1]
        for norm in masked.modules():
            if isinstance(norm, nn.LayerNorm):
                norm.register_forward_hook(partial(_norm_over, list(channels)))
        expected, actual, before = (self._logits(model) for model in (masked, narrow, wide))
        scale = float(expected.abs().max())
        assert float((actual - expected).abs().max()) <= TOLERANCE * scale
        assert float((actual - before).abs().max()) > 10 * TOLERANCE * scale
        costs = macs.count(wide, example), macs.count(narrow, example)
        assert all(after < 0.9 * before for before, after in zip(*costs, strict=True))
        assert self._export(narrow).parity_rel <= EXPORT_PARITY
        assert self._parameters_without_gradient(narrow) == []

    def _compare_with_masked(self, heads: bool, ffn: bool) -> None:
        whole, block_structure = self._model()
        resolved = self._every_second_unit(block_structure, heads, ffn)
        before, actual = self._logits(whole), self._logits(self._pruned(whole, resolved))
        with masked(whole, backbones.find(self.spec.backbone), resolved):
            expected = self._logits(whole)
        scale = float(expected.abs().max())
        assert float((actual - expected).abs().max()) <= TOLERANCE * scale
        if heads or ffn:
            assert float((before - expected).abs().max()) > 10 * TOLERANCE * scale, "the mask changed nothing"


@torch.no_grad()
def _silence(blocks: Sequence[nn.Module]) -> None:
    """Zero all that these blocks have, so that they add nothing."""
    for block in blocks:
        for values in block.parameters():
            values.zero_()


def _norm_over(channels: list[int], norm: nn.LayerNorm, inputs: tuple[torch.Tensor], _: torch.Tensor) -> torch.Tensor:
    """The norm with mean and variance over `channels` only; zero in all others."""
    output, read = torch.zeros_like(inputs[0]), inputs[0][..., channels]
    normalised = nn.functional.layer_norm(read, (len(channels),), norm.weight[channels], norm.bias[channels], norm.eps)
    output[..., channels] = normalised
    return output


@contextmanager
def masked(model: nn.Module, family: Backbone, resolved: ResolvedPlan) -> Iterator[None]:
    """Inside this context `model` computes what the model that is cut to `resolved` must compute."""
    with ExitStack() as masks:
        for index, (unit, kept) in enumerate(zip(family.units(model), resolved.blocks, strict=True)):
            part = family.structure_of(model).parts[index] if isinstance(family, FoundFamily) else None
            if unit.proj is not None and len(kept.heads) < unit.heads:
                masks.enter_context(_reading_zeros(unit.proj, unit.head_columns(kept.heads)))
            if unit.fc2 is None or len(kept.ffn) == unit.ffn_width:
                continue
            if part is not None and part.width is not None:
                masks.enter_context(widths.masked(model, part.width, kept.ffn))
            else:
                masks.enter_context(_reading_zeros(unit.fc2, list(kept.ffn)))
        yield


@contextmanager
def _reading_zeros(layer: Layer, kept: list[int]) -> Iterator[None]:
    """Let `layer` read zeros in all channels but those of `kept`."""
    mask = torch.zeros(layer.weight.shape[1])
    mask[kept] = 1
    shape = (1, -1, 1, 1) if isinstance(layer, nn.Conv2d) else (-1,)
    hook = layer.register_forward_pre_hook(lambda _, inputs: (inputs[0] * mask.view(shape), *inputs[1:]))
    try:
        yield
    finally:
        hook.remove()
