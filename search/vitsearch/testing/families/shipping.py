"""What ships computes what was trained, in its own runtime and at every precision."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from vitsearch import backbones
from vitsearch.compress.quantization import fake_quant, quantize
from vitsearch.core import precisions
from vitsearch.export import deploy, evaluate
from vitsearch.export.onnx_file import OnnxExporter
from vitsearch.testing.families.subject import TOLERANCE, Subject

INT8_ERROR = 0.2
"""Of the norm of the logits; random weights have no margin, so this only catches a broken graph."""


class ShippingTests(Subject):
    """Of a cut model."""

    def test_what_ships_gives_what_was_trained(self) -> None:
        """With batch norms that have something to merge; the trained model is left as it was."""
        whole, block_structure = self._model()
        cut = self._pruned(whole, self._effect(block_structure, self.cuts_heads, self.cuts_ffn))
        _use_norms(cut)
        before = self._logits(cut)
        ships = deploy.deployed(cut, backbones.find(self.spec.backbone), tuple(self._images().shape))
        scale = float(before.abs().max())
        assert float((self._logits(ships) - before).abs().max()) <= 10 * TOLERANCE * scale
        assert torch.equal(self._logits(cut), before)

    def test_a_cut_model_exports_and_agrees_with_its_runtime(self) -> None:
        whole, block_structure = self._model()
        cut = self._pruned(whole, self._effect(block_structure, self.cuts_heads, self.cuts_ffn))
        ships = self._ships(cut)
        with tempfile.TemporaryDirectory() as folder:
            report = OnnxExporter().export(ships, tuple(self._images().shape), Path(folder) / "model.onnx")
        assert report.parity_rel <= 1e-4

    @pytest.mark.parametrize("precision", ["fp16", "int8_dynamic", "int8_ptq", "int8_weights", "int8_mixed"])
    def test_a_cut_model_is_made_at_every_precision(self, precision: str) -> None:
        """``int8_mixed`` with its last linear layer in fp32."""
        if backbones.supports(self.spec.backbone, "quantization", precision):
            return
        whole, block_structure = self._model()
        cut = self._pruned(whole, self._effect(block_structure, self.cuts_heads, self.cuts_ffn))
        ships = self._ships(cut)
        with tempfile.TemporaryDirectory() as folder:
            plain, small = Path(folder) / "fp32.onnx", Path(folder) / "int8.onnx"
            OnnxExporter().export(ships, tuple(self._images().shape), plain)
            linear = [name for name, module in cut.named_modules() if isinstance(module, nn.Linear)]
            left = fake_quant.weights_of(cut, linear[-1:] if precision in precisions.MIXED else ())
            quantize.quantize(plain, small, precision, self._images().numpy(), left=left)
            found = evaluate.logits(small, self._images().numpy(), batch_size=2)
            units = backbones.find(self.spec.backbone).units(cut)
            computes_in_int8 = precision in ("int8_dynamic", "int8_ptq", "int8_mixed")  # convolutions stay fp32
            if not computes_in_int8 or any(isinstance(unit.proj or unit.fc2, nn.Linear) for unit in units):
                assert small.stat().st_size < plain.stat().st_size
        expected = self._logits(cut).numpy()
        assert np.linalg.norm(found - expected) <= INT8_ERROR * np.linalg.norm(expected)


def _use_norms(model: nn.Module) -> None:
    generator = torch.Generator().manual_seed(0)
    for norm in model.modules():
        if not isinstance(norm, nn.modules.batchnorm._BatchNorm):
            continue
        if norm.running_mean is not None and norm.running_var is not None:
            norm.running_mean.normal_(0, 0.1, generator=generator)
            norm.running_var.uniform_(0.5, 1.5, generator=generator)
