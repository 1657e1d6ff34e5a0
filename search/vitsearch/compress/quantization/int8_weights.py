"""Weights as int8 in the file, arithmetic in fp32: a quarter of the size, and no calibration images.

The weights of MatMul, Gemm and Conv nodes become `DequantizeLinear(int8, scale)`, symmetric, with one scale per
output channel. Each runtime handles this in its own way: onnxruntime keeps the int8 and multiplies by blocks
(`MatMulNBits`), so it is slower than fp32 on a small model; nothing folds it back in the file.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from vitsearch.compress.quantization.onnx_graph import attributes, constants, replace_nodes

LEAST_ELEMENTS = 256
"""Below it the scales and the node take as much as is won."""


@dataclass(frozen=True, eq=False)
class Weight:
    """The constant that `node` reads as its weight, under `name`; `axis` counts its output channels."""

    node: onnx.NodeProto
    name: str
    values: NDArray[np.float32]
    axis: int


def quantize_weights(onnx_in: Path, onnx_out: Path) -> None:
    """Write `onnx_in` (fp32) to `onnx_out`. A model without such weights is written unchanged."""
    model = onnx.load(onnx_in)
    by_node = {weight.node.output[0]: weight for weight in _weights(model.graph)}
    nodes: list[onnx.NodeProto] = []
    new: dict[str, NDArray[Any]] = {}
    for node in model.graph.node:
        weight = by_node.get(node.output[0])
        if weight is not None:
            prefix = f"{weight.name}/{weight.axis}"
            if f"{prefix}/int8" not in new:
                new[f"{prefix}/int8"], new[f"{prefix}/scale"] = symmetric(weight.values, weight.axis)
                inputs, output = [f"{prefix}/int8", f"{prefix}/scale"], [f"{prefix}/fp32"]
                nodes.append(helper.make_node("DequantizeLinear", inputs, output, axis=weight.axis))
            node.input[1] = f"{prefix}/fp32"
        nodes.append(node)
    replace_nodes(model.graph, nodes, new)
    onnx.checker.check_model(model)
    onnx.save(model, onnx_out)


def symmetric(
    values: NDArray[np.float32], axis: int, least: NDArray[np.float64] | float = 0.0
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """int8 `values` in [-127, 127], of the same shape, and the scale (channels,) of each channel along `axis`: at least
    `least`, and 1 for a channel of zeros where that is 0.
    """
    others = tuple(index for index in range(values.ndim) if index != axis)
    largest = np.abs(values).max(axis=others)
    scale = np.maximum(largest / 127, least).astype(np.float32)
    scale[scale == 0.0] = 1.0
    shape = [-1 if index == axis else 1 for index in range(values.ndim)]
    return np.rint(values / scale.reshape(shape)).clip(-127, 127).astype(np.int8), scale


def _weights(graph: onnx.GraphProto) -> Iterator[Weight]:
    tensors = constants(graph)
    for node in graph.node:
        axis = _channels(node)
        tensor = tensors.get(node.input[1]) if axis is not None else None
        if axis is None or tensor is None or tensor.data_type != onnx.TensorProto.FLOAT:
            continue
        values = numpy_helper.to_array(tensor)
        if values.ndim >= 2 and values.size >= LEAST_ELEMENTS:
            yield Weight(node, tensor.name, values, axis % values.ndim)


def _channels(node: onnx.NodeProto) -> int | None:
    """The axis of the output channels in the second input; `None` where that is not a weight."""
    if node.op_type == "MatMul":
        return -1
    if node.op_type == "Gemm":
        return 0 if attributes(node).get("transB") else 1
    return 0 if node.op_type == "Conv" else None
