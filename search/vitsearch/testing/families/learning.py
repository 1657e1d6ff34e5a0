"""A cut model still learns, whatever else was done to it."""

from __future__ import annotations

import copy
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from timm.layers import DropPath
from torch import nn

from vitsearch import backbones
from vitsearch.compress import macs, tokens
from vitsearch.compress.quantization import fake_quant, quantize
from vitsearch.compress.sparsity import sparse_file, sparsity
from vitsearch.core.plan import Recipe
from vitsearch.core.token_counts import METHODS, tokens_left
from vitsearch.export import evaluate
from vitsearch.export.onnx_file import OnnxExporter
from vitsearch.models.backbone import ModelSpec
from vitsearch.testing.families.subject import Subject
from vitsearch.training import fine_tune

ONE_STEP = Recipe((0, 1), 2, 2, 1e-3, 0.0, 0, 0.5, 2.0, 0)
ROUNDING_ERROR = 0.05
"""Of the norm of the logits, of a file against the model that rounds in torch: a value between two steps may go
either way."""


class LearningTests(Subject):
    """From labels and teachers; with fewer tokens, sparse weights, int8; and its file gives what was learned."""

    def test_a_cut_model_trains(self) -> None:
        whole, block_structure = self._model()
        cut = self._pruned(whole, self._effect(block_structure, self.cuts_heads, self.cuts_ffn)).train()
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
        whole, block_structure = self._model()
        images = np.random.default_rng(0).integers(0, 256, (2, 8, 8, self.spec.channels), dtype=np.uint8)
        seen = (images, self.spec.resolution, (0.5,) * self.spec.channels, (0.5,) * self.spec.channels)
        logits, features = fine_tune.predict_logits(whole, *seen), fine_tune.predict_features(whole, *seen)
        for name in ("feature", "token", "token_hard"):
            if backbones.supports(self.spec.backbone, "distillation", name) is not None:
                continue
            cut = self._pruned(whole, self._effect(block_structure, self.cuts_heads, self.cuts_ffn))
            before = [value.clone() for value in cut.parameters()]
            pixels, size, mean, std = seen
            fine_tune.fine_tune(
                cut,
                fine_tune.FineTuneTask(
                    *(pixels, np.zeros(2, np.int64), size, mean, std, ONE_STEP),
                    epochs=1,
                    distillation=name,
                    teacher_logits=logits,
                    teacher_features=features,
                ),
            )
            assert any(not torch.equal(a, b) for a, b in zip(before, cut.parameters(), strict=True)), name

    @pytest.mark.parametrize("method", METHODS)
    def test_fewer_tokens_train_export_and_cost_less(self, method: str) -> None:
        """Of a cut model too; where the family takes no token pruning it says so."""
        asked = (("token_pruning_ratio", 0.5), ("token_pruning_method", method))
        if any(backbones.supports(self.spec.backbone, knob, value) for knob, value in asked):
            return
        whole, block_structure = self._model()
        resolved = self._narrow_effect(block_structure)
        cut = self._pruned(whole, resolved)
        patches, prefix = block_structure.tokens - block_structure.prefix_tokens, block_structure.prefix_tokens
        left = tokens_left(method, 0.5, (), len(block_structure.blocks), patches, prefix)
        fewer = copy.deepcopy(cut)
        tokens.apply(fewer, replace(resolved, tokens=left, token_pruning_method=method))
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
        whole, block_structure = self._model()
        cut, images = self._pruned(whole, self._effect(block_structure, self.cuts_heads, self.cuts_ffn)), self._images()
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
        whole, block_structure = self._model()
        cut = self._pruned(whole, self._narrow_effect(block_structure))
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


def _one_step(spec: ModelSpec) -> fine_tune.FineTuneTask:
    images = np.random.default_rng(0).integers(0, 256, (2, 8, 8, spec.channels), dtype=np.uint8)
    plain = (0.5,) * spec.channels
    return fine_tune.FineTuneTask(images, np.array([0, 1]), spec.resolution, plain, plain, ONE_STEP, epochs=1)


def _assert_zeros_of(model: nn.Module, path: Path, what: str) -> None:
    """Each sparse layer of ``model`` is in the file at ``path`` with its zeros; rounding may add some."""
    found = list(sparse_file.zeros(path))
    for name, layer in sparsity.layers(model).items():
        zero = sparsity.zeros(layer)
        mine = next((i for i, other in enumerate(found) if other.shape == zero.shape and bool(other[zero].all())), None)
        assert mine is not None, f"{name} is not in the {what} file with its zeros"
        del found[mine]
