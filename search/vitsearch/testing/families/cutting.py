"""Cutting is exact: a model without some units equals the whole model in which the next layer reads zeros for them."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import pytest
import torch
from torch import nn

from vitsearch import backbones
from vitsearch.compress import macs
from vitsearch.errors import PlanError
from vitsearch.models.backbone import BlockUnits
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
        _silence([family.units(silenced)[index] for index in dropped])
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
        masked = copy.deepcopy(whole)
        units = backbones.find(self.spec.backbone).units(masked)
        for unit, kept in zip(units, resolved.blocks, strict=True):
            _zero_columns(unit.proj, unit.head_columns(kept.heads))
            _zero_columns(unit.fc2, list(kept.ffn))
        before, expected, actual = (self._logits(m) for m in (whole, masked, self._pruned(whole, resolved)))
        scale = float(expected.abs().max())
        assert float((actual - expected).abs().max()) <= TOLERANCE * scale
        if heads or ffn:
            assert float((before - expected).abs().max()) > 10 * TOLERANCE * scale, "the mask changed nothing"


@torch.no_grad()
def _silence(units: Sequence[BlockUnits]) -> None:
    """Zero the last layers of these blocks and the norms behind them, so that the blocks add nothing."""
    for unit in units:
        for layer in (unit.proj, unit.fc2, unit.proj_norm, unit.fc2_norm):
            for values in () if layer is None else layer.parameters():
                values.zero_()


def _norm_over(channels: list[int], norm: nn.LayerNorm, inputs: tuple[torch.Tensor], _: torch.Tensor) -> torch.Tensor:
    """The norm with mean and variance over `channels` only; zero in all others."""
    output, read = torch.zeros_like(inputs[0]), inputs[0][..., channels]
    normalised = nn.functional.layer_norm(read, (len(channels),), norm.weight[channels], norm.bias[channels], norm.eps)
    output[..., channels] = normalised
    return output


def _zero_columns(layer: Layer | None, kept: list[int]) -> None:
    if layer is not None:
        gone = sorted(set(range(layer.weight.shape[1])) - set(kept))
        with torch.no_grad():
            layer.weight[:, gone] = 0
