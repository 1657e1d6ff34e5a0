"""Static int8 of an ONNX file for onnxruntime on x86: the scales of weights and activations are in the file.

Linear layers `y = x @ W + b` (MatMul, Gemm) with constant weights are quantized, and convolutions where they are
covered too. Everything else stays fp32: products of two activations in attention, LayerNorm, Softmax, GELU.

    x   uint8, one scale and zero point: the lowest and highest value on the calibration images
    W   int8, symmetric, one scale per output channel
    y   of a linear layer fp32: products are summed in int32 and come back scaled, with the bias added; of a
        convolution uint8 as x, and fp32 again where something reads it that is not quantized

These are onnxruntime's `MatMulIntegerToFloat` and `QLinearConv`. A file with QuantizeLinear and DequantizeLinear
around each layer ends in the same kernels when it is loaded, but the bias of a linear layer then takes a pass of its
own.
Affine quantization: Jacob et al., arXiv 1712.05877.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from vitsearch.compress.quantization.int8_weights import symmetric
from vitsearch.compress.quantization.layers import LINEAR_LAYERS, Coverage, Floats, Layer
from vitsearch.compress.quantization.onnx_graph import attributes, constants, replace_nodes
from vitsearch.errors import StageError
from vitsearch.models.onnx_format import INPUT

Range = tuple[float, float]
RUNTIME_DOMAIN = "com.microsoft"
CALIBRATION_BATCH = 8
MOST_BIAS_STEPS = 2**30
"""Of the step of a bias, which is that of the input times that of the weights: a channel whose weights are nearly 0
gets a wider step, so that its bias fits into 32 bits."""
FATAL_ONLY = 4


@dataclass(frozen=True, eq=False)
class Learned:
    """The learned range of a layer's input; the layer is identified by its `weight` (inputs, outputs)."""

    weight: Floats
    range: Range


@dataclass(frozen=True)
class Ranges:
    """The ranges of layers, by the layer's output: of its input, and of what a convolution gives."""

    inputs: Mapping[str, Range]
    outputs: Mapping[str, Range]


def quantize_static(
    onnx_in: Path, onnx_out: Path, images: Floats, learned: Sequence[Learned] = (), covered: Coverage = LINEAR_LAYERS
) -> None:
    """Write `onnx_in` (fp32) to `onnx_out`; `images` float32 (n, channels, height, width), normalised.

    A layer that is not in `learned` gets the range that its input has on `images`. `StageError` when a range
    has NaN or infinity, or when a layer of `learned` is not in the graph.
    """
    model = onnx.load(onnx_in)
    layers = covered.layers(model.graph)
    _rewrite(model.graph, layers, ranges_of(model, layers, images, learned))
    domains = {entry.domain for entry in model.opset_import}
    if RUNTIME_DOMAIN not in domains and any(node.domain == RUNTIME_DOMAIN for node in model.graph.node):
        model.opset_import.append(helper.make_opsetid(RUNTIME_DOMAIN, 1))
    onnx.checker.check_model(model)
    onnx.save(model, onnx_out)


# ---- scales


def ranges_of(model: onnx.ModelProto, layers: Sequence[Layer], images: Floats, learned: Sequence[Learned]) -> Ranges:
    """The ranges of `layers`: the learned ones, otherwise those on normalised `images` (n, channels, height, width)."""
    learned_ranges = matched(layers, learned)
    outputs = [layer.output for layer in layers if layer.is_convolution]
    read = (layer.input for layer in layers if layer.output not in learned_ranges)
    seen = observed(model, sorted({*read, *outputs}), images)
    inputs = {layer.output: learned_ranges.get(layer.output) or seen[layer.input] for layer in layers}
    return Ranges(inputs, {output: seen[output] for output in outputs})


def observed(model: onnx.ModelProto, tensors: Sequence[str], images: Floats) -> dict[str, Range]:
    """The lowest and the highest value of each of `tensors` on `images` (n, channels, height, width), normalised."""
    if not tensors:
        return {}
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    del watched.graph.output[:]
    for name in tensors:
        for kind in ("ReduceMin", "ReduceMax"):
            output = f"{name}/{kind}"
            watched.graph.node.append(helper.make_node(kind, [name], [output], keepdims=0))
            watched.graph.output.append(helper.make_tensor_value_info(output, onnx.TensorProto.FLOAT, []))
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = FATAL_ONLY
    session = ort.InferenceSession(watched.SerializeToString(), options, providers=["CPUExecutionProvider"])
    size = model.graph.input[0].type.tensor_type.shape.dim[0].dim_value or min(CALIBRATION_BATCH, len(images))
    full = np.resize(images, (-(-len(images) // size) * size, *images.shape[1:]))  # the first ones again, at the end
    batches = (full[start : start + size] for start in range(0, len(full), size))
    seen = np.array([session.run(None, {INPUT: np.ascontiguousarray(batch)}) for batch in batches])
    lowest, highest = seen[:, 0::2].min(axis=0), seen[:, 1::2].max(axis=0)
    return {name: (float(low), float(high)) for name, low, high in zip(tensors, lowest, highest, strict=True)}


def matched(layers: Sequence[Layer], learned: Sequence[Learned]) -> dict[str, Range]:
    """The learned range of each layer by its output. Layers of equal weights are matched in their order."""
    left = list(learned)
    ranges: dict[str, Range] = {}
    for layer in layers:
        mine = next((index for index, entry in enumerate(left) if np.array_equal(entry.weight, layer.weight)), None)
        if mine is not None:
            ranges[layer.output] = left.pop(mine).range
    if left:
        wrong = f"{len(left)} of {len(learned)} layers that were trained for int8 are not in the graph"
        raise StageError("export", "mismatch", wrong)
    return ranges


def refuse_infinite(name: str, seen: Range) -> None:
    """Raise `StageError` when an end of a range is not finite."""
    if not np.isfinite(seen).all():
        raise StageError("export", "not_finite", f"{name} has NaN or infinity on the calibration images")


def uint8_scale(name: str, seen: Range) -> tuple[Floats, NDArray[np.uint8]]:
    """Scale (float32) and zero point (uint8) of a range, each of shape (); the range is extended to contain 0."""
    refuse_infinite(name, seen)
    lowest, highest = min(*seen, 0.0), max(*seen, 0.0)
    scale = (highest - lowest) / 255 or 1.0
    return np.array(scale, np.float32), np.array(round(-lowest / scale), np.uint8)


# ---- the new graph


def _rewrite(graph: onnx.GraphProto, layers: Sequence[Layer], ranges: Ranges) -> None:
    """Replace each layer by one node, behind a node that quantizes its input."""
    starts = {layer.node.output[0]: layer for layer in layers}
    sums = {layer.output for layer in layers} - starts.keys()
    rewritten = _Int8Graph(graph, layers, ranges)
    for node in graph.node:
        layer = starts.get(node.output[0])
        if layer is None:
            rewritten.nodes += [] if node.output[0] in sums else [node]
        elif layer.is_convolution:
            rewritten.add_convolution(layer)
        else:
            rewritten.add_linear(layer)
    replace_nodes(graph, rewritten.nodes, rewritten.constants)


class _Int8Graph:
    """The nodes of the new graph, in their order, and its new constants.

    A tensor is quantized once for each range: layers that read it with the same range share it, and what a convolution
    gives is quantized already.
    """

    def __init__(self, graph: onnx.GraphProto, layers: Sequence[Layer], ranges: Ranges) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, NDArray[Any]] = {}
        self._tensors = constants(graph)
        self._ranges = ranges
        self._quantized: dict[tuple[str, Range], str] = {}
        covered = {layer.node.output[0] for layer in layers}
        self._read_as_floats = {name for node in graph.node if node.output[0] not in covered for name in node.input}
        self._read_as_floats |= {output.name for output in graph.output}
        self._read_as_floats |= {
            layer.input for layer in layers if ranges.inputs[layer.output] != ranges.outputs.get(layer.input)
        }

    def add_linear(self, layer: Layer) -> None:
        q, y = self._input(layer), layer.output
        self.constants[f"{y}/weight"], self.constants[f"{y}/weight_scales"] = symmetric(layer.weight, axis=1)
        inputs = [f"{q}/uint8", f"{y}/weight", f"{q}/scale", f"{y}/weight_scales", f"{q}/zero", "", layer.bias]
        self._add("MatMulIntegerToFloat", inputs, y, name=layer.node.name, domain=RUNTIME_DOMAIN)

    def add_convolution(self, layer: Layer) -> None:
        q, y, seen = self._input(layer), layer.output, self._ranges.outputs[layer.output]
        bias = numpy_helper.to_array(self._tensors[layer.bias]).astype(np.float64) if layer.bias else None
        least = 0.0 if bias is None else np.abs(bias) / (self.constants[f"{q}/scale"] * MOST_BIAS_STEPS)
        weight, scales = symmetric(layer.weight, axis=0, least=least)
        to = self._named(y, seen)
        self.constants |= {f"{y}/weight": weight, f"{y}/weight_scales": scales}
        self.constants[f"{y}/weight_zeros"] = np.zeros(len(scales), np.int8)
        inputs = [f"{q}/uint8", f"{q}/scale", f"{q}/zero", f"{y}/weight", f"{y}/weight_scales", f"{y}/weight_zeros"]
        inputs += [f"{to}/scale", f"{to}/zero"]
        if bias is not None:
            steps = bias / (self.constants[f"{q}/scale"] * scales)
            self.constants[f"{y}/bias"] = np.round(steps).astype(np.int32)
            inputs.append(f"{y}/bias")
        self._add("QLinearConv", inputs, f"{to}/uint8", name=layer.node.name, **attributes(layer.node))
        if y in self._read_as_floats:
            self._add("DequantizeLinear", [f"{to}/uint8", f"{to}/scale", f"{to}/zero"], y)

    def _input(self, layer: Layer) -> str:
        """The name of the quantized input of a layer; its parts are behind a slash."""
        x, seen = layer.input, self._ranges.inputs[layer.output]
        if (x, seen) not in self._quantized:
            q = self._named(x, seen, f"{layer.output}/input")
            self._add("QuantizeLinear", [x, f"{q}/scale", f"{q}/zero"], f"{q}/uint8")
        return self._quantized[x, seen]

    def _named(self, tensor: str, seen: Range, other_name: str = "") -> str:
        """A name for the quantized `tensor`: its own, or the other one if that is taken; with its constants."""
        q = self._quantized[tensor, seen] = other_name if f"{tensor}/scale" in self.constants else tensor
        self.constants[f"{q}/scale"], self.constants[f"{q}/zero"] = uint8_scale(tensor, seen)
        return q

    def _add(self, kind: str, inputs: Sequence[str], output: str, **rest: Any) -> None:
        self.nodes.append(helper.make_node(kind, inputs, [output], **rest))
