"""Explicit quantization: QuantizeLinear and DequantizeLinear around the layers of an ONNX file.

Runtimes that fuse such pairs into int8 kernels (OpenVINO, TensorRT, onnxruntime) take the ranges from the file. A layer
is ``y = x @ W + b`` with constant weights, as in :mod:`.int8_static`:

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
from onnx import helper

from vitsearch.compress.quantization.int8_static import Learned, Linear, Range, linears, matched, uint8_scale
from vitsearch.compress.quantization.int8_weights import symmetric
from vitsearch.compress.quantization.onnx_graph import replace_nodes

Scale = Callable[[str, Range], tuple[NDArray[np.float32], NDArray[Any]]]
"""Scale and zero point (an integer array, whose type is that of the quantized tensor) of a named range."""


def write_learned(onnx_in: Path, onnx_out: Path, learned: Sequence[Learned], scale: Scale = uint8_scale) -> None:
    """Write ``onnx_in`` (fp32) to ``onnx_out`` with the layers of ``learned`` quantized at their ranges.

    :class:`~vitsearch.errors.StageError` when one of them is not in the graph, or has a range that is not finite.
    """
    model = onnx.load(onnx_in)
    layers = list(linears(model.graph))
    ranges = matched(layers, learned)
    insert_pairs(model.graph, [layer for layer in layers if layer.output in ranges], ranges, scale)
    onnx.checker.check_model(model)
    onnx.save(model, onnx_out)


def insert_pairs(
    graph: onnx.GraphProto, layers: Sequence[Linear], ranges: Mapping[str, Range], scale: Scale = uint8_scale
) -> None:
    """Put a pair before the input of each layer, and store its weights as integers behind a DequantizeLinear.

    ``ranges`` are by the layer's output. Layers that read one tensor with the same range share its pair.
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
        weight = f"{y}/weight"
        new[f"{weight}/q"], new[f"{weight}/scales"] = symmetric(layer.weight, axis=1)
        new[f"{weight}/zeros"] = np.zeros(layer.weight.shape[1], np.int8)
        parts = [f"{weight}/q", f"{weight}/scales", f"{weight}/zeros"]
        nodes.append(helper.make_node("DequantizeLinear", parts, [weight], axis=1))
        product = helper.make_node("MatMul", [rounded[x, ranges[y]], weight], list(node.output), node.name)
        if node.op_type == "Gemm":
            product = helper.make_node(
                "Gemm", [product.input[0], weight, *node.input[2:]], list(node.output), node.name
            )
        nodes.append(product)
    replace_nodes(graph, nodes, new)
