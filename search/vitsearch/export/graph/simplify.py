"""The same ONNX graph in fewer nodes, by standard operators alone: every runtime reads what comes out.

Below 0.2 ms the cost of a node decides, about 0.45 us in onnxruntime. Shapes are constants as far as the batch allows;
what only moves sizes of one, or nothing, vanishes; and the layers of a transformer work on matrices of tokens
(`.token_rows`).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx

from vitsearch.export.graph.constant_folding import look
from vitsearch.export.graph.onnx_rewrite import Readers, Rewrite, named
from vitsearch.export.graph.token_rows import flatten_rows, fuse_biases, take_early

MOVES = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze"})
"""They keep the order of the elements."""
QKV = (2, 0, 3, 1, 4)
"""The permutation of (batch, tokens, 3, heads, channels) that puts queries, keys and values first."""


def simplify(path: Path) -> None:
    """Rewrite the file at `path` with fewer nodes."""
    graph = Rewrite(onnx.load(path))
    look(graph)
    _as_reshapes(graph)
    _split_without_squeezes(graph)
    _tidy(graph)
    take_early(graph)
    flatten_rows(graph)
    fuse_biases(graph)
    _tidy(graph)
    onnx.save(graph.finish(), path)


def _tidy(graph: Rewrite) -> None:
    """Until nothing changes: drop what does nothing, and merge what follows each other."""
    count = -1
    while count != len(graph.nodes):
        count = len(graph.nodes)
        _drop_noops(graph)
        _merge_transposes(graph)
        _merge_reshapes(graph)
        graph.prune()


def _as_reshapes(graph: Rewrite) -> None:
    """Write all that keeps the order of elements as Reshape with a constant target."""
    new: dict[int, list[onnx.NodeProto]] = {}
    for node in graph.nodes:
        if node.op_type in MOVES or (node.op_type == "Transpose" and _only_ones_move(graph, node)):
            reshape = graph.reshape(node.input[0], node.output[0], graph.shapes[node.output[0]])
            if reshape is not None:
                new[id(node)] = [reshape]
    graph.replace(new)


def _only_ones_move(graph: Rewrite, node: onnx.NodeProto) -> bool:
    """Whether a Transpose keeps the order of all axes that are longer than one."""
    shape = graph.shapes[node.input[0]]
    order = named(node, "perm", list(range(len(shape[0])))[::-1])
    longer = [axis for axis in order if any(run[axis] != 1 for run in shape)]
    return longer == sorted(longer)


def _drop_noops(graph: Rewrite) -> None:
    """Read past nodes whose output is their input."""
    for node in list(graph.nodes):
        if _does_nothing(graph, node):
            if node.output[0] not in graph.outputs:
                graph.redirect({node.output[0]: node.input[0]})
            elif len(graph.readers()[node.input[0]]) == 1 and node.input[0] in graph.makers():
                maker, old = graph.makers()[node.input[0]], node.input[0]
                maker.output[list(maker.output).index(old)] = node.output[0]
                graph.nodes = [other for other in graph.nodes if other is not node]


def _does_nothing(graph: Rewrite, node: onnx.NodeProto) -> bool:
    if node.op_type in ("Identity", "Dropout"):
        return True
    if node.op_type in ("Reshape", "Expand", "Pad"):
        return graph.shapes[node.input[0]] == graph.shapes[node.output[0]] and _has_no_border(graph, node)
    if node.op_type == "Cast":
        return named(node, "to", 0) == onnx.TensorProto.FLOAT and graph.is_float(node.input[0])
    if node.op_type == "Slice":
        steps = graph.value(node.input[4]) if len(node.input) > 4 else np.ones(1)
        same = graph.shapes[node.input[0]] == graph.shapes[node.output[0]]
        return same and steps is not None and bool((steps == 1).all())
    order = named(node, "perm", None)
    return node.op_type == "Transpose" and order is not None and order == sorted(order)


def _has_no_border(graph: Rewrite, node: onnx.NodeProto) -> bool:
    """Whether a Pad adds nothing; cutting here and adding there would keep the shape too."""
    if node.op_type != "Pad":
        return True
    sizes = graph.value(node.input[1])
    return sizes is not None and not sizes.any()


def _merge_transposes(graph: Rewrite) -> None:
    makers = graph.makers()
    for node in graph.nodes:
        before = makers.get(node.input[0]) if node.op_type == "Transpose" else None
        if before is not None and before.op_type == "Transpose":
            first, second = named(before, "perm", None), named(node, "perm", None)
            if first and second:
                del node.attribute[:]
                node.attribute.append(onnx.helper.make_attribute("perm", [first[axis] for axis in second]))
                node.input[0] = before.input[0]


def _merge_reshapes(graph: Rewrite) -> None:
    """Let a Reshape behind another read what that one reads."""
    makers = graph.makers()
    for node in graph.nodes:
        before = makers.get(node.input[0]) if node.op_type == "Reshape" else None
        if before is not None and before.op_type == "Reshape" and _is_absolute(graph, node):
            node.input[0] = before.input[0]


def _is_absolute(graph: Rewrite, reshape: onnx.NodeProto) -> bool:
    """Whether the target has no 0, which stands for a size of the input."""
    target = graph.value(reshape.input[1])
    return target is not None and bool((target != 0).all())


def _split_without_squeezes(graph: Rewrite) -> None:
    """Queries, keys and values (batch, heads, tokens, channels) by one Split of `3 x heads` instead of a Split in
    three and a Squeeze (or a Gather) of each."""
    makers, readers = graph.makers(), graph.readers()
    new: dict[int, list[onnx.NodeProto]] = {}
    for node in graph.nodes:
        move = (
            makers.get(node.input[0])
            if node.op_type == "Transpose" and named(node, "perm", None) == list(QKV)
            else None
        )
        if move is None or move.op_type != "Reshape" or not graph.is_private(move.output[0], readers):
            continue
        parts = _parts(graph, node.output[0], readers)
        if parts is None:
            continue
        gone, outputs = parts
        x, y = graph.shapes[move.input[0]], graph.shapes[move.output[0]]
        joined = tuple((run[0], run[1], run[2] * run[3], run[4]) for run in y)
        reshape = graph.reshape(move.input[0], graph.fresh(move.output[0]), joined)
        if reshape is None or not x:
            continue
        turned = graph.fresh(node.output[0])
        shape = tuple((run[0], run[2], run[1], run[3]) for run in joined)
        transpose = graph.node("Transpose", reshape.output, turned, shape, perm=[0, 2, 1, 3])
        heads = graph.constant(np.full(3, y[0][3], np.int64))
        split = onnx.helper.make_node("Split", [turned, heads], outputs, graph.fresh("split"), axis=1)
        new |= {id(move): [], id(node): [reshape, transpose, split], **{id(squeeze): [] for squeeze in gone}}
    graph.replace(new)


def _parts(graph: Rewrite, name: str, readers: Readers) -> tuple[list[onnx.NodeProto], list[str]] | None:
    """The nodes that take the three parts along the first axis out of `name`, and the names of the parts."""
    reading = readers[name]
    if len(reading) == 1 and reading[0].op_type == "Split" and len(reading[0].output) == 3:
        split = reading[0]
        moves = [readers[part][0] for part in split.output if graph.is_private(part, readers)]
        squeezed = graph.shapes[name][0][1:]
        squeezes = all(move.op_type == "Reshape" and graph.shapes[move.output[0]][0] == squeezed for move in moves)
        if named(split, "axis", 0) == 0 and len(moves) == 3 and squeezes:
            return [split, *moves], [move.output[0] for move in moves]
    if len(reading) == 3 and all(node.op_type == "Gather" and named(node, "axis", 0) == 0 for node in reading):
        by_index = {
            int(index): node for node in reading if (index := graph.value(node.input[1])) is not None and not index.ndim
        }
        if sorted(by_index) == [0, 1, 2]:
            return reading, [by_index[index].output[0] for index in range(3)]
    return None
