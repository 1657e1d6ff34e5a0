"""What TensorRT asks of an ONNX graph: which nodes stay in fp32, and which operators a version reads.

Kept in fp32, because their fp16 sums overflow or lose what they divide by:

    LayerNorm, Softmax         with their relatives; the sums of many squares or exponentials
    x / f(x)                   and f, back to its sum or its products: RMSNorm, LayerNorm in parts, linear attention;
                               x too where it is such a product
    the classifier             from its layer to the logits, so that logits are not rounded
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import onnx

from vitsearch.compress.quantization.onnx_graph import constants
from vitsearch.errors import StageError

Version = tuple[int, ...]
NORMS = frozenset(
    {
        "GroupNormalization",
        "InstanceNormalization",
        "LayerNormalization",
        "LogSoftmax",
        "LpNormalization",
        "RMSNormalization",
        "Softmax",
    }
)
SUMS = frozenset({"MatMul", "ReduceL2", "ReduceMean", "ReduceSum", "ReduceSumSquare", "GlobalAveragePool"})
LAYERS = frozenset({"MatMul", "Gemm", "Conv", "ConvTranspose"})
OPERATORS = Path(__file__).with_name("tensorrt_operators.json")
TYPES: Mapping[int, str] = {
    onnx.TensorProto.FLOAT: "FP32",
    onnx.TensorProto.FLOAT16: "FP16",
    onnx.TensorProto.BFLOAT16: "BF16",
    onnx.TensorProto.INT8: "INT8",
    onnx.TensorProto.UINT8: "UINT8",
    onnx.TensorProto.INT32: "INT32",
    onnx.TensorProto.INT64: "INT64",
    onnx.TensorProto.BOOL: "BOOL",
}


# ---- precision


class _Graph:
    """A graph with the node that makes each tensor, and the names of its constants."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.nodes = graph.node
        self.ends = [output.name for output in graph.output]
        self.constants = set(constants(graph))
        self.constants |= {node.output[0] for node in graph.node if node.op_type == "Constant"}
        self._makers = {name: node for node in graph.node for name in node.output}

    def before(self, names: Sequence[str]) -> Iterator[onnx.NodeProto]:
        """The nodes that make the tensors `names`; none for constants and inputs of the graph."""
        return (self._makers[name] for name in names if name in self._makers and name not in self.constants)

    def is_layer(self, node: onnx.NodeProto) -> bool:
        """Whether the node has weights: a constant, or one that is dequantized."""
        if node.op_type not in LAYERS:
            return False
        weight = node.input[1]
        maker = self._makers.get(weight)
        while maker is not None and maker.op_type in ("DequantizeLinear", "QuantizeLinear"):
            weight = maker.input[0]
            maker = self._makers.get(weight)
        return weight in self.constants


def kept_in_fp32(graph: onnx.GraphProto) -> set[str]:
    """The first outputs of the nodes that an fp16 graph computes in fp32."""
    linked = _Graph(graph)
    kept: set[str] = set()
    for node in linked.nodes:
        if node.op_type in NORMS:
            kept.add(node.output[0])
        elif node.op_type == "Div" and next(linked.before([node.input[1]]), None) is not None:
            kept.add(node.output[0])
            _keep_sums(linked, node.input[1], kept)
            if any(source.op_type == "MatMul" for source in linked.before(node.input[:1])):
                _keep_sums(linked, node.input[0], kept)
    _keep_classifier(linked, kept)
    for node in linked.nodes:
        if node.output[0] in kept and linked.is_layer(node):
            kept.update(pair.output[0] for pair in _pairs(linked, node))
    return kept


def _keep_sums(graph: _Graph, name: str, kept: set[str]) -> None:
    """Keep what `name` is made of: back to its sums with the node that each sums up, at most to a layer."""
    todo = [(node, False) for node in graph.before([name])]
    while todo:
        node, is_summed = todo.pop()
        if node.output[0] in kept or graph.is_layer(node):
            continue
        kept.add(node.output[0])
        is_sum = node.op_type in SUMS
        if is_summed and not is_sum:
            continue
        inner = graph.before(node.input)
        if is_sum:  # what is summed: squares, or another product
            inner = (source for source in inner if source.op_type in SUMS or source.op_type in ("Pow", "Mul", "Abs"))
        todo += [(source, is_sum) for source in inner]


def _keep_classifier(graph: _Graph, kept: set[str]) -> None:
    todo = list(graph.before(graph.ends))
    while todo:
        node = todo.pop()
        kept.add(node.output[0])
        if not graph.is_layer(node):
            todo += graph.before(node.input)


def _pairs(graph: _Graph, layer: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
    """The quantizing nodes before a layer."""
    for near in graph.before(layer.input):
        if near.op_type == "DequantizeLinear":
            yield near
            yield from (far for far in graph.before(near.input[:1]) if far.op_type == "QuantizeLinear")


# ---- operators


@dataclass(frozen=True)
class Operators:
    """What TensorRT reads from ONNX since `since`: the newest opset, and operator -> the types of its tensors."""

    since: str
    opset: int
    types: Mapping[str, frozenset[str]]


@cache
def operators() -> tuple[Operators, ...]:
    """The table in `tensorrt_operators.json`, oldest version first."""
    tables = []
    for since, entry in json.loads(OPERATORS.read_text())["versions"].items():
        types = {
            name: frozenset(kinds.split()) for kinds, names in entry["operators"].items() for name in names.split()
        }
        tables.append(Operators(since, entry["opset"], types))
    return tuple(tables)


def operators_of(version: Version) -> Operators:
    """The entry of a version: the newest that is not newer."""
    return [entry for entry in operators() if as_numbers(entry.since) <= version][-1]


def as_numbers(version: str) -> Version:
    """The numbers of a version like `10.3.0`."""
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def refuse_unread(model: onnx.ModelProto, version: Version) -> None:
    """Raise `StageError` for a node that TensorRT `version` does not read, by operator and type."""
    entry = operators_of(version)
    shown, table = ".".join(map(str, version)), f"{OPERATORS.name}, {entry.since}"
    opset = next(imported.version for imported in model.opset_import if imported.domain in ("", "ai.onnx"))
    if opset > entry.opset:
        raise StageError(
            "export", "unsupported", f"TensorRT {shown} reads opsets up to {entry.opset}, not {opset} ({table})"
        )
    types = _types(onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True).graph)
    for node in model.graph.node:
        allowed = entry.types.get(node.op_type) if node.domain in ("", "ai.onnx") else None
        if allowed is None:
            name = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
            raise StageError(
                "export", "unsupported", f"TensorRT {shown} has no operator {name} (node {node.name}; {table})"
            )
        tensor = node.output[0] if node.op_type == "ConstantOfShape" or not node.input else node.input[0]
        kind = types.get(tensor, "an unknown type")
        if kind not in allowed and not (kind == "INT64" and "INT32" in allowed):
            listed = ", ".join(sorted(allowed))
            raise StageError(
                "export",
                "unsupported",
                f"TensorRT {shown} has no {node.op_type} of {kind}, it has {listed} (node {node.name}; {table})",
            )


def _types(graph: onnx.GraphProto) -> dict[str, str]:
    """The type of each tensor of a graph, as the table names it."""
    values = {
        value.name: value.type.tensor_type.elem_type for value in (*graph.input, *graph.output, *graph.value_info)
    }
    values |= {tensor.name: tensor.data_type for tensor in graph.initializer}
    return {name: TYPES.get(kind, f"type {kind}") for name, kind in values.items()}
