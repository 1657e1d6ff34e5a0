"""ONNX files by torch's TorchScript exporter, checked in onnxruntime.

This exporter is several times faster than the newer one, with the same numbers on these models.
"""

from __future__ import annotations

import time
import warnings
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import nn
from torch.jit._trace import TracerWarning

from vitsearch.errors import StageError
from vitsearch.export import evaluate, symbolics
from vitsearch.export.base import PARITY_LIMIT, ExportReport
from vitsearch.models.graph import INPUT, OPSET, OUTPUT
from vitsearch.models.surgery import unfused_attention

PARITY_BATCHES = (1, 3)


class OnnxExporter:
    """See :class:`vitsearch.export.base.Exporter`."""

    def export(self, model: nn.Module, example_shape: tuple[int, ...], path: Path, opset: int = OPSET) -> ExportReport:
        begin = time.process_time()
        was_training = model.training
        try:
            _write(model.eval(), torch.zeros(1, *example_shape[1:]), path, opset)
            written = onnx.load(path)
            onnx.checker.check_model(written)
            absolute, relative = _parity(model, example_shape[1:], path)
        finally:
            model.train(was_training)
        seconds = time.process_time() - begin
        return ExportReport(absolute, relative, opset, seconds, len(written.graph.node), path.stat().st_size)


def _write(model: nn.Module, example: torch.Tensor, path: Path, opset: int) -> None:
    symbolics.register()
    with warnings.catch_warnings(), unfused_attention(model), torch.inference_mode():
        warnings.simplefilter("ignore", DeprecationWarning)  # from this exporter, which is chosen on purpose
        warnings.simplefilter("ignore", TracerWarning)  # from timm's checks of shapes
        warnings.filterwarnings(
            "ignore", message="Constant folding - Only steps=1"
        )  # from padding; onnxruntime folds it
        try:
            torch.onnx.export(
                model,
                (example,),
                str(path),
                dynamo=False,
                opset_version=opset,
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_axes={INPUT: {0: "batch"}, OUTPUT: {0: "batch"}},
            )
        except (RuntimeError, torch.onnx.OnnxExporterError) as error:
            raise StageError("export", "crash", str(error).strip().splitlines()[0]) from error


def _parity(model: nn.Module, shape: tuple[int, ...], path: Path) -> tuple[float, float]:
    """Largest difference to torch on random images: absolute, and over the largest logit."""
    absolute = relative = 0.0
    generator = torch.Generator().manual_seed(0)
    for batch in PARITY_BATCHES:
        images = torch.randn(batch, *shape, generator=generator)
        with torch.inference_mode():
            expected = model(images).numpy()
        found = evaluate.logits(path, images.numpy(), batch_size=batch)
        if not (np.isfinite(expected).all() and np.isfinite(found).all()):
            raise StageError("export", "not_finite", "the logits of random images have NaN or infinity")
        off, largest = float(np.abs(found - expected).max()), float(np.abs(expected).max())
        absolute = max(absolute, off)
        relative = max(relative, off / largest if off else 0.0)
    if relative > PARITY_LIMIT:
        difference = f"onnxruntime and torch differ by {relative:.1e} of the largest logit"
        raise StageError("export", "parity", f"{difference}, allowed {PARITY_LIMIT:.0e}")
    return absolute, relative
