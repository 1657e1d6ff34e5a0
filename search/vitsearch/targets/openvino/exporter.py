"""OpenVINO's own pairs of files (IR), from ONNX: fp32, bf16 and fp16 as they are, int8 by NNCF or by learned ranges.

    fp32, bf16   one file; the precision of the arithmetic is an option of the run, pinned and read back
    fp16         weights stored in fp16
    int8_ptq     NNCF's post-training quantization (products and convolutions, or products alone)
    int8_qat     Q/DQ pairs around linear layers, at the learned ranges, and where convolutions are covered around them
                 too, at calibrated ranges; OpenVINO makes int8 kernels of them

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

from vitsearch.core.precisions import ALL, LINEAR
from vitsearch.errors import StageError
from vitsearch.export.base import ExportedFile, Exporter, ExportTask
from vitsearch.models.onnx_format import INPUT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import onnx
    from torch import nn

    from vitsearch.compress.quantization.layers import Floats

NARROW_FFN = 256
"""Channels: FFNs of 96 to 256 crashed in fp32, of 272, 384, 512 and 768 did not (192 channels around them; an AMD EPYC
with AVX2 and one with AVX-512, 2026-11-27). In bf16 none crashed, and unfused they take 5 % longer; in int8 none
crashed on the second, and unfused they take 1 % longer."""
OFF = -1
"""As the strength of SmoothQuant."""
LEAST_CHANNELS = 16
"""Of convolutions between pairs. At least 1, 16 and 32 took .90, .86 and .85 of the CPU time of fp32
(efficientvit_fmnist), .70, .70 and .74 (efficientvit_b0), .76, .77 and .81 (mobilevit_xxs), and the accuracies of
efficientvit_fmnist were .9080, .9100 and .9120; one thread of an AMD EPYC with AVX512-VNNI, OpenVINO 2026.4,
2026-11-27."""
CONVOLUTIONS = ("Convolution", "GroupConvolution", "ConvolutionBackpropData", "GroupConvolutionBackpropData")
"""OpenVINO's operators."""


class OpenVinoExporter(Exporter):
    """See `vitsearch.export.base.Exporter`."""

    runtime = "openvino"
    packages = ("openvino", "nncf")

    def export(self, model: nn.Module, task: ExportTask, folder: Path) -> ExportedFile:
        _switch_off_telemetry()
        import openvino

        from vitsearch.compress.quantization import fake_quant
        from vitsearch.compress.quantization.layers import Coverage
        from vitsearch.compress.quantization.qdq import write_pairs
        from vitsearch.export.graph.onnx_file import convert

        plain, final = folder / "fp32.onnx", folder / "model.xml"
        precision, learned = task.deployment.precision, fake_quant.learned(model)
        left = fake_quant.weights_of(model, task.fp32_layers)
        with fake_quant.unrounded(model):
            convert(model, task.shape, plain, task.opset, task.deployment.batch, task.exporter, task.output)
        options = (("fused_subgraphs", "off"),) if _is_fused_wrongly(plain, precision) else ()
        try:
            if precision == "int8_qat":
                covered = Coverage(task.quantized_ops, left, LEAST_CHANNELS)
                write_pairs(plain, plain, task.images, learned, covered)
            converted = openvino.Core().read_model(plain)
            if precision == "int8_ptq":
                converted = _quantized(converted, task, left)
            openvino.save_model(converted, final, compress_to_fp16=precision == "fp16")
        except (RuntimeError, ValueError) as error:
            raise StageError("export", "crash", f"openvino: {_last_line(error)}") from error
        return ExportedFile(final, options=options, rounds_more=task.quantized_ops == ALL)


def _is_fused_wrongly(onnx_path: Path, precision: str) -> bool:
    """Whether OpenVINO 2026.4 must not fuse subgraphs of a model on CPUs."""
    import onnx

    graph = onnx.shape_inference.infer_shapes(onnx.load(onnx_path)).graph
    return _has_as_many_tokens_as_heads(graph) or (precision != "bf16" and _has_narrow_ffn(graph))


def _has_as_many_tokens_as_heads(graph: onnx.GraphProto) -> bool:
    """Whether an attention has: it is then fused without the transposition that follows it, and wrong by half."""
    shapes = {value.name: [size.dim_value for size in value.type.tensor_type.shape.dim] for value in graph.value_info}
    attentions = (shapes.get(node.output[0], []) for node in graph.node if node.op_type == "Softmax")
    return any(len(shape) == 4 and 0 < shape[1] == shape[2] == shape[3] for shape in attentions)


def _has_narrow_ffn(graph: onnx.GraphProto) -> bool:
    """Whether an FFN with a GELU has at most `NARROW_FFN` channels: it is fused to one operator, and that is a
    segmentation fault while a model is compiled for fp32."""
    widths = {weight.name: weight.dims[-1] for weight in graph.initializer if len(weight.dims) == 2}
    narrow = {
        node.output[0]
        for node in graph.node
        if node.op_type in ("Gemm", "MatMul") and 0 < widths.get(node.input[1], 0) <= NARROW_FFN
    }
    gelus = [node for node in graph.node if node.op_type in ("Gelu", "Erf")]
    before = {output: node for node in graph.node for output in node.output}
    return any(_source(node.input[0], before) in narrow for node in gelus)


def _source(name: str, before: Mapping[str, onnx.NodeProto]) -> str:
    """The input of an activation without the scaling and bias in front of it."""
    while name in before and before[name].op_type in ("Div", "Mul", "Add"):
        name = before[name].input[0]
    return name


def _switch_off_telemetry() -> None:
    """OpenVINO and NNCF report their use over the network and write into the home folder."""
    os.environ["CI"] = os.environ["NNCF_CI"] = "true"


def _quantized(model: Any, task: ExportTask, left: Sequence[Floats]) -> Any:
    """The model with NNCF's quantizers, calibrated on the images of the task, but for the products with the weights
    (inputs, outputs) of `left`."""
    _switch_off_telemetry()
    import nncf
    from nncf.quantization import advanced_parameters as advanced

    nncf.set_log_level(logging.ERROR)
    batches = task.calibration_batches()
    types = list(CONVOLUTIONS) if task.quantized_ops == LINEAR else []
    names = [product.get_friendly_name() for product in model.get_ops() if _multiplies(product, left)]
    with contextlib.redirect_stdout(io.StringIO()):  # its progress bars
        return nncf.quantize(
            model,
            nncf.Dataset([{INPUT: images} for images in batches]),
            subset_size=len(batches),
            model_type=nncf.ModelType.TRANSFORMER,
            ignored_scope=nncf.IgnoredScope(names=names, types=types, validate=False),
            advanced_parameters=advanced.AdvancedQuantizationParameters(
                smooth_quant_alphas=advanced.AdvancedSmoothQuantParameters(matmul=OFF, convolution=OFF)
            ),
        )


def _multiplies(operator: Any, weights: Sequence[Floats]) -> bool:
    """Whether an operator of OpenVINO is a product with one of these weights (inputs, outputs)."""
    import numpy as np

    if operator.get_type_name() != "MatMul":
        return False
    given = operator.input_value(1).get_node()
    if given.get_type_name() != "Constant":
        return False
    values = given.data.T if operator.get_attributes()["transpose_b"] else given.data
    return any(np.array_equal(values, weight) for weight in weights)


def _last_line(error: Exception) -> str:
    return str(error).strip().splitlines()[-1]
