"""fp16 in the file and, where the runtime has kernels for it, in the arithmetic; images and logits stay fp32.

onnxruntime has few fp16 kernels for CPUs and converts to fp32 and back around the other nodes, so half the size costs
time (`docs/benchmarks/precisions.md`). On a GPU the matrix units compute in fp16.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper
from onnxruntime.transformers.float16 import convert_float_to_float16

from vitsearch.compress.quantization.onnx_graph import attributes, in_order, replace_nodes
from vitsearch.errors import StageError

LARGEST = float(np.finfo(np.float16).max)
LOW, HIGH = onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT


def halve(onnx_in: Path, onnx_out: Path) -> None:
    """Write `onnx_in` (fp32) to `onnx_out`; `StageError` when a weight exceeds 65504, the largest of
    fp16."""
    half = halved(onnx.load(onnx_in))
    onnx.checker.check_model(half)
    onnx.save(half, onnx_out)


def halved(model: onnx.ModelProto, kept: Collection[str] = ()) -> onnx.ModelProto:
    """`model` (fp32) in fp16, with the nodes whose first output is in `kept` computed in fp32.

    `StageError` when a weight exceeds 65504, the largest of fp16.
    """
    for tensor in model.graph.initializer:
        if (
            tensor.data_type == onnx.TensorProto.FLOAT
            and np.abs(numpy_helper.to_array(tensor)).max(initial=0) > LARGEST
        ):
            raise StageError("export", "overflow", f"{tensor.name} has values beyond {LARGEST:g}, the largest of fp16")
    _name(model.graph)
    own = {node.name for node in model.graph.node}
    blocked = [node.name for node in model.graph.node if node.output[0] in kept]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="the float32 number .* will be truncated")  # towards 1e-7, not 0
        half = convert_float_to_float16(model, keep_io_types=True, node_block_list=blocked)
    nodes = in_order(half.graph)  # the converter appends some casts behind their readers
    replace_nodes(half.graph, _without_detours(nodes, half.graph, own), {})
    return half


def _name(graph: onnx.GraphProto) -> None:
    """Name the nodes without a name after their output."""
    for node in graph.node:
        node.name = node.name or node.output[0]


def _without_detours(nodes: list[onnx.NodeProto], graph: onnx.GraphProto, own: Collection[str]) -> list[onnx.NodeProto]:
    """The nodes without the casts to fp16 and back that the converter puts between two tensors in fp32.

    `own` are the names of the nodes that it did not add.
    """
    ends = {output.name for output in graph.output}
    lowered = {node.output[0]: node.input[0] for node in nodes if _is_cast(node, LOW) and node.name not in own}
    same = {
        node.output[0]: lowered[node.input[0]]
        for node in nodes
        if _is_cast(node, HIGH) and node.name not in own and node.input[0] in lowered
    }
    renamed = {source: end for end, source in same.items() if end in ends}
    kept = [node for node in nodes if node.output[0] not in same]
    for node in kept:
        inputs = [same.get(name, name) for name in node.input]
        node.input[:] = [renamed.get(name, name) for name in inputs]
        node.output[:] = [renamed.get(name, name) for name in node.output]
    read = {name for node in kept for name in node.input} | ends
    return [node for node in kept if read & set(node.output)]


def _is_cast(node: onnx.NodeProto, to: int) -> bool:
    return node.op_type == "Cast" and bool(attributes(node)["to"] == to)
