"""Operators that only onnxruntime has, for its provider on CPUs.

onnxruntime makes most of its fused operators itself when it loads a file (Gelu, FusedMatMul, convolutions with their
activation). Here is what it does not make and was measured to be faster: MultiHeadAttention took .94 to .98 of the time
of four models. SkipLayerNormalization took 1.06 to 1.14 of it, so residual sums stay apart from their norms.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import helper

from vitsearch.export.graph.constant_folding import look
from vitsearch.export.graph.onnx_rewrite import Readers, Rewrite, named

DOMAIN = "com.microsoft"
HEADS_FIRST = [0, 2, 1, 3]


@dataclass(frozen=True, eq=False)
class Attention:
    """`softmax(scale q k^T) v` of queries, keys and values that one Split takes from `qkv`.

    `inside` are its nodes, the first of them the Reshape to (batch, tokens, 3 x heads, channels); `last` puts the
    heads behind the tokens again.
    """

    inside: list[onnx.NodeProto]
    last: onnx.NodeProto
    scale: float


def fuse(path: Path) -> None:
    """Rewrite the file at `path` with fused operators; a file without places for them stays as it is."""
    graph = Rewrite(onnx.load(path))
    look(graph)
    count = len(graph.nodes)
    fold_batch_norms(graph)
    fuse_attention(graph)
    if len(graph.nodes) == count:
        return
    if any(node.domain == DOMAIN for node in graph.nodes):
        opsets = [opset for opset in graph.model.opset_import if opset.domain != DOMAIN]
        del graph.model.opset_import[:]
        graph.model.opset_import.extend([*opsets, helper.make_opsetid(DOMAIN, 1)])
    onnx.save(graph.finish(), path)


# ---- attention


def fuse_attention(graph: Rewrite) -> None:
    """One MultiHeadAttention for each attention over one `qkv` without a bias."""
    makers, readers = graph.makers(), graph.readers()
    new: dict[int, list[onnx.NodeProto]] = {}
    for softmax in graph.nodes:
        attention = _attention(graph, softmax, makers, readers) if softmax.op_type == "Softmax" else None
        if attention is None:
            continue
        first = attention.inside[0]
        shape = graph.shapes[first.output[0]]
        heads, channels = shape[0][2] // 3, shape[0][3]
        joined = tuple((run[0], run[1], run[2] * run[3]) for run in shape)
        reshape = graph.reshape(first.input[0], graph.fresh(first.output[0]), joined)
        if reshape is None:
            continue
        parts = [graph.fresh(f"{attention.last.output[0]}/{part}") for part in "qkv"]
        width = graph.constant(np.full(3, heads * channels, np.int64))
        split = helper.make_node("Split", [reshape.output[0], width], parts, axis=2)
        settings = {"num_heads": heads, "scale": attention.scale}
        fused = helper.make_node("MultiHeadAttention", parts, list(attention.last.output), domain=DOMAIN, **settings)
        new |= {id(node): [] for node in attention.inside} | {id(attention.last): [reshape, split, fused]}
    graph.replace(new)


def _attention(
    graph: Rewrite, softmax: onnx.NodeProto, makers: dict[str, onnx.NodeProto], readers: Readers
) -> Attention | None:
    scores = makers.get(softmax.input[0])
    queries = makers.get(scores.input[0]) if scores is not None and scores.op_type == "MatMul" else None
    keys = makers.get(scores.input[1]) if scores is not None and queries is not None else None
    if scores is None or queries is None or keys is None or queries.op_type != "Mul" or keys.op_type != "Transpose":
        return None
    split = makers.get(queries.input[0])
    turn = makers.get(split.input[0]) if split is not None and split.op_type == "Split" else None
    first = makers.get(turn.input[0]) if turn is not None and turn.op_type == "Transpose" else None
    if split is None or turn is None or first is None or first.op_type != "Reshape" or len(split.output) != 3:
        return None
    mixed = readers[softmax.output[0]][0]
    last = readers[mixed.output[0]][0] if readers[mixed.output[0]] else None
    if last is None or mixed.op_type != "MatMul" or last.op_type != "Transpose":
        return None
    scale = graph.value(queries.input[1])
    is_plain = (
        [queries.input[0], keys.input[0], mixed.input[1]] == list(split.output)
        and scale is not None
        and scale.size == 1
        and named(split, "axis", 0) == 1
        and named(keys, "perm", None) == [0, 1, 3, 2]
        and named(turn, "perm", None) == named(last, "perm", None) == HEADS_FIRST
        and named(softmax, "axis", -1) in (-1, 3)
        and len(graph.shapes[first.output[0]][0]) == 4
    )
    inside = [first, turn, split, queries, keys, scores, softmax, mixed]
    alone = all(graph.is_private(name, readers) for node in inside for name in node.output)
    return Attention(inside, last, float(scale.ravel()[0])) if is_plain and alone and scale is not None else None


# ---- batch norms


def fold_batch_norms(graph: Rewrite) -> None:
    """One Gemm for a linear layer and the batch norm behind it (LeViT)."""
    makers, readers = graph.makers(), graph.readers()
    new: dict[int, list[onnx.NodeProto]] = {}
    for norm in graph.nodes:
        if norm.op_type != "BatchNormalization" or len(graph.shapes[norm.input[0]][0]) != 2:
            continue
        flat = makers.get(norm.input[0])
        product = makers.get(flat.input[0]) if flat is not None and flat.op_type == "Reshape" else None
        if flat is None or product is None or product.op_type != "MatMul":
            continue
        private = graph.is_private(product.output[0], readers) and graph.is_private(flat.output[0], readers)
        gemm = _folded(graph, norm, product) if private else None
        if gemm is not None:
            new |= {id(product): [], id(flat): [], id(norm): gemm}
    graph.replace(new)


def _folded(graph: Rewrite, norm: onnx.NodeProto, product: onnx.NodeProto) -> list[onnx.NodeProto] | None:
    """A Reshape to matrices and the Gemm of `product` and `norm`; None if their numbers are not constants."""
    weight, parameters = graph.value(product.input[1]), [graph.value(name) for name in norm.input[1:]]
    if weight is None or weight.ndim != 2:
        return None
    arrays = [np.asarray(parameter, np.float64) for parameter in parameters if parameter is not None]
    if len(arrays) != 4:
        return None
    gain, shift, mean, variance = arrays
    factor = gain / np.sqrt(variance + named(norm, "epsilon", 1e-5))
    x, rows = product.input[0], graph.shapes[norm.input[0]]
    before = graph.reshape(x, graph.fresh(x), tuple((run[0], weight.shape[0]) for run in rows))
    if before is None:
        return None
    folded = graph.constant((weight * factor).astype(np.float32), product.input[1])
    bias = graph.constant((shift - mean * factor).astype(np.float32), norm.input[2])
    y = norm.output[0]
    return [before, graph.node("Gemm", [before.output[0], folded, bias], y, graph.shapes[y])]
