"""The layers of an ONNX graph that static int8 can cover: those with constant weights.

linear         `y = x @ W + b` as a MatMul with or without an Add, or as a Gemm; products of two activations in
               attention are none
convolutions   Conv
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from vitsearch.compress.quantization.onnx_graph import attributes, constants
from vitsearch.core.precisions import ALL, LINEAR
from vitsearch.errors import StageError

Floats = NDArray[np.float32]
CONV = "Conv"
LEAST_CHANNELS = 32
"""Convolutions with fewer inputs of a group, or outputs, stay in floats: onnxruntime loses more time around them than
they gain. At least 16, 32 and 64 took .90, .79 and .78 of the CPU time of fp32 (efficientvit_b0), .93, .77 and .83
(mobilevit_xxs), .55, .57 and .58 (levit_128s), .65, .68 and .67 (repvit_m0_9); one thread of an AMD EPYC with
AVX512-VNNI, onnxruntime 1.32, 2026-11-27."""


@dataclass(frozen=True, eq=False)
class Layer:
    """A layer with constant weights. `weight` is (inputs, outputs), of a convolution (outputs, inputs of a group,
    height, width); `bias` is the name of a constant vector, or empty.

    `output` is the output of `node`, or of the Add of the bias behind it.
    """

    node: onnx.NodeProto
    weight: Floats
    bias: str
    output: str

    @property
    def input(self) -> str:
        return str(self.node.input[0])

    @property
    def is_convolution(self) -> bool:
        return str(self.node.op_type) == CONV


@dataclass(frozen=True, eq=False)
class Coverage:
    """The layers that int8 covers: `linear` ones, or `all`, which are also convolutions of at least
    `least_channels` inputs of a group and outputs; without those linear ones that have the weights (inputs, outputs)
    of `left`."""

    ops: str = LINEAR
    left: Sequence[Floats] = ()
    least_channels: int = LEAST_CHANNELS

    def layers(self, graph: onnx.GraphProto) -> list[Layer]:
        """The layers of `graph`. `StageError` when one of `left` is not in it."""
        linear = list(linears(graph))
        for weight in self.left:
            mine = next((layer for layer in linear if np.array_equal(layer.weight, weight)), None)
            if mine is None:
                wrong = f"a layer of {weight.shape[0]} inputs that should stay in fp32 is not in the graph"
                raise StageError("export", "mismatch", wrong)
            linear.remove(mine)
        return [*linear, *convolutions(graph, self.least_channels)] if self.ops == ALL else linear


LINEAR_LAYERS = Coverage()


def linears(graph: onnx.GraphProto) -> Iterator[Layer]:
    """The linear layers, in the order of the graph."""
    tensors = constants(graph)
    biases = {value: (bias, output) for value, bias, output in _biases(graph, tensors)}
    for node in graph.node:
        weight = tensors.get(node.input[1]) if node.op_type in ("MatMul", "Gemm") else None
        if weight is None or len(weight.dims) != 2:
            continue
        values = numpy_helper.to_array(weight)
        if node.op_type == "MatMul":
            yield Layer(node, values, *biases.get(node.output[0], ("", node.output[0])))
        elif _is_plain(node, tensors):
            bias = node.input[2] if len(node.input) > 2 else ""
            yield Layer(node, values.T if attributes(node).get("transB") else values, bias, node.output[0])


def _biases(graph: onnx.GraphProto, tensors: Mapping[str, onnx.TensorProto]) -> Iterator[tuple[str, str, str]]:
    """Each Add of a constant vector to a tensor without other readers, as names: the tensor, the vector, the sum."""
    reads = Counter(name for node in graph.node for name in node.input)
    reads.update(output.name for output in graph.output)
    for node in graph.node:
        if node.op_type == "Add":
            for value, vector in (node.input, node.input[::-1]):
                if reads[value] == 1 and _is_vector(vector, tensors):
                    yield value, vector, node.output[0]


def _is_plain(gemm: onnx.NodeProto, tensors: Mapping[str, onnx.TensorProto]) -> bool:
    """Whether a Gemm has no factors, an untransposed `x` and a vector as its bias."""
    settings = attributes(gemm)
    factors = settings.get("alpha", 1.0), settings.get("beta", 1.0), settings.get("transA", 0)
    return factors == (1.0, 1.0, 0) and all(_is_vector(bias, tensors) for bias in gemm.input[2:])


def _is_vector(name: str, tensors: Mapping[str, onnx.TensorProto]) -> bool:
    return name in tensors and len(tensors[name].dims) == 1


def convolutions(graph: onnx.GraphProto, least_channels: int = 1) -> Iterator[Layer]:
    """The convolutions with constant weights and at least `least_channels` inputs of a group and outputs."""
    tensors = constants(graph)
    for node in graph.node:
        weight = tensors.get(node.input[1]) if node.op_type == CONV else None
        if weight is not None and min(weight.dims[:2]) >= least_channels:
            bias = node.input[2] if len(node.input) > 2 else ""
            yield Layer(node, numpy_helper.to_array(weight), bias, node.output[0])
