"""A cut model trains: with every kind of distillation, with fewer tokens, with sparse weights."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from timm.layers import DropPath
from torch import nn

from vitsearch import backbones
from vitsearch.compress import macs, sparse_file, sparsity, tokens
from vitsearch.compress.quantization import quantize
from vitsearch.core.onnx_exporters import exporter_of
from vitsearch.core.plan import Recipe
from vitsearch.core.preprocessing import HALF, Preprocessing
from vitsearch.core.token_counts import METHODS, tokens_left
from vitsearch.export.graph.onnx_file import write_onnx
from vitsearch.models.backbone import ModelSpec
from vitsearch.testing.families.subject import EXPORT_PARITY, Subject
from vitsearch.training import fine_tune, inference

ONE_STEP = Recipe((0, 1), 2, 2, 1e-3, 0.0, 0, 0.5, 2.0, 0)


class LearningTests(Subject):
    """One training step of a cut model in each setting."""

    def test_a_cut_model_trains(self, cut: nn.Module) -> None:
        cut.train()
        for module in cut.modules():
            if isinstance(module, DropPath):
                module.drop_prob = 0.0  # or chance decides whether a block learns
        output = cut(self._images())
        nn.functional.cross_entropy(output, torch.tensor([0, 1])).backward()  # type: ignore[no-untyped-call]
        for unit in backbones.find(self.spec.backbone).units(cut):
            for layer in (unit.proj, unit.fc1, unit.fc2):
                slope = None if layer is None else layer.weight.grad
                assert layer is None or (slope is not None and bool(slope.any())), unit.name

    def test_a_cut_model_trains_with_every_supported_distillation(self, shared_cut: nn.Module) -> None:
        """One step each; the unpruned model is the teacher."""
        whole, _ = self._model()
        images = np.random.default_rng(0).integers(0, 256, (2, 8, 8, self.spec.channels), dtype=np.uint8)
        seen = (images, self.spec.resolution, _halves(self.spec))
        logits, features = inference.predict_logits(whole, *seen), inference.predict_features(whole, *seen)
        for name in ("feature", "token", "token_hard"):
            if backbones.supports(self.spec.backbone, "distillation", name) is not None:
                continue
            cut = copy.deepcopy(shared_cut)
            before = [value.clone() for value in cut.parameters()]
            fine_tune.fine_tune(
                cut,
                fine_tune.TrainingSpec(
                    *(images, np.zeros(2, np.int64), *seen[1:], ONE_STEP),
                    epochs=1,
                    distillation=name,
                    teacher_outputs=logits,
                    teacher_features=features,
                ),
            )
            assert any(not torch.equal(a, b) for a, b in zip(before, cut.parameters(), strict=True)), name

    @pytest.mark.parametrize("method", METHODS)
    def test_a_cut_model_with_fewer_tokens_trains_exports_and_costs_less(self, method: str) -> None:
        knobs = (("token_pruning_ratio", 0.5), ("token_pruning_method", method))
        if any(backbones.supports(self.spec.backbone, knob, value) for knob, value in knobs):
            return
        whole, block_structure = self._model()
        resolved = self._narrow(block_structure)
        cut = self._pruned(whole, resolved)
        patches, prefix = block_structure.tokens - block_structure.prefix_tokens, block_structure.prefix_tokens
        left = tokens_left(method, 0.5, (), len(block_structure.blocks), patches, prefix)
        fewer = copy.deepcopy(cut)
        tokens.apply(fewer, replace(resolved, tokens=left, token_pruning_method=method))
        before, after = (macs.count(model, self._images()[:1]) for model in (cut, fewer))
        assert after[0] < 0.8 * before[0]
        assert self._parameters_without_gradient(fewer) == []
        assert self._export(fewer).parity_rel <= EXPORT_PARITY

    def test_sparse_weights_stay_zero_through_training_and_in_the_file(self, cut: nn.Module, tmp_path: Path) -> None:
        """The int8_weights file holds convolutions too; the int8_ptq file holds the weights that int8 multiplies."""
        kind = sparsity.PATTERN
        if backbones.supports(self.spec.backbone, "weight_sparsity", kind):
            return
        images = self._images()
        sparsity.magnitude(cut, kind)
        layers = sparsity.layers(cut)
        before = {name: layer.weight.detach().clone() for name, layer in layers.items()}
        with sparsity.frozen_zeros(cut):
            fine_tune.fine_tune(cut, _one_step(self.spec))
        for name, layer in layers.items():
            assert torch.equal(layer.weight == 0, before[name] == 0), name
        assert any(not torch.equal(layer.weight, before[name]) for name, layer in layers.items())
        ships = self._ships(cut.eval())
        sparsity.verify(ships, kind)
        plain, small = tmp_path / "fp32.onnx", tmp_path / "small.onnx"
        exporter = exporter_of(self.spec.backbone)
        assert write_onnx(ships, tuple(images.shape), plain, exporter=exporter).parity_rel <= EXPORT_PARITY
        for precision in ("fp32", "int8_ptq", "int8_weights"):
            quantize.quantize(plain, small, precision, images.numpy())
            _assert_zeros_of(ships, small, precision)


def _one_step(spec: ModelSpec) -> fine_tune.TrainingSpec:
    images = np.random.default_rng(0).integers(0, 256, (2, 8, 8, spec.channels), dtype=np.uint8)
    return fine_tune.TrainingSpec(images, np.array([0, 1]), spec.resolution, _halves(spec), ONE_STEP, epochs=1)


def _halves(spec: ModelSpec) -> Preprocessing:
    return HALF.on_channels(spec.channels)


def _assert_zeros_of(model: nn.Module, path: Path, precision: str) -> None:
    """Assert that the file at `path` holds each sparse layer of `model` with its zeros; rounding may add some."""
    masks = list(sparse_file.zeros(path))
    for name, layer in sparsity.layers(model).items():
        zero = sparsity.zeros(layer)
        mine = next((i for i, other in enumerate(masks) if other.shape == zero.shape and bool(other[zero].all())), None)
        assert mine is not None, f"the {precision} file does not hold {name} with its zeros"
        del masks[mine]
