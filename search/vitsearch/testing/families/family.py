"""What a family says of its models is so: names, sizes, weights, units, refusals."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file

from vitsearch import backbones
from vitsearch.compress import macs, stream
from vitsearch.export.onnx_file import OnnxExporter
from vitsearch.testing.families.subject import Subject


class FamilyTests(Subject):
    """Of the family itself, before anything is done to a model of it."""

    def test_is_found_by_its_name(self) -> None:
        family = backbones.find(self.spec.backbone)
        assert family.claims(self.spec.backbone)
        assert self.spec.backbone.partition(".")[0] in family.variants()

    def test_builds_at_two_resolutions(self) -> None:
        for resolution in (self.spec.resolution, self.other_resolution):
            assert backbones.supports(self.spec.backbone, "resolution", resolution) is None
            model, _ = self._model(resolution)
            assert self._logits(model, resolution).shape == (2, self.spec.classes)

    def test_weights_survive_another_resolution(self) -> None:
        model, _ = self._model()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "weights.safetensors"
            save_file({name: value.contiguous() for name, value in model.state_dict().items()}, path)
            family = backbones.find(self.spec.backbone)
            built = family.build(replace(self.spec, weights=f"file:{path}", resolution=self.other_resolution))
        assert not built.head_is_new
        assert self._logits(built.model, self.other_resolution).shape == (2, self.spec.classes)
        before, after = dict(model.named_parameters()), dict(built.model.named_parameters())
        assert before.keys() == after.keys()
        same = [name for name, value in before.items() if torch.equal(value, after[name])]
        resampled = [name for name, value in before.items() if value.shape != after[name].shape]
        assert len(same) + len(resampled) == len(before)

    def test_another_window_takes_the_weights_is_cut_and_exported(self) -> None:
        """The smallest that is not the model's own; families without windows offer none."""
        family, name, size = backbones.find(self.spec.backbone), self.spec.backbone, self.spec.resolution
        own = family.own_window(name, size)
        others = [window for window in family.windows(name, size) if window != own]
        if not others:
            assert backbones.supports(name, "window_size", 7) or family.windows(name, size) == (own,)
            return
        whole, _ = self._model()
        spec = replace(self.spec, window_size=others[0])
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "weights.safetensors"
            save_file({name: value.contiguous() for name, value in whole.state_dict().items()}, path)
            other = family.build(replace(spec, weights=f"file:{path}")).model
        block_structure = family.block_structure(other, spec)
        assert block_structure.window_size == others[0]
        before, after = dict(whole.named_parameters()), dict(other.named_parameters())
        same = [name for name, value in before.items() if torch.equal(value, after[name])]
        resampled = [name for name, value in before.items() if value.shape != after[name].shape]
        assert len(same) + len(resampled) == len(before)
        assert macs.count(other, self._images()[:1])[0] != macs.count(whole, self._images()[:1])[0]
        self._prune(other, self._effect(block_structure, self.cuts_heads, self.cuts_ffn))
        with tempfile.TemporaryDirectory() as folder:
            report = OnnxExporter().export(self._ships(other), tuple(self._images().shape), Path(folder) / "w.onnx")
        assert report.parity_rel <= 1e-4

    def test_anatomy_is_that_of_the_units(self) -> None:
        model, block_structure = self._model()
        units = backbones.find(self.spec.backbone).units(model)
        assert len(units) == len(block_structure.blocks) > 0
        for unit, block in zip(units, block_structure.blocks, strict=True):
            counted = (unit.heads, unit.head_dim, unit.ffn_width, unit.removable)
            assert counted == (block.heads, block.head_dim, block.ffn_width, block.removable)
            assert (unit.proj.weight.shape[1] if unit.proj is not None else 0) == unit.heads * unit.head_dim
            assert (unit.fc2.weight.shape[1] if unit.fc2 is not None else 0) == unit.ffn_width

    def test_branches_reach_their_stream_as_the_family_says(self) -> None:
        model, _ = self._model()
        units = backbones.find(self.spec.backbone).units(model)
        pairs = [(unit.proj, unit.proj_branch) for unit in units] + [(unit.fc2, unit.fc2_branch) for unit in units]
        told = [(layer, branch) for layer, branch in pairs if layer is not None and branch is not None]
        for (layer, branch), found in zip(told, stream.streams(model, told, self._images()[:1]), strict=True):
            assert found is not None, f"{layer} does not add its output to what {type(branch.leaves).__name__} reads"

    def test_what_is_not_supported_has_a_reason(self) -> None:
        for knob, value in self.unsupported:
            reason = backbones.supports(self.spec.backbone, knob, value)
            assert reason, f"{knob}={value} is said to be supported"
            assert "\n" not in reason
