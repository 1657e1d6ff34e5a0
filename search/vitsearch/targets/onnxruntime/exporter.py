"""ONNX files for onnxruntime, at every precision that it runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vitsearch.core.precisions import ALL, QUANTIZED_BITS, is_npu, reads_fused
from vitsearch.export.base import ExportedFile, Exporter, ExportTask

if TYPE_CHECKING:
    from torch import nn


class OnnxRuntimeExporter(Exporter):
    """See `vitsearch.export.base.Exporter`."""

    runtime = "onnxruntime"

    def export(self, model: nn.Module, task: ExportTask, folder: Path) -> ExportedFile:
        from vitsearch.compress.quantization import fake_quant, quantize
        from vitsearch.compress.quantization.layers import Coverage
        from vitsearch.export.graph.onnx_file import convert

        plain, final = folder / "fp32.onnx", folder / "model.onnx"
        with fake_quant.unrounded(model):
            convert(model, task.shape, plain, task.opset, task.deployment.batch, task.exporter, task.output)
        if is_npu(task.deployment.runtime, task.deployment.provider):
            quantize.quantize_for_npu(plain, final, task.deployment.precision, task.images)
            return ExportedFile(final, rounds_more=task.deployment.precision in QUANTIZED_BITS)
        learned = fake_quant.learned(model)
        covered = Coverage(task.quantized_ops, fake_quant.weights_of(model, task.fp32_layers))
        quantize.quantize(plain, final, task.deployment.precision, task.images, learned, covered)
        if reads_fused(self.runtime, task.deployment.provider, task.deployment.precision, task.version):
            from vitsearch.targets.onnxruntime.fusions import fuse

            fuse(final)
        return ExportedFile(final, rounds_more=task.quantized_ops == ALL)
