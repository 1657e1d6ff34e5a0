"""ONNX files for onnxruntime, at every precision that it runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vitsearch.core.precisions import ALL
from vitsearch.export.base import ExportedFile, Exporter, ExportTask

if TYPE_CHECKING:
    from torch import nn


FUSED_SINCE = (1, 17)
"""The oldest version in which MultiHeadAttention is used; it came to CPUs in 1.15."""


class OnnxRuntimeExporter(Exporter):
    """See :class:`vitsearch.export.base.Exporter`."""

    runtime = "onnxruntime"

    def export(self, model: nn.Module, task: ExportTask, folder: Path) -> ExportedFile:
        from vitsearch.compress.quantization import fake_quant, quantize
        from vitsearch.compress.quantization.layers import Coverage
        from vitsearch.export.graph.onnx_file import convert

        plain, final = folder / "fp32.onnx", folder / "model.onnx"
        with fake_quant.unrounded(model):
            convert(model, task.shape, plain, task.opset, task.deployment.batch)
        learned = fake_quant.learned(model)
        covered = Coverage(task.quantized_ops, fake_quant.weights_of(model, task.fp32_layers))
        quantize.quantize(plain, final, task.deployment.precision, task.images, learned, covered)
        if _reads_fused(task) and task.deployment.precision != "fp16":
            from vitsearch.export.graph.onnxruntime_fusions import fuse

            fuse(final)
        return ExportedFile(final, rounds_more=task.quantized_ops == ALL)


def _reads_fused(task: ExportTask) -> bool:
    """Whether the runtime has the fused operators: only its provider on CPUs, and not in old versions."""
    version = tuple(int(part) for part in (task.version or "").split(".")[:2] if part.isdigit())
    return task.deployment.provider == "cpu" and (not version or version >= FUSED_SINCE)
