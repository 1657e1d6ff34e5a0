"""Hands on an ONNX graph: its constants, the weights of its layers, and how they are replaced."""

from __future__ import annotations

from collections.abc import Mapping
from graphlib import TopologicalSorter
from typing import Any

import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper


def constants(graph: onnx.GraphProto) -> dict[str, onnx.TensorProto]:
    """By name; the exporter keeps equal tensors once and gives the others as Identity of it."""
    found = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Identity" and node.input[0] in found:
            found[node.output[0]] = found[node.input[0]]
    return found


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def in_order(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """The nodes, each behind those that it reads."""
    makers = {name: index for index, node in enumerate(graph.node) for name in node.output}
    reads = {index: [makers[name] for name in node.input if name in makers] for index, node in enumerate(graph.node)}
    return [graph.node[index] for index in TopologicalSorter(reads).static_order()]


def replace_nodes(graph: onnx.GraphProto, nodes: list[onnx.NodeProto], new: Mapping[str, NDArray[Any]]) -> None:
    """``nodes`` instead of what was there, with the ``new`` constants; those that nothing reads any more go."""
    ends = {output.name for output in graph.output}
    read = {name for node in nodes for name in node.input} | ends
    nodes = [node for node in nodes if node.op_type != "Identity" or node.output[0] in read]
    read = {name for node in nodes for name in node.input} | ends
    kept = [tensor for tensor in graph.initializer if tensor.name in read]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend([*kept, *(numpy_helper.from_array(array, name) for name, array in new.items())])
