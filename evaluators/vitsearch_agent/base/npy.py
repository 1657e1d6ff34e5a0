"""Headers of .npy files without NumPy: read to check a file before NumPy opens it, and written on machines without it.

Only one plain array, little endian, in C order, is accepted. Nothing in the file is evaluated or unpickled. Format: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
"""

import os
import re
import struct
from typing import NamedTuple, Tuple

from vitsearch_agent.errors import InvalidRequest

_MAGIC = b"\x93NUMPY"
_HEADER_MAX_BYTES = 4096
_HEADER = re.compile(
    r"\{'descr': '([<|][a-z][0-9]{1,2})', 'fortran_order': (True|False), 'shape': \(([0-9, ]{0,160})\), \} *\n\Z"
)
_IMAGES = ("<f4", "|u1")
_ALIGNED_TO = 64


class Header(NamedTuple):
    """The header of an array: `dtype` as NumPy writes it (`<f4`); the array's bytes begin at `offset`."""

    dtype: str
    shape: Tuple[int, ...]
    offset: int


def read_header(path: str, name: str) -> Header:
    """Read and check the header of a complete array in C order; InvalidRequest for anything else.

    Errors call the file `name`.
    """
    with open(path, "rb") as stream:
        start = stream.read(12)
        if not start.startswith(_MAGIC) or len(start) < 12 or start[6] not in (1, 2):
            raise InvalidRequest(f"{name} is not a .npy file of version 1 or 2")
        offset = 10 if start[6] == 1 else 12
        length = struct.unpack("<H" if offset == 10 else "<I", start[8:offset])[0]
        stream.seek(offset)
        text = stream.read(min(length, _HEADER_MAX_BYTES)).decode("latin-1")
    match = _HEADER.match(text)
    if match is None:
        raise InvalidRequest(f"{name}: expected one little-endian array of numbers, got {text.strip()[:200]!r}")
    dtype, fortran, sizes = match.groups()
    if fortran == "True":
        raise InvalidRequest(f"{name} is in Fortran order; save numpy.ascontiguousarray(...) of it")
    shape = tuple(int(size) for size in sizes.replace(" ", "").split(",") if size)
    expected = offset + length + _count(shape) * int(dtype[2:])
    if os.path.getsize(path) != expected:
        raise InvalidRequest(f"{name} has {os.path.getsize(path)} bytes, but its header requires {expected}")
    return Header(dtype, shape, offset + length)


def check_images(path: str) -> Header:
    """Return the header of images for a model.

    Raises InvalidRequest unless they are (N, C, H, W), float32 or uint8.
    """
    images = read_header(path, "images")
    if images.dtype not in _IMAGES or len(images.shape) != 4 or 0 in images.shape:
        raise InvalidRequest(f"images: expected float32 or uint8, N x C x H x W, got {_described(images)}")
    return images


def header_of(dtype: str, shape: Tuple[int, ...]) -> bytes:
    """Return the header of a file of version 1: the bytes of the array, in C order, follow it."""
    sizes = ", ".join(map(str, shape)) + "," * (len(shape) == 1)
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': ({sizes}), }}"
    padding = -(len(_MAGIC) + 4 + len(text) + 1) % _ALIGNED_TO
    length = struct.pack("<H", len(text) + padding + 1)
    return _MAGIC + b"\x01\x00" + length + (text + " " * padding + "\n").encode("ascii")


def _count(shape: Tuple[int, ...]) -> int:
    count = 1
    for size in shape:
        count *= size
    return count


def _described(header: Header) -> str:
    return f"{header.dtype} of shape {header.shape}"
