"""TFLite files with the operators that a test names, without any weights."""

from collections.abc import Sequence
from typing import NamedTuple

import flatbuffers


class Tensor(NamedTuple):
    """`type` is its number in the schema (0: float32, 9: int8)."""

    shape: Sequence[int]
    type: int = 0


class Operator(NamedTuple):
    """`code` is its number in the schema; inputs and outputs are indices of tensors, -1 for one that is left out."""

    code: int
    inputs: Sequence[int]
    outputs: Sequence[int]


def tflite_graph(tensors: Sequence[Tensor], operators: Sequence[Operator]) -> bytes:
    """The bytes of a file with one graph."""
    builder = flatbuffers.Builder(1024)

    def numbers(values: Sequence[int]) -> int:
        builder.StartVector(4, len(values), 4)
        for value in reversed(values):
            builder.PrependInt32(value)
        return builder.EndVector()

    def tables(offsets: Sequence[int]) -> int:
        builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            builder.PrependUOffsetTRelative(offset)
        return builder.EndVector()

    def tensor(item: Tensor) -> int:
        shape = numbers(item.shape)
        builder.StartObject(4)
        builder.PrependUOffsetTRelativeSlot(0, shape, 0)
        builder.PrependInt8Slot(1, item.type, 0)
        return builder.EndObject()

    def operator(index: int, item: Operator) -> int:
        inputs, outputs = numbers(item.inputs), numbers(item.outputs)
        builder.StartObject(3)
        builder.PrependUint32Slot(0, index, 0)
        builder.PrependUOffsetTRelativeSlot(1, inputs, 0)
        builder.PrependUOffsetTRelativeSlot(2, outputs, 0)
        return builder.EndObject()

    def code(number: int) -> int:
        builder.StartObject(4)
        builder.PrependInt8Slot(0, min(number, 127), 0)
        builder.PrependInt32Slot(3, number, 0)
        return builder.EndObject()

    listed = tables([tensor(item) for item in tensors])
    inner = tables([operator(index, item) for index, item in enumerate(operators)])
    builder.StartObject(4)
    builder.PrependUOffsetTRelativeSlot(0, listed, 0)
    builder.PrependUOffsetTRelativeSlot(3, inner, 0)
    graphs = tables([builder.EndObject()])
    codes = tables([code(item.code) for item in operators])
    builder.StartObject(3)
    builder.PrependUint32Slot(0, 3, 0)
    builder.PrependUOffsetTRelativeSlot(1, codes, 0)
    builder.PrependUOffsetTRelativeSlot(2, graphs, 0)
    builder.Finish(builder.EndObject(), file_identifier=b"TFL3")
    return bytes(builder.Output())
