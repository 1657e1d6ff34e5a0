"""The IDX files of MNIST and its successors, gzipped or plain, read without torchvision."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import numpy as np

from vitsearch.data.arrays import Bytes
from vitsearch.errors import DataError

_UNSIGNED_BYTE = 8


def read_idx(path: Path) -> Bytes:
    """The uint8 array that ``path`` holds, in the shape its header states.

    Format: two zero bytes, a type byte (8: unsigned byte), the number of dimensions, then each
    dimension as a big-endian 32-bit integer, then the values. :class:`DataError` when the file is
    not of that form, is cut short or holds another type.
    """
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    if len(raw) < 4 or raw[:2] != b"\0\0" or raw[2] != _UNSIGNED_BYTE:
        raise DataError(f"{path}: not an IDX file of unsigned bytes (it starts with {raw[:4]!r})")
    values_at = 4 + 4 * raw[3]
    if len(raw) < values_at:
        raise DataError(f"{path}: ends within its header, after {len(raw)} bytes")
    shape = tuple(int(size) for size in np.frombuffer(raw[4:values_at], dtype=">u4"))
    values = np.frombuffer(raw, dtype=np.uint8, offset=values_at)
    expected = int(np.prod(shape, dtype=np.int64))
    if values.size != expected:
        raise DataError(f"{path}: {values.size} values follow a header of {shape}, expected {expected}")
    return values.reshape(shape)
