"""What every family of backbones must satisfy, as a class to inherit from; pytest collects it.

    class TestDeiT(BackboneTestCase):
        spec = ModelSpec("deit_tiny_patch16_224", "none", 64, 10)
        other_resolution = 96
        unsupported = (("window_size", 7),)

Cutting is proved exact: a model without some units equals the whole model with those units' columns
of the consumer set to zero.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from timm.layers import DropPath
from torch import nn

from vitsearch import backbones, train
from vitsearch.backbones.base import BlockUnits, ModelSpec
from vitsearch.compress import (
    fake_quant,
    macs,
    matrices,
    prune,
    quantize,
    refit,
    scores,
    sequential,
    sparse_file,
    sparsity,
    stream,
    tokens,
)
from vitsearch.effect import Anatomy, BlockEffect, Effect
from vitsearch.errors import PlanError
from vitsearch.export import deploy, evaluate
from vitsearch.export.onnx_file import OnnxExporter
from vitsearch.plan import Recipe
from vitsearch.token_counts import METHODS, tokens_left

if TYPE_CHECKING:
    from vitsearch.backbones.base import Layer

TOLERANCE = 1e-5
MEAN_ERROR = 1e-3
"""Of the largest output: the statistics are float32."""
ONE_STEP = Recipe((0, 1), 2, 2, 1e-3, 0.0, 0, 0.5, 2.0, 0)
INT8_ERROR = 0.2
"""Of the norm of the logits; random weights have no margin, so this only catches a broken graph."""
ROUNDING_ERROR = 0.05
"""Likewise, of a file against the model that rounds in torch: a value between two steps may go either way."""


class BackboneTestCase:
    """``spec`` names a small model (weights ``none`` will do), ``other_resolution`` another size it
    takes, ``unsupported`` pairs of knob and value that it must refuse."""

    spec: ClassVar[ModelSpec]
    other_resolution: ClassVar[int]
    unsupported: ClassVar[tuple[tuple[str, Any], ...]]
    cuts_heads: ClassVar[bool] = True
    cuts_ffn: ClassVar[bool] = True

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
        anatomy = family.anatomy(other, spec)
        assert anatomy.window_size == others[0]
        before, after = dict(whole.named_parameters()), dict(other.named_parameters())
        same = [name for name, value in before.items() if torch.equal(value, after[name])]
        resampled = [name for name, value in before.items() if value.shape != after[name].shape]
        assert len(same) + len(resampled) == len(before)
        assert macs.count(other, self._images()[:1])[0] != macs.count(whole, self._images()[:1])[0]
        self._prune(other, self._effect(anatomy, self.cuts_heads, self.cuts_ffn))
        with tempfile.TemporaryDirectory() as folder:
            report = OnnxExporter().export(self._ships(other), tuple(self._images().shape), Path(folder) / "w.onnx")
        assert report.parity_rel <= 1e-4

    def test_anatomy_is_that_of_the_units(self) -> None:
        model, anatomy = self._model()
        units = backbones.find(self.spec.backbone).units(model)
        assert len(units) == len(anatomy.blocks) > 0
        for unit, block in zip(units, anatomy.blocks, strict=True):
            counted = (unit.heads, unit.head_dim, unit.ffn_width, unit.removable)
            assert counted == (block.heads, block.head_dim, block.ffn_width, block.removable)
            assert (unit.proj.weight.shape[1] if unit.proj is not None else 0) == unit.heads * unit.head_dim
            assert (unit.fc2.weight.shape[1] if unit.fc2 is not None else 0) == unit.ffn_width

    def test_an_effect_that_keeps_all_changes_nothing(self) -> None:
        model, anatomy = self._model()
        before = self._logits(model)
        self._prune(model, self._effect(anatomy, heads=False, ffn=False))
        assert torch.equal(before, self._logits(model))

    def test_cut_heads_equal_masked_heads(self) -> None:
        self._compare_with_masked(heads=self.cuts_heads, ffn=False)

    def test_cut_channels_equal_masked_channels(self) -> None:
        self._compare_with_masked(heads=False, ffn=self.cuts_ffn)

    def test_what_ships_gives_what_was_trained(self) -> None:
        """With batch norms that have something to merge; the trained model is left as it was."""
        whole, anatomy = self._model()
        cut = self._pruned(whole, self._effect(anatomy, self.cuts_heads, self.cuts_ffn))
        _use_norms(cut)
        before = self._logits(cut)
        ships = deploy.deployed(cut, backbones.find(self.spec.backbone), tuple(self._images().shape))
        scale = float(before.abs().max())
        assert float((self._logits(ships) - before).abs().max()) <= 10 * TOLERANCE * scale
        assert torch.equal(self._logits(cut), before)

    def test_a_cut_model_costs_less(self) -> None:
        whole, anatomy = self._model()
        cut = self._ships(self._pruned(whole, self._effect(anatomy, self.cuts_heads, self.cuts_ffn)))
        whole, example = self._ships(whole), self._images()[:1]
        before, after = macs.count(whole, example), macs.count(cut, example)
        if not (self.cuts_heads or self.cuts_ffn):
            assert after == before
            return
        assert after[0] < 0.9 * before[0]
        assert after[1] < 0.9 * before[1]

    def test_without_blocks_it_equals_the_model_whose_blocks_add_nothing(self) -> None:
        """Every second of those that can be dropped is; then it trains, exports and costs less."""
        whole, anatomy = self._model()
        family = backbones.find(self.spec.backbone)
        removable = [index for index, block in enumerate(anatomy.blocks) if block.removable]
        offered = backbones.supports(self.spec.backbone, "depth_pruning_ratio", 0.5) is None
        assert offered == (len(removable) > 1)
        if not offered:
            return
        dropped = set(removable[::2])
        effect = self._effect(anatomy, heads=False, ffn=False)
        blocks = [replace(b, heads=(), ffn=()) if i in dropped else b for i, b in enumerate(effect.blocks)]
        effect = replace(effect, blocks=tuple(blocks))
        masked = copy.deepcopy(whole)
        for name in (anatomy.blocks[index].name for index in dropped):
            masked.get_submodule(name).register_forward_hook(lambda _, inputs, __: inputs[0])
        cut, example = self._pruned(whole, effect), self._images()[:1]
        assert torch.equal(self._logits(cut), self._logits(masked))
        assert not torch.equal(self._logits(cut), self._logits(whole))
        silenced = copy.deepcopy(whole)
        self._silence([family.units(silenced)[index] for index in dropped])
        expected = self._logits(silenced)
        assert float((self._logits(cut) - expected).abs().max()) <= TOLERANCE * float(expected.abs().max())
        assert all(
            after < before for before, after in zip(macs.count(whole, example), macs.count(cut, example), strict=True)
        )
        assert len(family.units(cut)) == len(anatomy.blocks)
        with tempfile.TemporaryDirectory() as folder:
            report = OnnxExporter().export(self._ships(cut), tuple(self._images().shape), Path(folder) / "model.onnx")
        assert report.parity_rel <= 1e-4
        nn.functional.cross_entropy(cut.train()(self._images()), torch.tensor([0, 1])).backward()  # type: ignore[no-untyped-call]
        assert [name for name, value in cut.named_parameters() if value.grad is None] == []

    def test_on_fewer_channels_it_equals_the_model_whose_norms_read_these_alone(self) -> None:
        """A model that is cut otherwise too; then it trains, exports and costs less."""
        whole, anatomy = self._model()
        channels = _three_of_four(anatomy.embed_dim)
        if backbones.supports(self.spec.backbone, "embed_pruning_ratio", 0.25):
            with pytest.raises(PlanError):
                backbones.find(self.spec.backbone).slice_stream(whole, channels)
            return
        effect = self._effect(anatomy, self.cuts_heads, self.cuts_ffn)
        wide, narrow = (self._pruned(whole, replace(effect, embed=embed)) for embed in ((), channels))
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

    def test_a_refit_brings_every_consumer_nearer_to_what_it_gave(self) -> None:
        """On the inputs that the statistics are of: nearer than the cut left it, and right on average."""
        whole, anatomy = self._model()
        family, effect = backbones.find(self.spec.backbone), self._effect(anatomy, self.cuts_heads, self.cuts_ffn)
        statistics = scores.collect(whole, family, self._images(), torch.tensor([0, 1]))
        cut = self._pruned(whole, effect)
        fitted = copy.deepcopy(cut)
        refit.refit(fitted, whole, family, effect, statistics)
        inputs, kept = self._inputs_of_consumers(whole), _kept_columns(family.units(whole), effect)
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

    def test_branches_reach_their_stream_as_the_family_says(self) -> None:
        model, _ = self._model()
        units = backbones.find(self.spec.backbone).units(model)
        pairs = [(unit.proj, unit.proj_branch) for unit in units] + [(unit.fc2, unit.fc2_branch) for unit in units]
        told = [(layer, branch) for layer, branch in pairs if layer is not None and branch is not None]
        for (layer, branch), found in zip(told, stream.streams(model, told, self._images()[:1]), strict=True):
            assert found is not None, f"{layer} does not add its output to what {type(branch.leaves).__name__} reads"

    def test_a_sequential_refit_comes_nearer_to_the_base(self) -> None:
        """On the images that it looks at; with nothing cut it changes nothing."""
        whole, anatomy = self._model()
        family, images = backbones.find(self.spec.backbone), self._images()
        wanted = sequential.targets(whole, family, images)
        cut = self._pruned(whole, self._effect(anatomy, self.cuts_heads, self.cuts_ffn))
        before, expected = self._logits(cut), self._logits(whole)
        sequential.fit(cut, family, wanted, images)
        if not (self.cuts_heads or self.cuts_ffn):
            assert torch.equal(before, expected)
            return
        assert float((self._logits(cut) - expected).norm()) < 0.5 * float((before - expected).norm())
        untouched = copy.deepcopy(whole)
        sequential.fit(untouched, family, wanted, images)
        assert torch.equal(self._logits(untouched), expected)

    def test_a_cut_model_trains(self) -> None:
        whole, anatomy = self._model()
        cut = self._pruned(whole, self._effect(anatomy, self.cuts_heads, self.cuts_ffn)).train()
        for module in cut.modules():
            if isinstance(module, DropPath):
                module.drop_prob = 0.0  # or chance decides whether a block learns
        output = cut(self._images())
        nn.functional.cross_entropy(output, torch.tensor([0, 1])).backward()  # type: ignore[no-untyped-call]
        for unit in backbones.find(self.spec.backbone).units(cut):
            for layer in (unit.proj, unit.fc1, unit.fc2):
                slope = None if layer is None else layer.weight.grad
                assert layer is None or (slope is not None and bool(slope.any())), unit.name

    def test_a_cut_model_takes_every_distillation_that_it_supports(self) -> None:
        """The unpruned model teaches; one step each."""
        whole, anatomy = self._model()
        images = np.random.default_rng(0).integers(0, 256, (2, 8, 8, self.spec.channels), dtype=np.uint8)
        seen = (images, self.spec.resolution, (0.5,) * self.spec.channels, (0.5,) * self.spec.channels)
        logits, features = train.predict_logits(whole, *seen), train.predict_features(whole, *seen)
        for name in ("feature", "token", "token_hard"):
            if backbones.supports(self.spec.backbone, "distillation", name) is not None:
                continue
            cut = self._pruned(whole, self._effect(anatomy, self.cuts_heads, self.cuts_ffn))
            before = [value.clone() for value in cut.parameters()]
            pixels, size, mean, std = seen
            train.fine_tune(
                cut,
                train.FineTuneTask(
                    *(pixels, np.zeros(2, np.int64), size, mean, std, ONE_STEP),
                    epochs=1,
                    distillation=name,
                    teacher_logits=logits,
                    teacher_features=features,
                ),
            )
            assert any(not torch.equal(a, b) for a, b in zip(before, cut.parameters(), strict=True)), name

    def test_a_cut_model_exports_and_agrees_with_its_runtime(self) -> None:
        whole, anatomy = self._model()
        cut = self._pruned(whole, self._effect(anatomy, self.cuts_heads, self.cuts_ffn))
        ships = self._ships(cut)
        with tempfile.TemporaryDirectory() as folder:
            report = OnnxExporter().export(ships, tuple(self._images().shape), Path(folder) / "model.onnx")
        assert report.parity_rel <= 1e-4

    @pytest.mark.parametrize("precision", ["fp16", "int8_dynamic", "int8_ptq", "int8_weights", "int8_mixed"])
    def test_a_cut_model_is_made_at_every_precision(self, precision: str) -> None:
        """``int8_mixed`` with its last linear layer in fp32."""
        if backbones.supports(self.spec.backbone, "quantization", precision):
            return
        whole, anatomy = self._model()
        cut = self._pruned(whole, self._effect(anatomy, self.cuts_heads, self.cuts_ffn))
        ships = self._ships(cut)
        with tempfile.TemporaryDirectory() as folder:
            plain, small = Path(folder) / "fp32.onnx", Path(folder) / "int8.onnx"
            OnnxExporter().export(ships, tuple(self._images().shape), plain)
            linear = [name for name, module in cut.named_modules() if isinstance(module, nn.Linear)]
            left = fake_quant.weights_of(cut, linear[-1:] if precision in quantize.MIXED else ())
            quantize.quantize(plain, small, precision, self._images().numpy(), left=left)
            found = evaluate.logits(small, self._images().numpy(), batch_size=2)
            units = backbones.find(self.spec.backbone).units(cut)
            computes_in_int8 = precision in ("int8_dynamic", "int8_ptq", "int8_mixed")  # convolutions stay fp32
            if not computes_in_int8 or any(isinstance(unit.proj or unit.fc2, nn.Linear) for unit in units):
                assert small.stat().st_size < plain.stat().st_size
        expected = self._logits(cut).numpy()
        assert np.linalg.norm(found - expected) <= INT8_ERROR * np.linalg.norm(expected)

    @pytest.mark.parametrize("method", METHODS)
    def test_fewer_tokens_train_export_and_cost_less(self, method: str) -> None:
        """Of a cut model too; where the family takes no token pruning it says so."""
        asked = (("token_pruning_ratio", 0.5), ("token_pruning_method", method))
        if any(backbones.supports(self.spec.backbone, knob, value) for knob, value in asked):
            return
        whole, anatomy = self._model()
        effect = self._narrow_effect(anatomy)
        cut = self._pruned(whole, effect)
        patches, prefix = anatomy.tokens - anatomy.prefix_tokens, anatomy.prefix_tokens
        left = tokens_left(method, 0.5, (), len(anatomy.blocks), patches, prefix)
        fewer = copy.deepcopy(cut)
        tokens.apply(fewer, replace(effect, tokens=left, token_pruning_method=method))
        before, after = (macs.count(model, self._images()[:1]) for model in (cut, fewer))
        assert after[0] < 0.8 * before[0]
        nn.functional.cross_entropy(fewer.train()(self._images()), torch.tensor([0, 1])).backward()  # type: ignore[no-untyped-call]
        assert [name for name, value in fewer.named_parameters() if value.grad is None] == []
        with tempfile.TemporaryDirectory() as folder:
            report = OnnxExporter().export(fewer, tuple(self._images().shape), Path(folder) / "model.onnx")
        assert report.parity_rel <= 1e-4

    def test_sparse_weights_stay_zero_through_training_and_in_the_file(self) -> None:
        """The file of int8 weights holds convolutions too, that of static int8 what int8 computes with."""
        kind = sparsity.PATTERN
        if backbones.supports(self.spec.backbone, "weight_sparsity", kind):
            return
        whole, anatomy = self._model()
        cut, images = self._pruned(whole, self._effect(anatomy, self.cuts_heads, self.cuts_ffn)), self._images()
        sparsity.magnitude(cut, kind)
        layers = sparsity.layers(cut)
        before = {name: layer.weight.detach().clone() for name, layer in layers.items()}
        with sparsity.frozen_zeros(cut):
            train.fine_tune(cut, _one_step(self.spec))
        for name, layer in layers.items():
            assert torch.equal(layer.weight == 0, before[name] == 0), name
        assert any(not torch.equal(layer.weight, before[name]) for name, layer in layers.items())
        ships = self._ships(cut.eval())
        sparsity.verify(ships, kind)
        with tempfile.TemporaryDirectory() as folder:
            plain, small = Path(folder) / "fp32.onnx", Path(folder) / "small.onnx"
            report = OnnxExporter().export(ships, tuple(images.shape), plain)
            assert report.parity_rel <= 1e-4
            for precision in ("fp32", "int8_ptq", "int8_weights"):
                quantize.quantize(plain, small, precision, images.numpy())
                _assert_zeros_of(ships, small, precision)

    def test_a_cut_model_trains_for_int8_and_its_file_computes_what_it_computes(self) -> None:
        """Where a family is all convolutions, only its classifier rounds."""
        reason = backbones.supports(self.spec.backbone, "quantization", "int8_qat")
        if reason is not None:
            pytest.skip(reason)
        whole, anatomy = self._model()
        cut = self._pruned(whole, self._narrow_effect(anatomy))
        fake_quant.prepare(cut, [self._images()])
        output = cut.train()(self._images())
        nn.functional.cross_entropy(output, torch.tensor([0, 1])).backward()  # type: ignore[no-untyped-call]
        layers = [module for module in cut.modules() if isinstance(module, fake_quant.QuantizedLinear)]
        assert layers
        for layer in layers:
            for parameter in (layer.weight, layer.stretch):
                assert parameter.grad is not None
                assert bool(torch.isfinite(parameter.grad).all())
        images = self._images().numpy()
        with tempfile.TemporaryDirectory() as folder:
            plain, small = Path(folder) / "fp32.onnx", Path(folder) / "int8.onnx"
            ships = self._ships(cut.eval())
            with fake_quant.unrounded(ships):
                OnnxExporter().export(ships, images.shape, plain)
            quantize.quantize(plain, small, "int8_qat", images, fake_quant.learned(ships))
            found = evaluate.logits(small, images, batch_size=2)
        expected = self._logits(cut).numpy()
        assert np.linalg.norm(found - expected) <= ROUNDING_ERROR * np.linalg.norm(expected)

    def test_what_is_not_supported_has_a_reason(self) -> None:
        for knob, value in self.unsupported:
            reason = backbones.supports(self.spec.backbone, knob, value)
            assert reason, f"{knob}={value} is said to be supported"
            assert "\n" not in reason

    # ---- hands

    @torch.no_grad()
    def _silence(self, units: Sequence[BlockUnits]) -> None:
        """What these blocks add becomes zero: of their last layers, and of norms behind them, everything is."""
        for unit in units:
            for layer in (unit.proj, unit.fc2, unit.proj_norm, unit.fc2_norm):
                for values in () if layer is None else layer.parameters():
                    values.zero_()

    def _model(self, resolution: int | None = None) -> tuple[nn.Module, Anatomy]:
        spec = ModelSpec(
            self.spec.backbone,
            self.spec.weights,
            resolution or self.spec.resolution,
            self.spec.classes,
            self.spec.channels,
        )
        model = copy.deepcopy(_built(spec))
        return model, backbones.find(spec.backbone).anatomy(model, spec)

    def _images(self, resolution: int | None = None) -> torch.Tensor:
        size = resolution or self.spec.resolution
        return torch.randn(2, self.spec.channels, size, size, generator=torch.Generator().manual_seed(0))

    def _logits(self, model: nn.Module, resolution: int | None = None) -> torch.Tensor:
        with torch.inference_mode():
            found: torch.Tensor = model.eval()(self._images(resolution))
        return found

    def _ships(self, model: nn.Module) -> nn.Module:
        return backbones.find(self.spec.backbone).deployable(model)

    def _inputs_of_consumers(self, model: nn.Module) -> dict[nn.Module, torch.Tensor]:
        seen: dict[nn.Module, torch.Tensor] = {}
        units = backbones.find(self.spec.backbone).units(model)
        layers = [layer for unit in units for layer in (unit.proj, unit.fc2) if layer is not None]
        hooks = [layer.register_forward_pre_hook(lambda m, inputs: seen.update({m: inputs[0]})) for layer in layers]
        self._logits(model)
        for hook in hooks:
            hook.remove()
        return seen

    def _effect(self, anatomy: Anatomy, heads: bool, ffn: bool) -> Effect:
        """Every second unit, another one first in each block."""
        blocks = tuple(
            BlockEffect(
                _every_second(block.heads, index) if heads else tuple(range(block.heads)),
                _every_second(block.ffn_width, index) if ffn else tuple(range(block.ffn_width)),
                "fp32",
            )
            for index, block in enumerate(anatomy.blocks)
        )
        return Effect(anatomy.backbone, anatomy.resolution, None, blocks)

    def _narrow_effect(self, anatomy: Anatomy) -> Effect:
        """Everything of it that can be cut, the residual stream too."""
        effect = self._effect(anatomy, self.cuts_heads, self.cuts_ffn)
        refused = backbones.supports(self.spec.backbone, "embed_pruning_ratio", 0.25)
        return effect if refused else replace(effect, embed=_three_of_four(anatomy.embed_dim))

    def _prune(self, model: nn.Module, effect: Effect) -> None:
        prune.apply(model, backbones.find(self.spec.backbone), effect, self._images()[:1])

    def _pruned(self, model: nn.Module, effect: Effect) -> nn.Module:
        cut = copy.deepcopy(model)
        self._prune(cut, effect)
        return cut

    def _compare_with_masked(self, heads: bool, ffn: bool) -> None:
        whole, anatomy = self._model()
        effect = self._effect(anatomy, heads, ffn)
        masked = copy.deepcopy(whole)
        units = backbones.find(self.spec.backbone).units(masked)
        for unit, kept in zip(units, effect.blocks, strict=True):
            _zero_columns(unit.proj, unit.head_columns(kept.heads))
            _zero_columns(unit.fc2, list(kept.ffn))
        before, expected, found = (self._logits(m) for m in (whole, masked, self._pruned(whole, effect)))
        scale = float(expected.abs().max())
        assert float((found - expected).abs().max()) <= TOLERANCE * scale
        if heads or ffn:
            assert float((before - expected).abs().max()) > 10 * TOLERANCE * scale, "the mask changed nothing"


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


def _kept_columns(units: Sequence[BlockUnits], effect: Effect) -> list[list[int]]:
    """Of every consumer of the unpruned model, in the same order."""
    kept = []
    for unit, block in zip(units, effect.blocks, strict=True):
        kept += [unit.head_columns(block.heads)] if unit.proj is not None else []
        kept += [list(block.ffn)] if unit.fc2 is not None else []
    return kept


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


def _one_step(spec: ModelSpec) -> train.FineTuneTask:
    images = np.random.default_rng(0).integers(0, 256, (2, 8, 8, spec.channels), dtype=np.uint8)
    plain = (0.5,) * spec.channels
    return train.FineTuneTask(images, np.array([0, 1]), spec.resolution, plain, plain, ONE_STEP, epochs=1)


def _assert_zeros_of(model: nn.Module, path: Path, what: str) -> None:
    """Each sparse layer of ``model`` is in the file at ``path`` with its zeros; rounding may add some."""
    found = list(sparse_file.zeros(path))
    for name, layer in sparsity.layers(model).items():
        zero = sparsity.zeros(layer)
        mine = next((i for i, other in enumerate(found) if other.shape == zero.shape and bool(other[zero].all())), None)
        assert mine is not None, f"{name} is not in the {what} file with its zeros"
        del found[mine]


def _use_norms(model: nn.Module) -> None:
    generator = torch.Generator().manual_seed(0)
    for norm in model.modules():
        if not isinstance(norm, nn.modules.batchnorm._BatchNorm):
            continue
        if norm.running_mean is not None and norm.running_var is not None:
            norm.running_mean.normal_(0, 0.1, generator=generator)
            norm.running_var.uniform_(0.5, 1.5, generator=generator)


def _three_of_four(size: int) -> tuple[int, ...]:
    return tuple(index for index in range(size) if index % 4)


def _every_second(size: int, first: int) -> tuple[int, ...]:
    return tuple(range(first % 2, size, 2)) or tuple(range(size))


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
