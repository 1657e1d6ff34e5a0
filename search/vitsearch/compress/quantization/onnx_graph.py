"""Helpers on an ONNX graph: constants, attributes, order and replacement of nodes."""

from __future__ import annotations

from collections.abc import Mapping
from graphlib import TopologicalSorter
from typing import Any

import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper


def constants(graph: onnx.GraphProto) -> dict[str, onnx.TensorProto]:
    """Constants by name, aliases included: the exporter stores equal tensors once and refers to them through
    Identity."""
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Identity" and node.input[0] in tensors:
            tensors[node.output[0]] = tensors[node.input[0]]
    return tensors


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def in_order(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """The nodes in topological order."""
    makers = {name: index for index, node in enumerate(graph.node) for name in node.output}
    reads = {index: [makers[name] for name in node.input if name in makers] for index, node in enumerate(graph.node)}
    return [graph.node[index] for index in TopologicalSorter(reads).static_order()]


def replace_nodes(graph: onnx.GraphProto, nodes: list[onnx.NodeProto], new: Mapping[str, NDArray[Any]]) -> None:
    """Replace all nodes of `graph` by `nodes`, add the `new` constants (name -> array of any shape) and remove those
    that nothing reads."""
    ends = {output.name for output in graph.output}
    read = {name for node in nodes for name in node.input} | ends
    nodes = [node for node in nodes if node.op_type != "Identity" or node.output[0] in read]
    read = {name for node in nodes for name in node.input} | ends
    kept = [tensor for tensor in graph.initializer if tensor.name in read]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend([*kept, *(numpy_helper.from_array(array, name) for name, array in new.items())])
