"""MACs of an ExecuTorch program: of the graphs that XNNPACK's delegate gets, and of the kernels beside them.

Field numbers are those of executorch/backends/xnnpack/serialization/schema.fbs.
"""

from __future__ import annotations

import io
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from vitsearch.core.plan import Deployment
from vitsearch.export.evaluate import OpenFile
from vitsearch_agent.artifacts import executorch_file
from vitsearch_agent.artifacts.executorch_file import KernelCall
from vitsearch_agent.artifacts.flatbuffer import Flatbuffer, Table

NODES, VALUES = 1, 2
"""Fields of a graph."""
UNION_TYPE, UNION = 0, 1
FULLY_CONNECTED, CONV, DEPTHWISE_CONV, BATCH_MATMUL, CONV_TRANSPOSE = 2, 7, 13, 37, 39
"""Numbers of nodes in `XNodeUnion`."""
LEFT, RIGHT, PRODUCT, LAYER_RESULT = 0, 1, 2, 3
"""Fields of products: the ids of their operands and, of a product of activations and of a layer, of the result."""
KERNEL_HEIGHT, KERNEL_WIDTH, GROUP_INPUTS, GROUP_OUTPUTS, CONV_LEFT, CONV_RIGHT, CONV_RESULT = 4, 5, 10, 11, 15, 16, 18
QUANTIZED_VALUE, TYPE, DIMS, ID = 2, 0, 2, 6
"""What a value is, and fields of one."""
TYPES = {1: "fp32", 2: "fp16", 14: "bf16"} | dict.fromkeys((3, 4, 6, 8, 9, 10, 11), "int8")
"""`XNNDatatype` -> precision; 4-bit weights are multiplied in int8."""
MOST = 1 << 18
HEADER, GRAPH_AT, GRAPH_BYTES = b"XH00", slice(10, 14), slice(14, 18)
"""What is in front of a graph whose constants lie behind it."""


class Value(NamedTuple):
    precision: str
    dims: tuple[int, ...]


def macs(path: Path, deployment: Deployment, opened: OpenFile | None = None) -> Mapping[str, int]:
    """Precision -> MACs of one run."""
    return _macs(path)


def _macs(path: Path) -> Counter[str]:
    content = path.read_bytes()
    program = executorch_file.program(io.BytesIO(content), len(content))
    count: Counter[str] = Counter()
    for span in program.delegates:
        for precision, products in _delegated(content[span.offset : span.offset + span.size]):
            count[precision] += products
    count["fp32"] += sum(map(_of_kernel, program.kernels))
    return count


def delegated(path: Path) -> float:
    """The share of the MACs of a program that its delegates compute, 0 to 1."""
    content = path.read_bytes()
    program = executorch_file.program(io.BytesIO(content), len(content))
    outside = sum(map(_of_kernel, program.kernels))
    total = sum(_macs(path).values())
    return 1.0 - outside / total if total else 0.0


def _delegated(content: bytes) -> Iterator[tuple[str, int]]:
    """Precision and MACs of each product of a delegate's graph."""
    if content[4:8] == HEADER:
        start, size = (int.from_bytes(content[part], "little") for part in (GRAPH_AT, GRAPH_BYTES))
        content = content[start : start + size]
    buffer = Flatbuffer(io.BytesIO(content), len(content))
    graph = buffer.table(buffer.follow(0))
    values = dict(_value(buffer, table) for table in buffer.tables(buffer.field(graph, VALUES), MOST, "values"))
    for node in buffer.tables(buffer.field(graph, NODES), MOST, "nodes"):
        kind = buffer.u8(buffer.field(node, UNION_TYPE))
        if kind in (FULLY_CONNECTED, CONV, DEPTHWISE_CONV, BATCH_MATMUL, CONV_TRANSPOSE):
            yield _product(buffer, kind, _member(buffer, node), values)


def _product(buffer: Flatbuffer, kind: int, table: Table, values: Mapping[int, Value]) -> tuple[str, int]:
    def number(field: int) -> int:
        return _number(buffer, table, field)

    if kind in (FULLY_CONNECTED, BATCH_MATMUL):
        left, right = values[number(LEFT)], values[number(RIGHT)]
        result = values[number(PRODUCT if kind == BATCH_MATMUL else LAYER_RESULT)]
        return _precision(left, right), math.prod(result.dims) * left.dims[-1]
    left, right, result = (values[number(field)] for field in (CONV_LEFT, CONV_RIGHT, CONV_RESULT))
    taps = number(KERNEL_HEIGHT) * number(KERNEL_WIDTH)
    if kind == CONV_TRANSPOSE:
        return _precision(left, right), math.prod(left.dims) * taps * number(GROUP_OUTPUTS)
    return _precision(left, right), math.prod(result.dims) * taps * number(GROUP_INPUTS)


def _precision(left: Value, right: Value) -> str:
    """That of the smaller operand: fp32 is rounded as it comes to meet int8 weights."""
    return right.precision if left.precision == "fp32" else left.precision


def _value(buffer: Flatbuffer, table: Table) -> tuple[int, Value]:
    tensor = _member(buffer, table)
    if buffer.u8(buffer.field(table, UNION_TYPE)) == QUANTIZED_VALUE:
        field = buffer.field(tensor, 0)
        assert field is not None  # a quantized value has its tensor
        tensor = buffer.table(buffer.follow(field))
    at = buffer.field(tensor, TYPE)
    kind = 0 if at is None else buffer.u16(at)
    dims = tuple(buffer.numbers(buffer.field(tensor, DIMS)))
    return _number(buffer, tensor, ID), Value(TYPES.get(kind, "fp32"), dims)


def _member(buffer: Flatbuffer, table: Table) -> Table:
    at = buffer.field(table, UNION)
    assert at is not None  # a union has a table
    return buffer.table(buffer.follow(at))


def _number(buffer: Flatbuffer, table: Table, field: int) -> int:
    at = buffer.field(table, field)
    return 0 if at is None else buffer.u32(at)


def _of_kernel(call: KernelCall) -> int:
    """MACs of a call of one of ExecuTorch's own kernels, which compute in fp32."""
    name, shapes = call.operator.partition(".")[0].rpartition("::")[2], call.shapes
    result = math.prod(shapes[-1] or ())
    if name in ("mm", "bmm"):
        return result * (shapes[0] or (1,))[-1]
    if name == "addmm":
        return result * (shapes[1] or (1,))[-1]
    if name == "convolution":
        return result * math.prod((shapes[1] or ())[1:])
    return 0
