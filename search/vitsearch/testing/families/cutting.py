"""Cutting is exact: a model without some units equals the whole model with those units' columns of the consumer
set to zero."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from torch import nn

from vitsearch import backbones
from vitsearch.compress import macs
from vitsearch.errors import PlanError
from vitsearch.export.onnx_file import OnnxExporter
from vitsearch.models.backbone import BlockUnits
from vitsearch.testing.families.subject import TOLERANCE, Subject, three_of_four

if TYPE_CHECKING:
    from vitsearch.models.backbone import Layer


class CuttingTests(Subject):
    """Of heads, channels of feed-forward networks and of the stream, whole blocks."""

    def test_an_effect_that_keeps_all_changes_nothing(self) -> None:
        model, block_structure = self._model()
        before = self._logits(model)
        self._prune(model, self._effect(block_structure, heads=False, ffn=False))
        assert torch.equal(before, self._logits(model))

    def test_cut_heads_equal_masked_heads(self) -> None:
        self._compare_with_masked(heads=self.cuts_heads, ffn=False)

    def test_cut_channels_equal_masked_channels(self) -> None:
        self._compare_with_masked(heads=False, ffn=self.cuts_ffn)

    def test_a_cut_model_costs_less(self) -> None:
        whole, block_structure = self._model()
        cut = self._ships(self._pruned(whole, self._effect(block_structure, self.cuts_heads, self.cuts_ffn)))
        whole, example = self._ships(whole), self._images()[:1]
        before, after = macs.count(whole, example), macs.count(cut, example)
        if not (self.cuts_heads or self.cuts_ffn):
            assert after == before
            return
        assert after[0] < 0.9 * before[0]
        assert after[1] < 0.9 * before[1]

    def test_without_blocks_it_equals_the_model_whose_blocks_add_nothing(self) -> None:
        """Every second of those that can be dropped is; then it trains, exports and costs less."""
        whole, block_structure = self._model()
        family = backbones.find(self.spec.backbone)
        removable = [index for index, block in enumerate(block_structure.blocks) if block.removable]
        offered = backbones.supports(self.spec.backbone, "depth_pruning_ratio", 0.5) is None
        assert offered == (len(removable) > 1)
        if not offered:
            return
        dropped = set(removable[::2])
        resolved = self._effect(block_structure, heads=False, ffn=False)
        blocks = [replace(b, heads=(), ffn=()) if i in dropped else b for i, b in enumerate(resolved.blocks)]
        resolved = replace(resolved, blocks=tuple(blocks))
        masked = copy.deepcopy(whole)
        for name in (block_structure.blocks[index].name for index in dropped):
            masked.get_submodule(name).register_forward_hook(lambda _, inputs, __: inputs[0])
        cut, example = self._pruned(whole, resolved), self._images()[:1]
        assert torch.equal(self._logits(cut), self._logits(masked))
        assert not torch.equal(self._logits(cut), self._logits(whole))
        silenced = copy.deepcopy(whole)
        self._silence([family.units(silenced)[index] for index in dropped])
        expected = self._logits(silenced)
        assert float((self._logits(cut) - expected).abs().max()) <= TOLERANCE * float(expected.abs().max())
        assert all(
            after < before for before, after in zip(macs.count(whole, example), macs.count(cut, example), strict=True)
        )
        assert len(family.units(cut)) == len(block_structure.blocks)
        with tempfile.TemporaryDirectory() as folder:
            report = OnnxExporter().export(self._ships(cut), tuple(self._images().shape), Path(folder) / "model.onnx")
        assert report.parity_rel <= 1e-4
        nn.functional.cross_entropy(cut.train()(self._images()), torch.tensor([0, 1])).backward()  # type: ignore[no-untyped-call]
        assert [name for name, value in cut.named_parameters() if value.grad is None] == []

    def test_on_fewer_channels_it_equals_the_model_whose_norms_read_these_alone(self) -> None:
        """A model that is cut otherwise too; then it trains, exports and costs less."""
        whole, block_structure = self._model()
        channels = three_of_four(block_structure.embed_dim)
        if backbones.supports(self.spec.backbone, "embed_pruning_ratio", 0.25):
            with pytest.raises(PlanError):
                backbones.find(self.spec.backbone).slice_stream(whole, channels)
            return
        resolved = self._effect(block_structure, self.cuts_heads, self.cuts_ffn)
        wide, narrow = (self._pruned(whole, replace(resolved, embed=embed)) for embed in ((), channels))
        masked, example = copy.deepcopy(wide), self._images()[:1]
        for norm in masked.modules():
            if isinstance(norm, nn.LayerNorm):
                norm.register_forward_hook(partial(_read_alone, list(channels)))
        expected, found, before = (self._logits(model) for model in (masked, narrow, wide))
        scale = float(expected.abs().max())
        assert float((found - expected).abs().max()) <= TOLERANCE * scale
        assert float((found - before).abs().max()) > 10 * TOLERANCE * scale
        costs = macs.count(wide, example), macs.count(narrow, example)
        assert all(after < 0.9 * before for before, after in zip(*costs, strict=True))
        with tempfile.TemporaryDirectory() as folder:
            report = OnnxExporter().export(
                self._ships(narrow), tuple(self._images().shape), Path(folder) / "model.onnx"
            )
        assert report.parity_rel <= 1e-4
        nn.functional.cross_entropy(narrow.train()(self._images()), torch.tensor([0, 1])).backward()  # type: ignore[no-untyped-call]
        assert [name for name, value in narrow.named_parameters() if value.grad is None] == []

    def _compare_with_masked(self, heads: bool, ffn: bool) -> None:
        whole, block_structure = self._model()
        resolved = self._effect(block_structure, heads, ffn)
        masked = copy.deepcopy(whole)
        units = backbones.find(self.spec.backbone).units(masked)
        for unit, kept in zip(units, resolved.blocks, strict=True):
            _zero_columns(unit.proj, unit.head_columns(kept.heads))
            _zero_columns(unit.fc2, list(kept.ffn))
        before, expected, found = (self._logits(m) for m in (whole, masked, self._pruned(whole, resolved)))
        scale = float(expected.abs().max())
        assert float((found - expected).abs().max()) <= TOLERANCE * scale
        if heads or ffn:
            assert float((before - expected).abs().max()) > 10 * TOLERANCE * scale, "the mask changed nothing"

    @torch.no_grad()
    def _silence(self, units: Sequence[BlockUnits]) -> None:
        """What these blocks add becomes zero: of their last layers, and of norms behind them, everything is."""
        for unit in units:
            for layer in (unit.proj, unit.fc2, unit.proj_norm, unit.fc2_norm):
                for values in () if layer is None else layer.parameters():
                    values.zero_()


def _read_alone(channels: list[int], norm: nn.LayerNorm, inputs: tuple[torch.Tensor], _: torch.Tensor) -> torch.Tensor:
    """Mean and variance of ``channels``; nothing of the others."""
    found, these = torch.zeros_like(inputs[0]), inputs[0][..., channels]
    alone = nn.functional.layer_norm(these, (len(channels),), norm.weight[channels], norm.bias[channels], norm.eps)
    found[..., channels] = alone
    return found


def _zero_columns(layer: Layer | None, kept: list[int]) -> None:
    if layer is not None:
        gone = sorted(set(range(layer.weight.shape[1])) - set(kept))
        with torch.no_grad():
            layer.weight[:, gone] = 0
