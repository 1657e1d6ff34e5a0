"""An ONNX graph that is being rewritten: its nodes, its constants, and the shapes of its tensors."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from vitsearch.compress.quantization.onnx_graph import attributes

Shape = tuple[tuple[int, ...], ...]
"""Of one tensor, in each run that was looked at: one run where the batch is fixed, two of different batches else."""

SMALL = 16
"""Elements of a constant up to which equal ones are stored once."""
Readers = dict[str, list[onnx.NodeProto]]
"""The nodes that read each tensor, once for each time."""


class Rewrite:
    """`nodes` are kept in topological order; `shapes` and `constants` are by the name of a tensor."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.nodes: list[onnx.NodeProto] = list(model.graph.node)
        self.tensors = {tensor.name: tensor for tensor in model.graph.initializer}
        self.shapes: dict[str, Shape] = {}
        self.floats: set[str] = set()
        self.outputs = {output.name for output in model.graph.output}
        self._count = 0

    def makers(self) -> dict[str, onnx.NodeProto]:
        return {name: node for node in self.nodes for name in node.output}

    def readers(self) -> Readers:
        readers: Readers = defaultdict(list)
        for node in self.nodes:
            for name in node.input:
                readers[name].append(node)
        return readers

    def is_private(self, name: str, readers: Readers) -> bool:
        """Whether one node alone reads `name`, once."""
        return len(readers[name]) == 1 and name not in self.outputs

    def is_float(self, name: str) -> bool:
        """Whether a tensor of the original graph is float32."""
        return name in self.floats

    def value(self, name: str) -> NDArray[Any] | None:
        """The value of a constant, in its own shape; None for other tensors."""
        tensor = self.tensors.get(name)
        return None if tensor is None else numpy_helper.to_array(tensor)

    def constant(self, value: NDArray[Any], name: str = "") -> str:
        """The name of a new constant, an array of any shape, or of an equal one that is small."""
        if value.size <= SMALL:
            name = f"constant/{value.dtype}/{list(value.shape)}/{value.ravel().tolist()}"
        else:
            name = self.fresh(name or "constant")
        self.tensors[name] = numpy_helper.from_array(np.ascontiguousarray(value).reshape(value.shape), name)
        return name

    def fresh(self, near: str) -> str:
        self._count += 1
        return f"{near}/{self._count}"

    def node(
        self, op: str, inputs: Sequence[str], output: str, shape: Shape | None = None, domain: str = "", **named: Any
    ) -> onnx.NodeProto:
        """A node that is not in the graph yet."""
        if shape is not None:
            self.shapes[output] = shape
        return helper.make_node(op, inputs, [output], output, domain=domain, **named)

    def reshape(self, x: str, output: str, shape: Shape) -> onnx.NodeProto | None:
        """A Reshape with a constant target; None when more than one size depends on the batch."""
        sizes = [runs[0] if len(set(runs)) == 1 else -1 for runs in zip(*shape, strict=True)]
        if sizes.count(-1) > 1:
            return None
        return self.node("Reshape", [x, self.constant(np.array(sizes, np.int64))], output, shape)

    def redirect(self, new: Mapping[str, str]) -> None:
        """All readers of a key of `new` read its value, in one pass over the graph."""
        for node in self.nodes:
            for index, name in enumerate(node.input):
                if name in new:
                    node.input[index] = new[name]

    def replace(self, new: dict[int, list[onnx.NodeProto]]) -> None:
        """Put other nodes in the places of those whose `id` is a key of `new`."""
        self.nodes = [replacement for node in self.nodes for replacement in new.get(id(node), [node])]

    def prune(self) -> None:
        """Remove the nodes and constants whose results nothing reads."""
        needed = set(self.outputs)
        kept = []
        for node in reversed(self.nodes):
            if needed.intersection(node.output):
                kept.append(node)
                needed.update(node.input)
        self.nodes = kept[::-1]
        self.tensors = {name: tensor for name, tensor in self.tensors.items() if name in needed}

    def finish(self) -> onnx.ModelProto:
        """The model with what is left."""
        self.prune()
        graph = self.model.graph
        del graph.node[:], graph.initializer[:], graph.value_info[:]
        graph.node.extend(self.nodes)
        graph.initializer.extend(self.tensors.values())
        return self.model


def named(node: onnx.NodeProto, key: str, default: Any) -> Any:
    """An attribute of `node`."""
    return attributes(node).get(key, default)
