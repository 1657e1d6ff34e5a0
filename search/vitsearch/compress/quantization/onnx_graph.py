"""Helpers on an ONNX graph: constants, attributes, order, folding and replacement of nodes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from graphlib import TopologicalSorter
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator


def constants(graph: onnx.GraphProto) -> dict[str, onnx.TensorProto]:
    """Constants by name, aliases included: the exporter stores equal tensors once and refers to them through
    Identity."""
    found = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Identity" and node.input[0] in found:
            found[node.output[0]] = found[node.input[0]]
    return found


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def in_order(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """The nodes in topological order."""
    makers = {name: index for index, node in enumerate(graph.node) for name in node.output}
    reads = {index: [makers[name] for name in node.input if name in makers] for index, node in enumerate(graph.node)}
    return [graph.node[index] for index in TopologicalSorter(reads).static_order()]


def replace_nodes(graph: onnx.GraphProto, nodes: list[onnx.NodeProto], new: Mapping[str, NDArray[Any]]) -> None:
    """Replace all nodes of ``graph`` by ``nodes``, add the ``new`` constants and remove those that nothing reads."""
    ends = {output.name for output in graph.output}
    read = {name for node in nodes for name in node.input} | ends
    nodes = [node for node in nodes if node.op_type != "Identity" or node.output[0] in read]
    read = {name for node in nodes for name in node.input} | ends
    kept = [tensor for tensor in graph.initializer if tensor.name in read]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend([*kept, *(numpy_helper.from_array(array, name) for name, array in new.items())])


def fold(model: onnx.ModelProto) -> None:
    """Compute the nodes that depend on constants and known shapes only, in place; the results become constants.

    A shape that was computed makes the shapes behind it known, so it repeats until nothing is left to compute.
    """
    before = len(model.graph.node) + 1
    while len(model.graph.node) < before:
        before = len(model.graph.node)
        _fold_known(model)


def _fold_known(model: onnx.ModelProto) -> None:
    graph = model.graph
    sizes = _sizes(onnx.shape_inference.infer_shapes(model, data_prop=True).graph)
    known = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    given = set(known)
    nodes = []
    for node in graph.node:
        inputs = {name: known[name] for name in node.input if name in known}
        if node.op_type == "Shape" and node.input[0] in sizes:
            inputs = {node.input[0]: np.broadcast_to(np.float32(0), sizes[node.input[0]])}
        has_value = node.op_type == "Constant" or bool(inputs)
        if has_value and all(name in inputs for name in node.input if name):
            known |= zip(node.output, _computed(node, inputs, model.opset_import), strict=True)
        else:
            nodes.append(node)
    read = {name for node in nodes for name in node.input} | {output.name for output in graph.output}
    replace_nodes(graph, nodes, {name: known[name] for name in known if name in read - given})


def _computed(
    node: onnx.NodeProto, inputs: Mapping[str, NDArray[Any]], opsets: Iterable[onnx.OperatorSetIdProto]
) -> list[NDArray[Any]]:
    """The outputs of one node."""
    ends = [helper.make_empty_tensor_value_info(name) for name in node.output]
    starts = [helper.make_empty_tensor_value_info(name) for name in inputs]
    alone = helper.make_model(helper.make_graph([node], "node", starts, ends), opset_imports=list(opsets))
    return list(ReferenceEvaluator(alone).run(None, dict(inputs)))


def _sizes(graph: onnx.GraphProto) -> dict[str, tuple[int, ...]]:
    """The shapes of those tensors whose sizes are all known."""
    found = {}
    for value in (*graph.input, *graph.value_info):
        if value.type.tensor_type.HasField("shape"):
            sizes = value.type.tensor_type.shape.dim
            if all(size.HasField("dim_value") for size in sizes):
                found[value.name] = tuple(size.dim_value for size in sizes)
    return found
