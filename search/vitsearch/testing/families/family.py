"""The statements of a family about its models: names, sizes, weights, units, refusals."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from vitsearch import backbones
from vitsearch.compress import macs, stream
from vitsearch.core.image_size import ImageSize
from vitsearch.core.precisions import ALL, LINEAR
from vitsearch.errors import PlanError
from vitsearch.testing.families.subject import EXPORT_PARITY, Subject


class FamilyTests(Subject):
    """Tests of the family itself, on uncut models."""

    def test_is_found_by_its_name(self) -> None:
        family = backbones.find(self.spec.backbone)
        assert family.claims(self.spec.backbone)
        assert self.spec.backbone.partition(".")[0] in family.variants()

    def test_builds_at_two_resolutions(self) -> None:
        for resolution in (self.spec.resolution, self.other_resolution):
            assert backbones.supports(self.spec.backbone, "resolution", resolution) is None
            model, _ = self._model(resolution)
            assert self._logits(model, resolution).shape == (2, self.spec.classes)

    def test_weights_load_at_another_resolution(self, tmp_path: Path) -> None:
        model, _ = self._model()
        family, weights = backbones.find(self.spec.backbone), _saved(model, tmp_path)
        built = family.build(replace(self.spec, weights=weights, resolution=self.other_resolution))
        assert not built.head_is_new
        assert self._logits(built.model, self.other_resolution).shape == (2, self.spec.classes)
        _assert_equal_or_resampled(model, built.model)

    def test_takes_images_that_are_no_squares_or_says_why_not(self, tmp_path: Path) -> None:
        """At its own height and the width of the other size: it reads weights of its own size, is cut and exported."""
        family, whole = backbones.find(self.spec.backbone), self._model()[0]
        size = ImageSize(self.spec.resolution.height, self.other_resolution.width)
        spec = replace(self.spec, weights=_saved(whole, tmp_path), resolution=size, trained_at=self.spec.resolution)
        reason = backbones.supports(self.spec.backbone, "resolution", size)
        if reason is not None:
            with pytest.raises(PlanError, match=re.escape(reason)):
                family.build(spec)
            return
        built = family.build(spec)
        assert not built.head_is_new
        assert self._logits(built.model, size).shape == (2, self.spec.classes)
        _assert_equal_or_resampled(whole, built.model)
        every_second = self._every_second_unit(
            family.block_structure(built.model, spec), self.cuts_heads, self.cuts_ffn
        )
        self._prune(built.model, every_second, size)
        assert self._export(built.model, size).parity_rel <= EXPORT_PARITY

    def test_another_window_loads_the_weights_and_is_cut_and_exported(self, tmp_path: Path) -> None:
        """With the smallest window that is not the model's own; families without windows offer none."""
        family, name, size = backbones.find(self.spec.backbone), self.spec.backbone, self.spec.resolution
        own = family.own_window(name, size)
        others = [window for window in family.windows(name, size) if window != own]
        if not others:
            assert backbones.supports(name, "window_size", 7) or family.windows(name, size) == (own,)
            return
        whole, _ = self._model()
        spec = replace(self.spec, window_size=others[0])
        other = family.build(replace(spec, weights=_saved(whole, tmp_path), trained_at=size)).model
        block_structure = family.block_structure(other, spec)
        assert block_structure.window_size == others[0]
        _assert_equal_or_resampled(whole, other)
        assert macs.count(other, self._images()[:1])[0] != macs.count(whole, self._images()[:1])[0]
        self._prune(other, self._every_second_unit(block_structure, self.cuts_heads, self.cuts_ffn))
        assert self._export(other).parity_rel <= EXPORT_PARITY

    def test_block_structure_matches_the_units(self) -> None:
        model, block_structure = self._model()
        units = backbones.find(self.spec.backbone).units(model)
        assert len(units) == len(block_structure.blocks) > 0
        for unit, block in zip(units, block_structure.blocks, strict=True):
            counted = (unit.heads, unit.head_dim, unit.ffn_width, unit.removable)
            assert counted == (block.heads, block.head_dim, block.ffn_width, block.removable)
            assert (unit.proj.weight.shape[1] if unit.proj is not None else 0) == unit.heads * unit.head_dim
            assert (unit.fc2.weight.shape[1] if unit.fc2 is not None else 0) == unit.ffn_width * block.ffn_grain

    def test_branches_are_added_to_the_stream_that_the_family_names(self) -> None:
        model, _ = self._model()
        units = backbones.find(self.spec.backbone).units(model)
        pairs = [(unit.proj, unit.proj_branch) for unit in units] + [(unit.fc2, unit.fc2_branch) for unit in units]
        named = [(layer, branch) for layer, branch in pairs if layer is not None and branch is not None]
        for (layer, branch), of_layer in zip(named, stream.streams(model, named, self._images()[:1]), strict=True):
            assert of_layer is not None, f"{layer} does not add its output to what {type(branch.leaves).__name__} reads"

    def test_int8_has_a_choice_of_layers_where_there_are_convolutions_behind_the_patch_embedding(self) -> None:
        model, _ = self._model()
        convolutions = sum(isinstance(module, nn.Conv2d) for module in model.modules())
        for ops in (LINEAR, ALL):
            assert (backbones.supports(self.spec.backbone, "quantized_ops", ops) is None) == (convolutions > 1)

    def test_every_refusal_has_a_reason(self) -> None:
        for knob, value in self.unsupported:
            reason = backbones.supports(self.spec.backbone, knob, value)
            assert reason, f"{knob}={value} is supported, but listed in unsupported"
            assert "\n" not in reason


def _saved(model: nn.Module, folder: Path) -> str:
    path = folder / "weights.safetensors"
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, path)
    return f"file:{path}"


def _assert_equal_or_resampled(source: nn.Module, loaded: nn.Module) -> None:
    """Every parameter is the source's own or has another shape."""
    before, after = dict(source.named_parameters()), dict(loaded.named_parameters())
    assert before.keys() == after.keys()
    same = [name for name, value in before.items() if torch.equal(value, after[name])]
    resampled = [name for name, value in before.items() if value.shape != after[name].shape]
    assert len(same) + len(resampled) == len(before)
