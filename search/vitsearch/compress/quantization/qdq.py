"""Explicit quantization: QuantizeLinear and DequantizeLinear around the layers of an ONNX file.

Runtimes that fuse such pairs into int8 kernels (OpenVINO, TensorRT, onnxruntime) take the ranges from the file. A layer
is `y = x @ W + b` with constant weights, as in `.int8_static`, or a convolution:

    x   one scale and zero point for the tensor
    W   int8, symmetric, one scale per output channel, stored as integers

Affine quantization: Jacob et al., arXiv 1712.05877.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from vitsearch.compress.quantization.int8_static import Learned, Range, ranges_of, refuse_infinite, uint8_scale
from vitsearch.compress.quantization.int8_weights import symmetric
from vitsearch.compress.quantization.layers import LINEAR_LAYERS, Coverage, Floats, Layer
from vitsearch.compress.quantization.onnx_graph import attributes, constants, replace_nodes

Scale = Callable[[str, Range], tuple[NDArray[np.float32], NDArray[Any]]]
"""Scale and zero point (an integer array, whose type is that of the quantized tensor) of a named range."""
LEAST_SCALE = float(np.finfo(np.float16).smallest_subnormal)
"""Of activations: a smaller scale is 0 in fp16."""


def write_pairs(
    onnx_in: Path, onnx_out: Path, images: Floats, learned: Sequence[Learned] = (), covered: Coverage = LINEAR_LAYERS
) -> None:
    """Write `onnx_in` (fp32) to `onnx_out` with the inputs of layers quantized to uint8, as the model that is
    trained for int8 rounds.

    A layer that is not in `learned` gets the range of its input on `images` (n, channels, height, width),
    normalised. `StageError` when a layer of `learned` is not in the graph, or a range is not
    finite.
    """
    model = onnx.load(onnx_in)
    layers = covered.layers(model.graph)
    _write(model, onnx_out, layers, ranges_of(model, layers, images, learned).inputs, uint8_scale)


def write_symmetric(
    onnx_in: Path, onnx_out: Path, images: Floats, learned: Sequence[Learned] = (), covered: Coverage = LINEAR_LAYERS
) -> None:
    """Write `onnx_in` (fp32) to `onnx_out` with the inputs of layers quantized to signed int8 with zero points of 0.
    The rest is as in `write_pairs`, also the shape of `images`: (n, channels, height, width)."""
    model = onnx.load(onnx_in)
    layers = covered.layers(model.graph)
    _write(model, onnx_out, layers, ranges_of(model, layers, images, learned).inputs, int8_scale)


def _write(
    model: onnx.ModelProto, path: Path, layers: Sequence[Layer], ranges: Mapping[str, Range], scale: Scale
) -> None:
    insert_pairs(model.graph, layers, ranges, scale)
    onnx.checker.check_model(model)
    onnx.save(model, path)


def int8_scale(name: str, seen: Range) -> tuple[Floats, NDArray[np.int8]]:
    """Scale (float32) of a range in signed int8, from its larger end, and a zero point of 0, each of shape ()."""
    refuse_infinite(name, seen)
    largest = max(abs(end) for end in seen)
    scale = max(largest / 127, LEAST_SCALE) if largest else 1.0
    return np.array(scale, np.float32), np.array(0, np.int8)


def insert_pairs(graph: onnx.GraphProto, layers: Sequence[Layer], ranges: Mapping[str, Range], scale: Scale) -> None:
    """Put a pair before the input of each layer, and store its weights as integers behind a DequantizeLinear.

    `ranges` are by the layer's output. Layers that read one tensor with the same range share its pair.
    """
    by_node = {layer.node.output[0]: layer for layer in layers}
    nodes: list[onnx.NodeProto] = []
    new: dict[str, NDArray[Any]] = {}
    rounded: dict[tuple[str, Range], str] = {}
    for node in graph.node:
        layer = by_node.get(node.output[0])
        if layer is None:
            nodes.append(node)
            continue
        x, y = layer.input, layer.output
        if (x, ranges[y]) not in rounded:
            name = rounded[x, ranges[y]] = f"{y}/input"
            new[f"{name}/scale"], new[f"{name}/zero"] = scale(x, ranges[y])
            parameters = [f"{name}/scale", f"{name}/zero"]
            nodes.append(helper.make_node("QuantizeLinear", [x, *parameters], [f"{name}/q"]))
            nodes.append(helper.make_node("DequantizeLinear", [f"{name}/q", *parameters], [name]))
        weight, axis = f"{y}/weight", 0 if layer.is_convolution else 1
        new[f"{weight}/q"], new[f"{weight}/scales"] = symmetric(layer.weight, axis)
        new[f"{weight}/zeros"] = np.zeros(layer.weight.shape[axis], np.int8)
        parts = [f"{weight}/q", f"{weight}/scales", f"{weight}/zeros"]
        nodes.append(helper.make_node("DequantizeLinear", parts, [weight], axis=axis))
        nodes.append(_with_inputs(node, [rounded[x, ranges[y]], weight, *node.input[2:]]))
    replace_nodes(graph, nodes, new)


def _with_inputs(node: onnx.NodeProto, inputs: Sequence[str]) -> onnx.NodeProto:
    """The layer with other inputs; its weight is (inputs, outputs), so nothing is transposed any more."""
    kept = {name: value for name, value in attributes(node).items() if name != "transB"}
    return helper.make_node(node.op_type, inputs, list(node.output), node.name, **kept)


def quantize_in_graph(graph: onnx.GraphProto) -> None:
    """Replace integer weights by their fp32 values and a QuantizeLinear, for runtimes that read no integers."""
    tensors = constants(graph)
    nodes: list[onnx.NodeProto] = []
    new: dict[str, NDArray[Any]] = {}
    for node in graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in tensors:
            steps, scales, _ = (numpy_helper.to_array(tensors[name]) for name in node.input)
            axis = attributes(node)["axis"]
            shape = [-1 if index == axis else 1 for index in range(steps.ndim)]
            name = f"{node.output[0]}/fp32"
            new[name] = (steps * scales.reshape(shape)).astype(np.float32)
            steps_name = f"{node.output[0]}/steps"
            nodes.append(helper.make_node("QuantizeLinear", [name, *node.input[1:]], [steps_name], axis=axis))
            node.input[0] = steps_name
        nodes.append(node)
    replace_nodes(graph, nodes, new)
