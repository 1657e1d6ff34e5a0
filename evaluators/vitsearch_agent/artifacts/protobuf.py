"""A reader of protobuf's wire format that does not load the file.

A message is a sequence of fields, each a key (number and wire type) and a value; the reader skips the content of
large fields. It reads through a window, because with a memory-mapped file a bad SD card would cause SIGBUS. (https://protobuf.dev/programming-guides/encoding)
"""

from typing import BinaryIO, Iterator, NamedTuple, Tuple

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5

_WINDOW_BYTES = 1 << 16
_VARINT_MAX_BYTES = 10


class Malformed(ValueError):
    """The bytes are not a valid protobuf message."""


class Field(NamedTuple):
    """One field: `value` is that of a varint; a field of bytes is at `start` to `end` in the file."""

    number: int
    wire: int
    value: int
    start: int
    end: int


class Message(NamedTuple):
    """A message that is still to be read: its kind, where it is in the file, and how deep it is nested."""

    kind: str
    start: int
    end: int
    depth: int


class ProtobufFile:
    """An open file of `size` bytes; reading more than `fields_max` fields raises Malformed."""

    def __init__(self, stream: BinaryIO, size: int, fields_max: int) -> None:
        self._stream = stream
        self._fields_left = fields_max
        self._window = b""
        self._base = 0
        self.size = size

    def fields(self, start: int, end: int) -> Iterator[Field]:
        """Yield the fields of the message from `start` to `end`; Malformed if it is not a message."""
        at = start
        while at < end:
            self._fields_left -= 1
            if self._fields_left < 0:
                raise Malformed("too many fields")
            key, at = self._varint(at, end)
            number, wire = key >> 3, key & 7
            if not 0 < number < 1 << 29:
                raise Malformed(f"byte {at}: invalid field number {number}")
            value, begin = 0, at
            if wire == VARINT:
                value, at = self._varint(at, end)
            elif wire == BYTES:
                length, begin = self._varint(at, end)
                at = begin + length
            elif wire in (FIXED32, FIXED64):
                at += 4 if wire == FIXED32 else 8
            else:
                raise Malformed(f"byte {at}: unknown wire type {wire}")
            if at > end:
                raise Malformed(f"byte {begin}: field {number} extends beyond its message")
            yield Field(number, wire, value, begin, at)

    def text(self, field: Field, longest: int = 256) -> str:
        """Return a field of bytes as text; Malformed if it has more than `longest` bytes."""
        length = field.end - field.start
        if length > longest:
            raise Malformed(f"byte {field.start}: a name has {length} bytes; the limit is {longest}")
        begin = field.start - self._base
        if not 0 <= begin <= len(self._window) - length:
            self._load(field.start, max(length, _WINDOW_BYTES))
            begin = 0
        return self._window[begin : begin + length].decode("utf-8", "replace")

    def _varint(self, at: int, end: int) -> Tuple[int, int]:
        index = at - self._base
        if not 0 <= index <= len(self._window) - _VARINT_MAX_BYTES:
            self._load(at)
            index = 0
        window, shift, value = self._window, 0, 0
        for byte in window[index : index + min(_VARINT_MAX_BYTES, end - at)]:
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value & 0xFFFFFFFFFFFFFFFF, at + shift // 7
        raise Malformed(f"byte {at}: a number without an end")

    def _load(self, at: int, count: int = _WINDOW_BYTES) -> None:
        self._stream.seek(at)
        self._window = self._stream.read(count)
        self._base = at
