"""Read a flatbuffer: tables that refer to each other by offsets.

Each offset is checked against the size of the file before it is followed.
"""

import os
import struct
from typing import BinaryIO, Iterator, List, NamedTuple, Optional

_NAME_MAX_BYTES, _DIMENSIONS_MAX = 256, 4096


class Broken(ValueError):
    """The file is malformed, for example by an offset outside the file."""


class Table(NamedTuple):
    """The position of a table, and of the list of its fields."""

    at: int
    vtable: int
    vtable_bytes: int


class Flatbuffer:
    """Reads little-endian numbers and follows offsets, only within the file."""

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self._stream = stream
        self._size = size

    def check(self, at: int, count: int) -> None:
        """Raise Broken unless the file has `count` bytes at `at`."""
        if at < 0 or at + count > self._size:
            raise Broken(f"byte {at}: an offset outside the file")

    def bytes(self, at: int, count: int) -> bytes:
        self.check(at, count)
        self._stream.seek(at, os.SEEK_SET)
        return self._stream.read(count)

    def u8(self, at: Optional[int]) -> int:
        return 0 if at is None else self.bytes(at, 1)[0]

    def u16(self, at: int) -> int:
        return int(struct.unpack("<H", self.bytes(at, 2))[0])

    def u32(self, at: int) -> int:
        return int(struct.unpack("<I", self.bytes(at, 4))[0])

    def u64(self, at: Optional[int]) -> int:
        return 0 if at is None else int(struct.unpack("<Q", self.bytes(at, 8))[0])

    def follow(self, at: int) -> int:
        return at + self.u32(at)

    def table(self, at: int) -> Table:
        vtable = at - int(struct.unpack("<i", self.bytes(at, 4))[0])
        size = self.u16(vtable)
        if size < 4 or size % 2:
            raise Broken(f"byte {vtable}: not a table")
        self.bytes(vtable, size)
        self.bytes(at, self.u16(vtable + 2))
        return Table(at, vtable, size)

    def field(self, table: Table, number: int) -> Optional[int]:
        """Return the position of a field of a table, None if the field is absent."""
        slot = 4 + 2 * number
        offset = self.u16(table.vtable + slot) if slot + 2 <= table.vtable_bytes else 0
        return table.at + offset if offset else None

    def length(self, at: Optional[int]) -> int:
        """Return the length of the vector or string that the field at `at` points to, 0 for None."""
        return 0 if at is None else self.u32(self.follow(at))

    def tables(self, at: Optional[int], most: int, what: str) -> Iterator[Table]:
        """Yield the tables of the vector that the field at `at` points to."""
        count = self.length(at)
        if at is None or not count:
            return
        if count > most:
            raise Broken(f"{count} {what}; the limit is {most}")
        first = self.follow(at) + 4
        for index in range(count):
            yield self.table(self.follow(first + 4 * index))

    def text(self, at: Optional[int]) -> str:
        """Return the start of the string that the field at `at` points to, empty for None."""
        length = min(self.length(at), _NAME_MAX_BYTES)
        return "" if at is None else self.bytes(self.follow(at) + 4, length).decode("utf-8", "replace")

    def numbers(self, at: Optional[int]) -> List[int]:
        """Return the vector of 32-bit numbers that the field at `at` points to, empty for None."""
        count = self.length(at)
        if at is None or count > _DIMENSIONS_MAX:
            if count:
                raise Broken(f"{count} dimensions; the limit is {_DIMENSIONS_MAX}")
            return []
        return list(struct.unpack(f"<{count}i", self.bytes(self.follow(at) + 4, 4 * count)))
