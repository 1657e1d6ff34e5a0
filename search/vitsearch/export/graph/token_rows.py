"""Layers that treat each token by itself, as operations on the rows of one matrix (tokens, channels).

    take_early     a token that is picked at the end is picked before the layers that would compute the others in vain
    flatten_rows   (batch, tokens, channels) becomes (batch x tokens, channels), and MatMul with Add one Gemm

onnxruntime multiplies matrices of two dimensions only; it puts a Reshape before and after each product of three.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx

from vitsearch.export.graph.onnx_rewrite import Readers, Rewrite, Shape, named

UNARY = frozenset({"Erf", "Relu", "Sigmoid", "HardSwish", "HardSigmoid", "Tanh", "Sqrt", "Neg", "Identity", "Gelu"})
BINARY = frozenset({"Add", "Sub", "Mul", "Div", "Pow"})


def rows_of(graph: Rewrite, node: onnx.NodeProto) -> list[str] | None:
    """The inputs of `node` that have one row for each row of its output, when it treats rows by themselves."""
    outputs = [name for name in node.output if name]
    if not node.input or len(outputs) != 1 or outputs[0] not in graph.shapes:
        return None
    shape, x = graph.shapes[node.output[0]], node.input[0]
    rank = len(shape[0])
    if rank < 2 or (node.op_type in UNARY and not node.domain):
        return [x] if rank >= 2 else None
    if node.op_type == "MatMul" and x not in graph.tensors and node.input[1] in graph.tensors:
        return [x] if len(graph.tensors[node.input[1]].dims) == 2 else None
    if node.op_type == "LayerNormalization" and named(node, "axis", -1) in (-1, rank - 1):
        return [x]
    if node.op_type not in BINARY:
        return None
    full = [name for name in node.input if name not in graph.tensors]
    others = [graph.tensors[name] for name in node.input if name in graph.tensors]
    if any(graph.shapes.get(name) != shape for name in full) or any(len(tensor.dims) > 1 for tensor in others):
        return None
    return full or None


def take_early(graph: Rewrite) -> None:
    """Move each Gather of one token towards the input, past the layers that treat tokens by themselves."""
    while _move_one(graph):
        pass


def _move_one(graph: Rewrite) -> bool:
    readers, makers = graph.readers(), graph.makers()
    for name, reading in readers.items():
        maker = makers.get(name)
        if maker is None or name in graph.outputs or not _are_one_gather(graph, name, reading):
            continue
        rows = rows_of(graph, maker)
        if rows is None:
            continue
        gather = reading[0]
        picked = [node.output[0] for node in reading]
        axis = named(gather, "axis", 0)
        new: list[onnx.NodeProto] = []
        for row in dict.fromkeys(rows):
            gathered, shape = graph.fresh(row), graph.shapes[row]
            taken = tuple((*run[:axis], *run[axis + 1 :]) for run in shape)
            new.append(graph.node("Gather", [row, gather.input[1]], gathered, taken, axis=axis))
            for index, source in enumerate(maker.input):
                if source == row:
                    maker.input[index] = gathered
        graph.shapes[name] = graph.shapes[picked[0]]
        for attribute in maker.attribute:
            if attribute.name == "axis":
                attribute.i = -1
        graph.replace({id(maker): [*new, maker], **{id(node): [] for node in reading}})
        graph.redirect(dict.fromkeys(picked, name))
        _merge_gathers(graph)
        return True
    return False


def _are_one_gather(graph: Rewrite, name: str, reading: list[onnx.NodeProto]) -> bool:
    first = reading[0]
    if first.op_type != "Gather" or first.input[0] != name or first.output[0] in graph.outputs:
        return False
    index, axis = graph.value(first.input[1]), named(first, "axis", 0)
    if index is None or index.ndim or not 0 < axis < len(graph.shapes[name][0]) - 1:
        return False
    return all(_same_gather(first, node) for node in reading)


def _same_gather(gather: onnx.NodeProto, other: onnx.NodeProto) -> bool:
    return (
        other.op_type == "Gather"
        and list(gather.input) == list(other.input)
        and named(gather, "axis", 0) == named(other, "axis", 0)
    )


def _merge_gathers(graph: Rewrite) -> None:
    """Keep the first of equal Gathers."""
    kept: dict[tuple[str, ...], str] = {}
    double: dict[int, list[onnx.NodeProto]] = {}
    for node in graph.nodes:
        if node.op_type == "Gather" and node.output[0] not in graph.outputs:
            key = (*node.input, str(named(node, "axis", 0)))
            if key in kept:
                double[id(node)] = []
                graph.redirect({node.output[0]: kept[key]})
            kept.setdefault(key, node.output[0])
    graph.replace(double)


# ---- matrices


def flatten_rows(graph: Rewrite) -> None:
    """Make matrices of the tensors between layers that treat rows by themselves, where products gain by it."""
    for group in list(_groups(graph)):
        _flatten(graph, group)


def _groups(graph: Rewrite) -> Iterator[list[onnx.NodeProto]]:
    """Nodes that treat rows by themselves, connected through tensors of three or more dimensions."""
    group_of: dict[str, int] = {}
    members: dict[int, tuple[list[str], list[onnx.NodeProto]]] = {}
    for node in graph.nodes:
        rows = rows_of(graph, node)
        if rows is None or len(graph.shapes[node.output[0]][0]) < 3:
            continue
        tensors = [*rows, node.output[0]]
        mine = sorted({group_of[name] for name in tensors if name in group_of}) or [len(members)]
        first = members.setdefault(mine[0], ([], []))
        for other in mine[1:]:
            names, nodes = members[other]
            first[0].extend(names)
            first[1].extend(nodes)
            members[other] = ([], [])
        first[0].extend(tensors)
        first[1].append(node)
        group_of |= dict.fromkeys(first[0], mine[0])
    yield from (nodes for _, nodes in members.values() if nodes)


def _flatten(graph: Rewrite, group: list[onnx.NodeProto]) -> None:
    readers, makers = graph.readers(), graph.makers()
    mine = {id(node) for node in group}
    inside = dict.fromkeys(node.output[0] for node in group)
    entering = list(dict.fromkeys(name for node in group for name in rows_of(graph, node) or [] if name not in inside))
    leaving = [name for name in inside if name in graph.outputs or any(id(node) not in mine for node in readers[name])]
    biased = [node for node in group if node.op_type == "MatMul" and _bias(graph, node, readers)]
    borders = [name for name in entering if not (name in makers and makers[name].op_type == "Reshape")]
    borders += [
        name for name in leaving if any(id(node) not in mine and node.op_type != "Reshape" for node in readers[name])
    ]
    if not biased or len(borders) > len(biased) or any(name in graph.outputs for name in leaving):
        return
    flat = {name: _flat(graph.shapes[name]) for name in (*entering, *inside)}
    if any(len({run[0] for run in shape}) > 1 and len(shape) == 1 for shape in flat.values()):
        return
    before = {name: graph.reshape(name, graph.fresh(name), flat[name]) for name in entering}
    after: dict[str, onnx.NodeProto | None] = {}
    for name in leaving:
        after[name] = graph.reshape(name, graph.fresh(name), graph.shapes[name])
    if any(node is None for node in (*before.values(), *after.values())):
        return
    _rewire(graph, group, before, after)
    for name in inside:
        graph.shapes[name] = flat[name]


def _rewire(
    graph: Rewrite,
    group: list[onnx.NodeProto],
    before: dict[str, onnx.NodeProto | None],
    after: dict[str, onnx.NodeProto | None],
) -> None:
    mine = {id(node) for node in group}
    makers = graph.makers()
    for node in graph.nodes:
        change = before if id(node) in mine else after
        for index, name in enumerate(node.input):
            reshaped = change.get(name)
            if reshaped is not None:
                node.input[index] = reshaped.output[0]
    new: dict[int, list[onnx.NodeProto]] = {}
    for name, reshape in (*before.items(), *after.items()):
        assert reshape is not None
        new.setdefault(id(makers[name]), [makers[name]]).append(reshape)
    for node in group:
        for attribute in node.attribute:
            if attribute.name == "axis":
                attribute.i = -1
    graph.replace(new)


def _flat(shape: Shape) -> Shape:
    return tuple((int(np.prod(run[:-1])), run[-1]) for run in shape)


# ---- products and their biases


def _bias(graph: Rewrite, product: onnx.NodeProto, readers: Readers) -> tuple[onnx.NodeProto, str] | None:
    """The Add of a constant vector to `product`, if nothing else reads it, and the vector."""
    if not graph.is_private(product.output[0], readers):
        return None
    add = readers[product.output[0]][0]
    if add.op_type != "Add":
        return None
    vector = next((name for name in add.input if name != product.output[0]), "")
    is_vector = vector in graph.tensors and list(graph.tensors[vector].dims) == [graph.shapes[product.output[0]][0][-1]]
    return (add, vector) if is_vector else None


def fuse_biases(graph: Rewrite) -> None:
    """One Gemm for each product of matrices and the bias that is added to it."""
    readers = graph.readers()
    new: dict[int, list[onnx.NodeProto]] = {}
    for node in graph.nodes:
        if node.op_type != "MatMul" or len(graph.shapes[node.input[0]][0]) != 2:
            continue
        weight = graph.tensors.get(node.input[1])
        bias = _bias(graph, node, readers) if weight is not None and len(weight.dims) == 2 else None
        if bias is not None:
            add, vector = bias
            gemm = graph.node("Gemm", [*node.input, vector], add.output[0], graph.shapes[add.output[0]])
            gemm.name = node.name
            new |= {id(node): [], id(add): [gemm]}
    graph.replace(new)
