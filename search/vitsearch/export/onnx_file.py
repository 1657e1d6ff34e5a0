"""ONNX through torch's tracing exporter: 4 to 17 times faster than the newer one, numerically the same."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import nn

from vitsearch.errors import StageError
from vitsearch.export.base import ExportReport
from vitsearch.export.evaluate import logits as runtime_logits

INPUT, OUTPUT = "images", "logits"
TOLERANCE = 1e-4
PARITY_BATCHES = (1, 3)
SEED = 0


class OnnxExporter:
    """One file, float32, dynamic batch."""

    def export(self, model: nn.Module, shape: tuple[int, ...], path: Path, opset: int) -> ExportReport:
        model.eval()
        generator = torch.Generator().manual_seed(SEED)
        example = torch.randn(shape, generator=generator)
        with warnings.catch_warnings(), torch.inference_mode():
            warnings.simplefilter("ignore")  # the tracer's notes on shapes that are constant on purpose
            torch.onnx.export(
                model,
                (example,),
                str(path),
                opset_version=opset,
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_axes={INPUT: {0: "batch"}, OUTPUT: {0: "batch"}},
                dynamo=False,
            )
        graph = onnx.load(str(path))
        onnx.checker.check_model(graph)
        parity = max(_parity(model, path, (batch, *shape[1:]), generator) for batch in PARITY_BATCHES)
        if not parity <= TOLERANCE:
            raise StageError("export", "parity", f"onnxruntime and torch differ by {parity:.2e} of the largest logit; allowed: {TOLERANCE:.0e}")
        return ExportReport(parity, opset, len(graph.graph.node))


def _parity(model: nn.Module, path: Path, shape: tuple[int, ...], generator: torch.Generator) -> float:
    images = torch.randn(shape, generator=generator)
    with torch.inference_mode():
        wanted = model(images).numpy()
    found = runtime_logits(path, images.numpy(), batch_size=shape[0])
    return float(np.abs(found - wanted).max() / max(np.abs(wanted).max(), 1e-12))
