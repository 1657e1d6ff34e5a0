"""Whether a TFLite file is one, and needs nothing but the operators of TFLite itself.

A flatbuffer is tables that point at each other by offsets; every one that is followed here is checked
against the file first. Field numbers are those of the schema
(https://github.com/tensorflow/tensorflow/blob/master/tensorflow/compiler/mlir/lite/schema/schema.fbs).
"""

import os
import struct
from typing import BinaryIO, NamedTuple, Optional

from vitsearch_evaluators.artifacts.base import Facts, refusal

_IDENTIFIER = b"TFL3"
_VERSION_FIELD, _OPERATOR_CODES_FIELD, _SUBGRAPHS_FIELD = 0, 1, 2
_CUSTOM_CODE_FIELD = 1
_SCHEMA_VERSION = 3
_OPERATORS_MAX, _NAME_MAX_BYTES = 4096, 256


class _Broken(ValueError):
    """An offset points out of the file."""


class _Table(NamedTuple):
    at: int
    vtable: int
    vtable_bytes: int


class _Flatbuffer:
    """Reads little-endian numbers and follows offsets, inside the file alone."""

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self._stream = stream
        self._size = size

    def bytes(self, at: int, count: int) -> bytes:
        if at < 0 or at + count > self._size:
            raise _Broken(f"byte {at}: an offset points out of the file")
        self._stream.seek(at, os.SEEK_SET)
        return self._stream.read(count)

    def u16(self, at: int) -> int:
        return int(struct.unpack("<H", self.bytes(at, 2))[0])

    def u32(self, at: int) -> int:
        return int(struct.unpack("<I", self.bytes(at, 4))[0])

    def follow(self, at: int) -> int:
        return at + self.u32(at)

    def table(self, at: int) -> _Table:
        vtable = at - int(struct.unpack("<i", self.bytes(at, 4))[0])
        size = self.u16(vtable)
        if size < 4 or size % 2:
            raise _Broken(f"byte {vtable}: there is no table")
        self.bytes(vtable, size)
        self.bytes(at, self.u16(vtable + 2))
        return _Table(at, vtable, size)

    def field(self, table: _Table, number: int) -> Optional[int]:
        """Return where a field of a table lies, None where it is left out."""
        slot = 4 + 2 * number
        offset = self.u16(table.vtable + slot) if slot + 2 <= table.vtable_bytes else 0
        return table.at + offset if offset else None

    def length(self, at: Optional[int]) -> int:
        """Return the length of the vector or string that the field at `at` points to, 0 for None."""
        return 0 if at is None else self.u32(self.follow(at))


def inspect(stream: BinaryIO, size: int) -> Facts:
    """Return what the file asks for; MeasurementFailed `incompatible_artifact` says why it is not run."""
    buffer = _Flatbuffer(stream, size)
    try:
        if buffer.bytes(4, 4) != _IDENTIFIER:
            raise _Broken("it does not have the identifier TFL3")
        model = buffer.table(buffer.follow(0))
        version = buffer.field(model, _VERSION_FIELD)
        if version is None or buffer.u32(version) != _SCHEMA_VERSION:
            raise _Broken(f"its schema is not version {_SCHEMA_VERSION}")
        if not buffer.length(buffer.field(model, _SUBGRAPHS_FIELD)):
            raise _Broken("it has no graph")
        custom = _custom_operator(buffer, model)
    except _Broken as error:
        raise refusal(f"this is no TFLite file: {error}") from error
    if custom is not None:
        raise refusal(f"the operator {custom!r} is a custom one, which needs a library of its own")
    return Facts("tflite")


def _custom_operator(buffer: _Flatbuffer, model: _Table) -> Optional[str]:
    field = buffer.field(model, _OPERATOR_CODES_FIELD)
    count = buffer.length(field)
    if field is None or not count:
        return None
    if count > _OPERATORS_MAX:
        raise _Broken(f"it names {count} operators")
    first = buffer.follow(field) + 4
    for index in range(count):
        code = buffer.table(buffer.follow(first + 4 * index))
        name = buffer.field(code, _CUSTOM_CODE_FIELD)
        length = buffer.length(name)
        if name is not None and length:
            text = buffer.bytes(buffer.follow(name) + 4, min(length, _NAME_MAX_BYTES))
            return text.decode("utf-8", "replace")
    return None
