"""MACs of the operators of a TFLite file, by the types of their tensors. LiteRT shows no graph of its own.

XNNPACK computes a product of floats with int8 weights in int8: it quantizes the floats as they come. Weights that are
only stored in int8 pass through an operator of their own (`DEQUANTIZE`) first, and count as what it gives.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from vitsearch.core.plan import Deployment
from vitsearch.export.evaluate import CPU, OpenFile
from vitsearch_agent.artifacts import tflite_file
from vitsearch_agent.artifacts.tflite_file import Operator, Tensor

CONV_2D, DEPTHWISE_CONV_2D, FULLY_CONNECTED, TRANSPOSE_CONV, BATCH_MATMUL = 3, 4, 9, 67, 126
"""Numbers of operators in the schema of TFLite (`BuiltinOperator`)."""
TYPES = {0: "fp32", 1: "fp16", 3: "int8", 7: "int16", 9: "int8", 17: "int8", 18: "bf16"}
"""`TensorType` of the schema -> precision; 4-bit weights are multiplied in int8."""


def macs(path: Path, deployment: Deployment, opened: OpenFile | None = None) -> Mapping[str, int]:
    """Precision -> MACs of one run on a CPU. Empty for another processor."""
    if deployment.provider != CPU:
        return {}
    with path.open("rb") as stream:
        operators = tflite_file.operators(stream, path.stat().st_size)
    count: Counter[str] = Counter()
    for operator in operators:
        count.update(_of(operator))
    return count


def _of(operator: Operator) -> dict[str, int]:
    result, inputs = operator.outputs[0] if operator.outputs else None, operator.inputs
    if operator.code == TRANSPOSE_CONV:  # the shape of its result, weights, images
        weights, images = inputs[1], inputs[2]
        return _counted(images, weights, math.prod(_shape(images)) * math.prod(_shape(weights)[:3]))
    if operator.code not in (CONV_2D, DEPTHWISE_CONV_2D, FULLY_CONNECTED, BATCH_MATMUL):
        return {}
    left, right, elements = inputs[0], inputs[1], math.prod(_shape(result))
    if operator.code == CONV_2D:
        return _counted(left, right, elements * math.prod(_shape(right)[1:]))
    if operator.code == DEPTHWISE_CONV_2D:
        return _counted(left, right, elements * math.prod(_shape(right)[1:3]))
    if operator.code == FULLY_CONNECTED:
        return _counted(left, right, elements * _shape(right)[-1])
    is_transposed = _shape(left)[-2] != _shape(result)[-2]
    return _counted(left, right, elements * _shape(left)[-2 if is_transposed else -1])


def _counted(left: Tensor | None, right: Tensor | None, count: int) -> dict[str, int]:
    """`count` under the precision of the smaller of both types: floats are rounded to meet int8 weights."""
    kinds = [TYPES.get(each.type, "fp32") for each in (left, right) if each is not None]
    return {kinds[-1] if kinds[0] == "fp32" else kinds[0]: count}


def _shape(tensor: Tensor | None) -> tuple[int, ...]:
    return () if tensor is None else tensor.shape
