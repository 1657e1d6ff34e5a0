"""OpenVINO's own pairs of files (IR), from ONNX: fp32, bf16 and fp16 as they are, int8 by NNCF or by learned ranges.

    fp32, bf16   one file; the precision of the arithmetic is an option of the run, pinned and read back
    fp16         weights stored in fp16
    int8_ptq     NNCF's post-training quantization (products and convolutions, the inputs too)
    int8_qat     Q/DQ pairs around linear layers, at the learned ranges; OpenVINO makes int8 kernels of them

NNCF runs with its recipe for transformers, without SmoothQuant. On 2,000 validation images (64 for calibration) the
three Fashion-MNIST bases had .9060, .9120 and .9255 with it, .9050, .9090 and .9265 without the recipe, and .9035,
.9120 and .9255 with SmoothQuant, which in NNCF 3.4 gave a small model of one LayerNorm an error of half its logits.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitsearch.errors import StageError
from vitsearch.export.base import ExportedFile, Exporter, ExportTask
from vitsearch.models.graph import INPUT

if TYPE_CHECKING:
    from torch import nn

OFF = -1
"""As the strength of SmoothQuant."""


class OpenVinoExporter(Exporter):
    """See :class:`vitsearch.export.base.Exporter`."""

    runtime = "openvino"
    packages = ("openvino", "nncf")

    def export(self, model: nn.Module, task: ExportTask, folder: Path) -> ExportedFile:
        _switch_off_telemetry()
        import openvino

        from vitsearch.compress.quantization import fake_quant
        from vitsearch.compress.quantization.qdq import write_pairs
        from vitsearch.export.graph.onnx_file import convert

        plain, final = folder / "fp32.onnx", folder / "model.xml"
        precision, learned = task.deployment.precision, fake_quant.learned(model)
        with fake_quant.unrounded(model):
            convert(model, task.shape, plain, task.opset, task.deployment.batch)
        try:
            if precision == "int8_qat":
                write_pairs(plain, plain, task.images, learned)
            found = openvino.Core().read_model(plain)
            if precision == "int8_ptq":
                found = _quantized(found, task)
            openvino.save_model(found, final, compress_to_fp16=precision == "fp16")
            options = (("fused_attention", "off"),) if _is_fused_wrongly(plain) else ()
        except (RuntimeError, ValueError) as error:
            raise StageError("export", "crash", f"openvino: {_last_line(error)}") from error
        return ExportedFile(final, options=options)


def _is_fused_wrongly(onnx_path: Path) -> bool:
    """Whether an attention has as many tokens as heads: OpenVINO 2026.4 then fuses it without the transposition that
    follows it, and its result is wrong by half."""
    import onnx

    model = onnx.shape_inference.infer_shapes(onnx.load(onnx_path))
    shapes = {
        value.name: [size.dim_value for size in value.type.tensor_type.shape.dim] for value in model.graph.value_info
    }
    attentions = (shapes.get(node.output[0], []) for node in model.graph.node if node.op_type == "Softmax")
    return any(len(shape) == 4 and 0 < shape[1] == shape[2] == shape[3] for shape in attentions)


def _switch_off_telemetry() -> None:
    """OpenVINO and NNCF report their use over the network and write into the home folder."""
    os.environ["CI"] = os.environ["NNCF_CI"] = "true"


def _quantized(model: Any, task: ExportTask) -> Any:
    """The model with NNCF's quantizers, calibrated on the images of the task."""
    _switch_off_telemetry()
    import nncf
    from nncf.quantization import advanced_parameters as advanced

    nncf.set_log_level(logging.ERROR)
    batch = task.deployment.batch or 1
    batches = [task.images[start : start + batch] for start in range(0, len(task.images) - batch + 1, batch)]
    with contextlib.redirect_stdout(io.StringIO()):  # its progress bars
        return nncf.quantize(
            model,
            nncf.Dataset([{INPUT: images} for images in batches]),
            subset_size=len(batches),
            model_type=nncf.ModelType.TRANSFORMER,
            advanced_parameters=advanced.AdvancedQuantizationParameters(
                smooth_quant_alphas=advanced.AdvancedSmoothQuantParameters(matmul=OFF, convolution=OFF)
            ),
        )


def _last_line(error: Exception) -> str:
    return str(error).strip().splitlines()[-1]
