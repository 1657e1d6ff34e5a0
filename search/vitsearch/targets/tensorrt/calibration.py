"""int8 of TensorRT before 8.4: a graph in fp32, and the scales of those tensors between which it may compute in int8.

TensorRT takes int8 for a layer if that is faster and if a calibration cache has scales of the tensors that the layer
reads and makes. So the cache says what stays in fp16: everything but the layers of the explicit form, and of those the
classifier, whose logits would be rounded. A tensor has one scale. Weights have one for each output channel, which
TensorRT finds itself if they belong to a layer. Those of MatMul and Gemm do not: onnx-tensorrt makes a tensor of them,
which it names by its number in the network, so that no cache made elsewhere has it, and such a product is never in
int8. Linear layers are therefore convolutions of one pixel with the tokens as the batch; NVIDIA's own BERT has the same
in int8, in place of the fully connected layers that it has in fp16.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from vitsearch.compress.quantization.int8_static import Learned, matched, observed
from vitsearch.compress.quantization.int8_weights import symmetric
from vitsearch.compress.quantization.layers import Coverage, Floats, convolutions, linears
from vitsearch.compress.quantization.onnx_graph import constants, replace_nodes
from vitsearch.compress.quantization.qdq import int8_scale
from vitsearch.core.precisions import ALL
from vitsearch.targets.tensorrt.typed_graph import kept_in_fp32

Scales = Mapping[str, float]
"""Tensor -> the step of its int8 values."""


def calibrated(model: onnx.ModelProto, images: Floats, learned: Sequence[Learned], covered: Coverage) -> Scales:
    """Write the linear layers of `model` (fp32) as convolutions, in place, and find the scales of what the layers
    `covered` read and make on `images` (n, channels, height, width), normalised.

    Ranges are those of `vitsearch.compress.quantization.qdq.write_symmetric`.
    """
    learned_ranges = matched(list(linears(model.graph)), learned)
    kept = kept_in_fp32(model.graph) | _left(model.graph, covered)
    linear = _write_convolutions(model, kept)
    kept |= kept_in_fp32(model.graph)
    layers = [
        layer
        for layer in convolutions(model.graph, covered.least_channels)
        if layer.output not in kept and (covered.ops == ALL or layer.output in linear)
    ]
    ranges = {_input_of(output): ends for output, ends in learned_ranges.items()}
    tensors = sorted({name for layer in layers for name in (layer.input, layer.output)})
    ranges |= observed(model, [name for name in tensors if name not in ranges], images)
    return {name: float(int8_scale(name, ranges[name])[0]) for name in tensors}


def lines(scales: Scales) -> str:
    """The lines of a calibration cache, without the first one, which names the version of TensorRT."""
    return "".join(f"{name}: {struct.pack('>f', scale).hex()}\n" for name, scale in scales.items())


def round_at(model: onnx.ModelProto, scales: Scales) -> None:
    """Round, in place, all that TensorRT may round: the tensors of `scales`, and the weights of the convolutions
    between two of them."""
    between = {
        layer.output: layer.weight
        for layer in convolutions(model.graph)
        if {layer.input, layer.output} <= scales.keys()
    }
    nodes: list[onnx.NodeProto] = []
    new: dict[str, NDArray[Any]] = {}
    for node in model.graph.node:
        node.input[:] = [f"{name}/rounded" if name in scales else name for name in node.input]
        weight = between.get(node.output[0])
        if weight is not None:
            node.input[1] = f"{node.output[0]}/weight/rounded"
            steps, step = symmetric(weight, axis=0)
            new[node.input[1]] = steps * step.reshape(-1, *[1] * (weight.ndim - 1))
        nodes.append(node)
        for name in node.output:
            if name in scales:
                parameters = [f"{name}/scale", f"{name}/zero"]
                new |= zip(parameters, (np.array(scales[name], np.float32), np.array(0, np.int8)), strict=True)
                nodes.append(helper.make_node("QuantizeLinear", [name, *parameters], [f"{name}/int8"]))
                nodes.append(helper.make_node("DequantizeLinear", [f"{name}/int8", *parameters], [f"{name}/rounded"]))
    replace_nodes(model.graph, nodes, new)


def _left(graph: onnx.GraphProto, covered: Coverage) -> set[str]:
    """The outputs of the linear layers that int8 leaves."""
    outputs = {layer.node.output[0] for layer in covered.layers(graph)}
    return {layer.node.output[0] for layer in linears(graph)} - outputs


def _write_convolutions(model: onnx.ModelProto, kept: Collection[str]) -> set[str]:
    """Replace the linear layers but those whose outputs are `kept`: (..., tokens, inputs) -> (tokens, inputs, 1, 1) and
    back. Return the outputs of the new convolutions."""
    graph = model.graph
    tensors, shapes = constants(graph), _shapes(model)
    layers = {layer.node.output[0]: layer for layer in linears(graph) if layer.node.output[0] not in kept}
    sums = {layer.output for layer in layers.values()} - layers.keys()
    nodes: list[onnx.NodeProto] = []
    new: dict[str, NDArray[Any]] = {}
    for node in graph.node:
        layer = layers.get(node.output[0])
        if layer is None:
            nodes += [] if node.output[0] in sums else [node]
            continue
        y, (inputs, outputs) = layer.output, layer.weight.shape
        new[f"{y}/weight"] = np.ascontiguousarray(layer.weight.T).reshape(outputs, inputs, 1, 1)
        new[f"{y}/pixels"] = np.array([-1, inputs, 1, 1])
        new[f"{y}/tokens"] = np.array([-1, *shapes[layer.input][1:-1], outputs])
        parameters = [f"{y}/weight"]
        if layer.bias:  # a copy: TensorRT takes constants only, not what an Identity makes of them
            new[f"{y}/bias"] = numpy_helper.to_array(tensors[layer.bias])
            parameters.append(f"{y}/bias")
        nodes.append(helper.make_node("Reshape", [layer.input, f"{y}/pixels"], [_input_of(y)]))
        nodes.append(helper.make_node("Conv", [_input_of(y), *parameters], [f"{y}/output"], node.name))
        nodes.append(helper.make_node("Reshape", [f"{y}/output", f"{y}/tokens"], [y]))
    replace_nodes(graph, nodes, new)
    return {f"{layer.output}/output" for layer in layers.values()}


def _input_of(output: str) -> str:
    """The tensor that the convolution reads, of a linear layer with this `output`."""
    return f"{output}/input"


def _shapes(model: onnx.ModelProto) -> dict[str, list[int]]:
    inferred = onnx.shape_inference.infer_shapes(model).graph
    values = (*inferred.input, *inferred.value_info, *inferred.output)
    return {value.name: [size.dim_value for size in value.type.tensor_type.shape.dim] for value in values}
