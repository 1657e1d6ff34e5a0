"""Every operator quantized, as Qualcomm's NPUs want it: by onnxruntime's own tools for them.

A pair of QuantizeLinear and DequantizeLinear stands around each operator, and the NPU computes all of them in integers:

    activations   uint8 or uint16, one scale and zero point: the lowest and highest value on the calibration images
    weights       uint8, one scale and zero point. With int8 weights a ViT fell into 14 pieces with 13
                  LayerNormalizations between them on the CPU; with uint8 it is one (onnxruntime-qnn 2.7.0, 2026-11-29)

A GELU in parts becomes one operator first. On a CPU the file gives the same classes: it rounds at the same places.
"""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize
from onnxruntime.quantization.execution_providers.qnn import get_qnn_qdq_config, qnn_preprocess_model

from vitsearch.compress.quantization.int8_static import CALIBRATION_BATCH
from vitsearch.errors import StageError
from vitsearch.models.onnx_format import INPUT

Floats = NDArray[np.float32]
ACTIVATIONS = {8: QuantType.QUInt8, 16: QuantType.QUInt16}


def quantize_every_operator(onnx_in: Path, onnx_out: Path, images: Floats, activation_bits: int) -> None:
    """Write `onnx_in` (fp32, of a fixed batch) to `onnx_out` with 8-bit weights and activations of 8 or 16 bits.

    `images` are float32 (n, channels, height, width), normalised. `StageError` when a range has NaN or infinity, or
    when onnxruntime's tools cannot quantize the graph.
    """
    with tempfile.TemporaryDirectory() as folder:
        fused, quantized = Path(folder, "fused.onnx"), Path(folder, "quantized.onnx")
        try:
            start = fused if qnn_preprocess_model(str(onnx_in), str(fused)) else onnx_in
            reader = _Batches(onnx.load(start), images)
            settings = get_qnn_qdq_config(str(start), reader, activation_type=ACTIVATIONS[activation_bits])
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "All-NaN")  # its scale is refused below
                quantize(str(start), str(quantized), settings)
        except (AssertionError, RuntimeError, ValueError) as error:  # what its tools raise for NaN, or for other graphs
            said = str(error).strip().splitlines() or [type(error).__name__]
            raise StageError("export", "crash", f"onnxruntime.quantization: {said[0]}") from error
        model = onnx.load(quantized)
    _refuse_infinite(model.graph)
    _drop_unused_domains(model)
    onnx.checker.check_model(model)
    onnx.save(model, onnx_out)


class _Batches(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
    """The images in runs of the file's batch; the last run has the first ones again."""

    def __init__(self, model: onnx.ModelProto, images: Floats) -> None:
        size = model.graph.input[0].type.tensor_type.shape.dim[0].dim_value or min(CALIBRATION_BATCH, len(images))
        full = np.resize(images, (-(-len(images) // size) * size, *images.shape[1:]))
        self._runs = iter(np.split(full, len(full) // size))

    def get_next(self) -> dict[str, Any] | None:
        images = next(self._runs, None)
        return None if images is None else {INPUT: np.ascontiguousarray(images)}


def _refuse_infinite(graph: onnx.GraphProto) -> None:
    scales = {node.input[1] for node in graph.node if node.op_type == "QuantizeLinear"}
    for tensor in graph.initializer:
        if tensor.name in scales and not np.isfinite(numpy_helper.to_array(tensor)).all():
            name = tensor.name.removesuffix("_scale")
            raise StageError("export", "not_finite", f"{name} has NaN or infinity on the calibration images")


def _drop_unused_domains(model: onnx.ModelProto) -> None:
    """The tools declare every domain that onnxruntime has."""
    used = {node.domain for node in model.graph.node} | {""}
    kept = [entry for entry in model.opset_import if entry.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(kept)
