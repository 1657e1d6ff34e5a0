"""Writes TFLite files, the counterpart of `artifacts.tflite_file`; the standard library has no flatbuffers.

A flatbuffer consists of tables that refer to what lies behind them. So everything is written from the front to the
back, and an offset is filled in when its target is known. Field numbers are those of TensorFlow's schema.fbs.
"""

import struct
from typing import List, NamedTuple, Optional, Sequence

CONVOLUTION, DEPTHWISE, PRODUCT = 3, 4, 9
"""Operators: CONV_2D, DEPTHWISE_CONV_2D, FULLY_CONNECTED."""
_OPTIONS = {CONVOLUTION: 1, DEPTHWISE: 2, PRODUCT: 8}
_SAME, _RELU = 0, 1
_VERSION = 3


class Tensor(NamedTuple):
    """A float32 tensor; `content` are the bytes of a constant one, None otherwise."""

    name: str
    shape: Sequence[int]
    content: Optional[bytes] = None


class Operator(NamedTuple):
    """An operator with a Relu behind it, of stride 1 and padding `same`; inputs and output are indices of tensors."""

    code: int
    inputs: Sequence[int]
    output: int


class _Writer:
    def __init__(self, identifier: bytes) -> None:
        self.out = bytearray(4) + identifier

    def put(self, content: bytes, alignment: int = 4) -> int:
        """Append bytes and return their position."""
        self.out.extend(bytes(-len(self.out) % alignment))
        position = len(self.out)
        self.out.extend(content)
        return position

    def point(self, position: int, target: int) -> None:
        """Let the offset at a position lead to what was written behind it."""
        self.out[position : position + 4] = struct.pack("<I", target - position)

    def table(self, *fields: Optional[bytes]) -> List[int]:
        """Append a table with the bytes of its fields (None: absent); return its position, then those of its fields."""
        slots, size = [], 4
        for field in fields:
            size += -size % len(field or b"\0")
            slots.append(0 if field is None else size)
            size += len(field or b"")
        vtable = self.put(struct.pack(f"<{2 + len(slots)}H", 4 + 2 * len(slots), size, *slots))
        content = bytearray(size)
        position = len(self.out) + -len(self.out) % 4
        content[:4] = struct.pack("<i", position - vtable)
        for slot, field in zip(slots, fields):
            if field is not None:
                content[slot : slot + len(field)] = field
        self.put(bytes(content))
        return [position] + [position + slot for slot in slots]

    def vector(self, position: int, count: int, content: bytes, alignment: int = 4) -> int:
        """Append a vector for the offset at a position, its content aligned; return the position of the content."""
        self.out.extend(bytes(-(len(self.out) + 4) % alignment))
        start = self.put(struct.pack("<I", count), 1)
        self.out.extend(content)
        self.point(position, start)
        return start + 4

    def numbers(self, position: int, values: Sequence[int]) -> None:
        self.vector(position, len(values), struct.pack(f"<{len(values)}i", *values))

    def tables(self, position: int, count: int) -> List[int]:
        """Append a vector of offsets to tables; return the positions of the offsets."""
        start = self.vector(position, count, bytes(4 * count))
        return [start + 4 * index for index in range(count)]


_OFFSET = bytes(4)
"""The place of an offset."""


def model(tensors: Sequence[Tensor], operators: Sequence[Operator]) -> bytes:
    """Return the bytes of a file with one graph.

    Args:
        tensors: The first is its input, the last its output.
        operators: In the order in which they compute.

    Returns:
        A TFLite file of schema version 3.
    """
    writer = _Writer(b"TFL3")
    root, _, codes, graphs, _, buffers = writer.table(_u32(_VERSION), _OFFSET, _OFFSET, None, _OFFSET)
    writer.point(0, root)
    used = sorted({operator.code for operator in operators})
    for position, code in zip(writer.tables(codes, len(used)), used):
        writer.point(position, writer.table(bytes([code]), None, _u32(1), _u32(code))[0])
    constants = [tensor for tensor in tensors if tensor.content is not None]
    _graph(writer, writer.tables(graphs, 1)[0], tensors, operators)
    first, *others = writer.tables(buffers, 1 + len(constants))
    writer.point(first, writer.table()[0])  # that of all tensors that are computed
    for position, tensor in zip(others, constants):
        table, data = writer.table(_OFFSET)
        writer.point(position, table)
        content = tensor.content or b""
        writer.vector(data, len(content), content, 16)
    return bytes(writer.out)


def _graph(writer: _Writer, place: int, tensors: Sequence[Tensor], operators: Sequence[Operator]) -> None:
    table, listed, inputs, outputs, inner = writer.table(_OFFSET, _OFFSET, _OFFSET, _OFFSET)
    writer.point(place, table)
    writer.numbers(inputs, [0])
    writer.numbers(outputs, [len(tensors) - 1])
    constants = 0
    for position, tensor in zip(writer.tables(listed, len(tensors)), tensors):
        constants += tensor.content is not None
        buffer = 0 if tensor.content is None else constants
        table, shape, _, _, name = writer.table(_OFFSET, b"\0", _u32(buffer), _OFFSET)
        writer.point(position, table)
        writer.numbers(shape, tensor.shape)
        writer.vector(name, len(tensor.name), tensor.name.encode() + b"\0")
    used = sorted({operator.code for operator in operators})
    for position, operator in zip(writer.tables(inner, len(operators)), operators):
        index, kind = used.index(operator.code), bytes([_OPTIONS[operator.code]])
        table, _, read, written, _, options = writer.table(_u32(index), _OFFSET, _OFFSET, kind, _OFFSET)
        writer.point(position, table)
        writer.numbers(read, operator.inputs)
        writer.numbers(written, [operator.output])
        writer.point(options, writer.table(*_options(operator.code))[0])


def _options(code: int) -> List[bytes]:
    """Return the fields of an operator's options: the Relu, and before it padding, strides and depth multiplier."""
    relu = bytes([_RELU])
    if code == PRODUCT:
        return [relu]
    fields = [bytes([_SAME]), _u32(1), _u32(1)]
    return [*fields, relu] if code == CONVOLUTION else [*fields, _u32(1), relu]


def _u32(value: int) -> bytes:
    return struct.pack("<I", value)
