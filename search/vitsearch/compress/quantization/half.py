"""fp16 in the file and, where the runtime has kernels for it, in the arithmetic; images and logits stay fp32.

onnxruntime has few fp16 kernels for CPUs and converts to fp32 and back around the other nodes, so half the size costs
time (``benchmarks/README.md``). On a GPU the matrix units compute in fp16.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper
from onnxruntime.transformers.float16 import convert_float_to_float16

from vitsearch.compress.quantization.onnx_graph import in_order, replace_nodes
from vitsearch.errors import StageError

LARGEST = float(np.finfo(np.float16).max)


def halve(onnx_in: Path, onnx_out: Path) -> None:
    """Write ``onnx_in`` (fp32) to ``onnx_out``; :class:`StageError` when a weight exceeds 65504, the largest of
    fp16."""
    model = onnx.load(onnx_in)
    for tensor in model.graph.initializer:
        if (
            tensor.data_type == onnx.TensorProto.FLOAT
            and np.abs(numpy_helper.to_array(tensor)).max(initial=0) > LARGEST
        ):
            raise StageError("export", "overflow", f"{tensor.name} has values beyond {LARGEST:g}, the largest of fp16")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="the float32 number .* will be truncated")  # towards 1e-7, not 0
        half = convert_float_to_float16(model, keep_io_types=True)
    replace_nodes(half.graph, in_order(half.graph), {})  # the converter appends some casts behind their readers
    onnx.checker.check_model(half)
    onnx.save(half, onnx_out)
