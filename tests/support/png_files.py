"""PNG files written without an image library, so that the numbers in them are known (https://www.w3.org/TR/png-3/)."""

import struct
import zlib

import numpy as np

GREY, COLOUR, PALETTE, GREY_ALPHA, COLOUR_ALPHA = 0, 2, 3, 4, 6


def png(values, bits, colour_type, transparent=b""):
    """The bytes of a PNG file.

    Args:
        values: (height, width), or (height, width, numbers for a pixel).
        bits: Of each number: 1, 2, 4, 8 or 16.
        colour_type: As in the file; a palette gets the same colour twice, and runs from light to dark.
        transparent: The content of its tRNS chunk; none where it is empty.
    """
    height, width = values.shape[:2]
    rows = b"".join(b"\0" + packed(row.ravel(), bits) for row in values)  # 0: the row is not filtered
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0))]
    if colour_type == PALETTE:
        chunks.append((b"PLTE", bytes(255 - index // 2 for index in range(2**bits) for _ in range(3))))
    chunks += [(b"tRNS", transparent)] if transparent else []
    chunks += [(b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(map(chunk, *zip(*chunks, strict=True)))


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def packed(numbers, bits):
    """A row of numbers of some bits, the first in the upper bits of the first byte."""
    if bits == 16:
        return numbers.astype(">u2").tobytes()
    places = (numbers[:, None] >> np.arange(bits)[::-1]) & 1
    return np.packbits(places.astype(np.uint8).ravel()).tobytes()
