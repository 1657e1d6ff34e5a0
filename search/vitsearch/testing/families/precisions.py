"""The file of a cut model at every precision computes what torch computes, to within rounding."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from vitsearch import backbones
from vitsearch.compress.quantization import fake_quant, quantize
from vitsearch.compress.quantization.layers import Coverage
from vitsearch.core import precisions
from vitsearch.core.onnx_exporters import exporter_of
from vitsearch.export import evaluate
from vitsearch.export.graph.onnx_file import write_onnx
from vitsearch.export.processor import saturates_int8
from vitsearch.testing.families.subject import ExportedModel, Subject

INT8_ERROR = 0.2
"""Of the norm of the logits; random weights have no margin, so this only catches a broken graph."""
CONVOLUTIONS_ERROR = 0.4
"""The same where convolutions are quantized too; a MobileViTv2 of random weights reaches 0.3."""
SATURATES = "this processor saturates products of int8 (x86 without VNNI)"
ROUNDING_ERROR = 0.05
"""Of the norm of the logits, of a file against the model that rounds in torch: a value between two steps may go
either way."""


class PrecisionTests(Subject):
    """Post-training precisions from one exported file; training for int8 from a model of its own."""

    @pytest.mark.parametrize("precision", ["fp16", "int8_dynamic", "int8_ptq", "int8_weights", "int8_mixed"])
    def test_a_cut_model_is_quantized_to(self, precision: str, exported: ExportedModel, tmp_path: Path) -> None:
        """`int8_mixed` keeps the last linear layer in fp32."""
        if backbones.supports(self.spec.backbone, "quantization", precision):
            return
        computes_in_int8 = precision in ("int8_dynamic", "int8_ptq", "int8_mixed")  # convolutions stay fp32
        if computes_in_int8 and saturates_int8():
            pytest.skip(SATURATES)
        cut, plain, small, images = exported.cut, exported.path, tmp_path / "small.onnx", self._images().numpy()
        linear = [name for name, module in cut.named_modules() if isinstance(module, nn.Linear)]
        left = fake_quant.weights_of(cut, linear[-1:] if precision in precisions.MIXED else ())
        quantize.quantize(plain, small, precision, images, covered=Coverage(left=left))
        actual = evaluate.logits(small, images, batch_size=2)
        units = backbones.find(self.spec.backbone).units(cut)
        if not computes_in_int8 or any(isinstance(unit.proj or unit.fc2, nn.Linear) for unit in units):
            assert small.stat().st_size < plain.stat().st_size
        expected = self._logits(cut).numpy()
        assert np.linalg.norm(actual - expected) <= INT8_ERROR * np.linalg.norm(expected)

    def test_convolutions_of_a_cut_model_are_quantized(self, exported: ExportedModel, tmp_path: Path) -> None:
        if reason := backbones.supports(self.spec.backbone, "quantized_ops", precisions.ALL):
            pytest.skip(reason)
        if saturates_int8():
            pytest.skip(SATURATES)
        small, images = tmp_path / "small.onnx", self._images().numpy()
        quantize.quantize(exported.path, small, "int8_ptq", images, covered=Coverage(precisions.ALL))
        actual = evaluate.logits(small, images, batch_size=2)
        expected = self._logits(exported.cut).numpy()
        assert np.linalg.norm(actual - expected) <= CONVOLUTIONS_ERROR * np.linalg.norm(expected)
        assert small.stat().st_size < exported.path.stat().st_size

    def test_a_cut_model_trains_for_int8_and_its_file_agrees(self, tmp_path: Path) -> None:
        """In a family of convolutions only the classifier rounds."""
        reason = backbones.supports(self.spec.backbone, "quantization", "int8_qat")
        if reason is not None:
            pytest.skip(reason)
        if saturates_int8():
            pytest.skip(SATURATES)
        whole, block_structure = self._model()
        cut = self._pruned(whole, self._narrow(block_structure))
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
        plain, small = tmp_path / "fp32.onnx", tmp_path / "int8.onnx"
        ships = self._ships(cut.eval())
        with fake_quant.unrounded(ships):
            write_onnx(ships, images.shape, plain, exporter=exporter_of(self.spec.backbone))
        quantize.quantize(plain, small, "int8_qat", images, fake_quant.learned(ships))
        actual = evaluate.logits(small, images, batch_size=2)
        expected = self._logits(cut).numpy()
        assert np.linalg.norm(actual - expected) <= ROUNDING_ERROR * np.linalg.norm(expected)
