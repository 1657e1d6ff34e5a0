"""Static int8 of an ONNX file for onnxruntime on x86: the scales of weights and activations are in the file.

Layers ``y = x @ W + b`` (MatMul, Gemm) with constant weights are quantized, everything else stays fp32:
products of two activations in attention, LayerNorm, Softmax, GELU and convolutions.

    x   uint8, one scale and zero point: the lowest and highest value on the calibration images
    W   int8, symmetric, one scale per output channel
    y   fp32: products are summed in int32 and come back scaled, with the bias added

The last line is onnxruntime's ``MatMulIntegerToFloat``. A file with QuantizeLinear and DequantizeLinear around each
layer ends in the same kernel when it is loaded, but its bias then takes a pass of its own.
Affine quantization: Jacob et al., arXiv 1712.05877.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from vitsearch.compress.quantization.int8_weights import symmetric
from vitsearch.compress.quantization.onnx_graph import attributes, constants, replace_nodes
from vitsearch.errors import StageError
from vitsearch.models.graph import INPUT

Floats = NDArray[np.float32]
Range = tuple[float, float]
RUNTIME_DOMAIN = "com.microsoft"
CALIBRATION_BATCH = 8
FATAL_ONLY = 4


@dataclass(frozen=True, eq=False)
class Linear:
    """A layer with constant weights. ``weight`` is (inputs, outputs), of a convolution (outputs, inputs of a group,
    height, width); ``bias`` is the name of a constant vector, or empty.

    ``output`` is the output of ``node``, or of the Add of the bias behind it.
    """

    node: onnx.NodeProto
    weight: Floats
    bias: str
    output: str

    @property
    def input(self) -> str:
        return str(self.node.input[0])


@dataclass(frozen=True, eq=False)
class Learned:
    """The learned range of a layer's input; the layer is identified by its ``weight`` (inputs, outputs)."""

    weight: Floats
    range: Range


def quantize_static(
    onnx_in: Path, onnx_out: Path, images: Floats, learned: Sequence[Learned] = (), left: Sequence[Floats] = ()
) -> None:
    """Write ``onnx_in`` (fp32) to ``onnx_out``; ``images`` float32 (n, channels, height, width), normalised.

    A layer that is not in ``learned`` gets the range that its input has on ``images``. Layers with the weights of
    ``left`` (inputs, outputs) stay fp32. :class:`StageError` when a range has NaN or infinity, or when a layer of
    ``learned`` or ``left`` is not in the graph.
    """
    model = onnx.load(onnx_in)
    layers = _without(list(linears(model.graph)), left)
    known = matched(layers, learned)
    unknown = sorted({layer.input for layer in layers if layer.output not in known})
    seen = observed(model, unknown, images)
    ranges = {layer.output: known.get(layer.output) or seen[layer.input] for layer in layers}
    _rewrite(model.graph, layers, ranges)
    model.opset_import.append(helper.make_opsetid(RUNTIME_DOMAIN, 1))
    onnx.checker.check_model(model)
    onnx.save(model, onnx_out)


# ---- which layers


def linears(graph: onnx.GraphProto) -> Iterator[Linear]:
    """The layers with constant weights, in the order of the graph."""
    known = constants(graph)
    biases = {value: (bias, output) for value, bias, output in _biases(graph, known)}
    for node in graph.node:
        weight = known.get(node.input[1]) if node.op_type in ("MatMul", "Gemm") else None
        if weight is None or len(weight.dims) != 2:
            continue
        values = numpy_helper.to_array(weight)
        if node.op_type == "MatMul":
            yield Linear(node, values, *biases.get(node.output[0], ("", node.output[0])))
        elif _is_plain(node, known):
            bias = node.input[2] if len(node.input) > 2 else ""
            yield Linear(node, values.T if attributes(node).get("transB") else values, bias, node.output[0])


def _biases(graph: onnx.GraphProto, known: Mapping[str, onnx.TensorProto]) -> Iterator[tuple[str, str, str]]:
    """Each Add of a constant vector to a tensor without other readers, as names: the tensor, the vector, the sum."""
    reads = Counter(name for node in graph.node for name in node.input)
    reads.update(output.name for output in graph.output)
    for node in graph.node:
        if node.op_type == "Add":
            for value, vector in (node.input, node.input[::-1]):
                if reads[value] == 1 and _is_vector(vector, known):
                    yield value, vector, node.output[0]


def _is_plain(gemm: onnx.NodeProto, known: Mapping[str, onnx.TensorProto]) -> bool:
    """Whether a Gemm has no factors, an untransposed ``x`` and a vector as its bias."""
    found = attributes(gemm)
    factors = found.get("alpha", 1.0), found.get("beta", 1.0), found.get("transA", 0)
    return factors == (1.0, 1.0, 0) and all(_is_vector(bias, known) for bias in gemm.input[2:])


def _is_vector(name: str, known: Mapping[str, onnx.TensorProto]) -> bool:
    return name in known and len(known[name].dims) == 1


# ---- scales


def observed(model: onnx.ModelProto, tensors: Sequence[str], images: Floats) -> dict[str, Range]:
    """The lowest and the highest value of each of ``tensors`` on ``images``."""
    if not tensors:
        return {}
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    del watched.graph.output[:]
    for name in tensors:
        for kind in ("ReduceMin", "ReduceMax"):
            found = f"{name}/{kind}"
            watched.graph.node.append(helper.make_node(kind, [name], [found], keepdims=0))
            watched.graph.output.append(helper.make_tensor_value_info(found, onnx.TensorProto.FLOAT, []))
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


def _without(layers: list[Linear], left: Sequence[Floats]) -> list[Linear]:
    for weight in left:
        mine = next((layer for layer in layers if np.array_equal(layer.weight, weight)), None)
        if mine is None:
            wrong = f"a layer of {weight.shape[0]} inputs that should stay in fp32 is not in the graph"
            raise StageError("export", "mismatch", wrong)
        layers.remove(mine)
    return layers


def matched(layers: Sequence[Linear], learned: Sequence[Learned]) -> dict[str, Range]:
    """The learned range of each layer by its output. Layers of equal weights are matched in their order."""
    left = list(learned)
    found: dict[str, Range] = {}
    for layer in layers:
        mine = next((index for index, one in enumerate(left) if np.array_equal(one.weight, layer.weight)), None)
        if mine is not None:
            found[layer.output] = left.pop(mine).range
    if left:
        wrong = f"{len(left)} of {len(learned)} layers that were trained for int8 are not in the graph"
        raise StageError("export", "mismatch", wrong)
    return found


def refuse_infinite(name: str, seen: Range) -> None:
    """Raise :class:`StageError` when an end of a range is not finite."""
    if not np.isfinite(seen).all():
        raise StageError("export", "not_finite", f"{name} has NaN or infinity on the calibration images")


def uint8_scale(name: str, seen: Range) -> tuple[Floats, NDArray[np.uint8]]:
    """Scale and zero point of a range in uint8; the range is extended to contain 0."""
    refuse_infinite(name, seen)
    lowest, highest = min(*seen, 0.0), max(*seen, 0.0)
    scale = (highest - lowest) / 255 or 1.0
    return np.array(scale, np.float32), np.array(round(-lowest / scale), np.uint8)


# ---- the new graph


def _rewrite(graph: onnx.GraphProto, layers: Sequence[Linear], ranges: Mapping[str, Range]) -> None:
    """Replace each layer by one node, behind a node that quantizes its input.

    Layers that read the same input with the same range share that node. ``ranges`` are by output.
    """
    starts = {layer.node.output[0]: layer for layer in layers}
    sums = {layer.output for layer in layers} - starts.keys()
    nodes: list[onnx.NodeProto] = []
    quantized: dict[tuple[str, Range], str] = {}
    new: dict[str, NDArray[Any]] = {}
    for node in graph.node:
        layer = starts.get(node.output[0])
        if layer is None:
            nodes += [] if node.output[0] in sums else [node]
            continue
        x, y = layer.input, layer.output
        if (x, ranges[y]) not in quantized:
            q = quantized[x, ranges[y]] = f"{y}/input" if f"{x}/scale" in new else x
            new[f"{q}/scale"], new[f"{q}/zero"] = uint8_scale(x, ranges[y])
            nodes.append(helper.make_node("QuantizeLinear", [x, f"{q}/scale", f"{q}/zero"], [f"{q}/uint8"]))
        q = quantized[x, ranges[y]]
        new[f"{y}/weight"], new[f"{y}/weight_scales"] = symmetric(layer.weight, axis=1)
        inputs = [f"{q}/uint8", f"{y}/weight", f"{q}/scale", f"{y}/weight_scales", f"{q}/zero", "", layer.bias]
        nodes.append(helper.make_node("MatMulIntegerToFloat", inputs, [y], node.name, domain=RUNTIME_DOMAIN))
    replace_nodes(graph, nodes, new)
