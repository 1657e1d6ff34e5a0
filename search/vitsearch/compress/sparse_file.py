"""The zero weights of an exported file, and the size of the file when it is compressed."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from vitsearch.compress.quantization.onnx_graph import attributes, constants

DEFLATE_LEVEL = 6
"""The default of gzip."""
PRODUCTS = ("MatMul", "MatMulInteger", "MatMulIntegerToFloat", "Gemm")


def zeros(path: Path) -> Iterator[NDArray[np.bool_]]:
    """Masks of the zero weights of each product with constant weights and of each convolution, int8 weights included.

    The shape of a mask is (outputs, pixels of the kernel x inputs).
    """
    graph = onnx.load(path).graph
    tensors = constants(graph)
    for node in graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear", "Cast") and node.input[0] in tensors:
            tensors[node.output[0]] = tensors[node.input[0]]
    for node in graph.node:
        tensor = tensors.get(node.input[1]) if node.op_type in (*PRODUCTS, "Conv") else None
        if tensor is not None and len(tensor.dims) >= 2:
            yield _rows(node, numpy_helper.to_array(tensor)) == 0


def compressed_bytes(path: Path) -> int:
    """Size of the file after compression with gzip."""
    packer = zlib.compressobj(DEFLATE_LEVEL)
    with path.open("rb") as file:
        packed = sum(len(packer.compress(block)) for block in iter(lambda: file.read(1 << 20), b""))
    return packed + len(packer.flush())


def _rows(node: onnx.NodeProto, weight: NDArray[Any]) -> NDArray[Any]:
    if node.op_type == "Conv":
        return weight.reshape(*weight.shape[:2], -1).transpose(0, 2, 1).reshape(len(weight), -1)
    return weight if node.op_type == "Gemm" and attributes(node).get("transB") else weight.T
