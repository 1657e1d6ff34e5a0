"""Decoding of one image to uint8 pixels of the stored size."""

from __future__ import annotations

import hashlib
import io
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, BinaryIO, NamedTuple, TypeAlias

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from vitsearch.core.image_size import ImageSize
from vitsearch.data.arrays import Bytes

UNREADABLE = (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError)
"""What Pillow raises for files that are damaged or are not images."""
DEEP = ("I", "I;16", "I;16B", "I;16L", "I;16N")
"""Modes of more than 8 bits for a pixel."""
GREY = ("1", "L", "LA", "La", *DEEP)
_SPARE = 2  # a JPEG is decoded at this multiple of the stored size or more, so that our resizing decides its look

_ON_ITS_SIDE = (5, 6, 7, 8)  # EXIF orientations that swap height and width
_PNG_METADATA = (b"eXIf", b"iTXt", b"zTXt")  # chunks that may say an orientation

Content: TypeAlias = Path | bytes | Image.Image
"""An image file, its bytes, or an image that a data set's own reader has decoded."""


def decode_image(content: Content, image_size: ImageSize, channels: int) -> Bytes:
    """Decode an image to uint8 (height, width, channels) of a size.

    The image is turned as its EXIF data says, transparent pixels become white, the mode becomes grey or colour, the
    image is resized so that it covers `image_size` (bicubic, antialiased; of a square, its shorter side has that size),
    and the centre is cropped. So no image is squashed. 16-bit images keep their upper 8 bits; of several frames the
    first is used. Raises one of `UNREADABLE`.
    """
    with open_image(content) as opened:
        if opened is not content and opened.format == "JPEG":
            least = _SPARE * max(image_size.sides)  # both ways, as EXIF may turn the image
            opened.draft(None, (least, least))
        return _pixels(opened, image_size, channels)


@contextmanager
def open_image(content: Content) -> Iterator[Image.Image]:
    """An image whose pixels are decoded once, where they are first read. Raises one of `UNREADABLE`."""
    if isinstance(content, Image.Image):
        yield content
    else:
        with _stream(content) as stream, Image.open(stream) as opened:
            yield opened


class Header(NamedTuple):
    """Width and height in pixels, of the image turned as its EXIF data says, and Pillow's mode."""

    width: int
    height: int
    mode: str


def header_of(content: Content) -> Header:
    """The size and mode of an image; the pixels of files and bytes are not decoded."""
    with open_image(content) as image:
        return Header(*turned_size(image), image.mode)


def turned_size(image: Image.Image) -> tuple[int, int]:
    """The size that `decode_image` sees.

    Args:
        image: An opened image. Its pixels are decoded only where a PNG file has metadata behind them.

    Returns:
        Width and height in pixels, of the image turned as its EXIF data says.

    Raises:
        OSError: The file is damaged, or one of the other `UNREADABLE`.
    """
    stream = getattr(image, "fp", None)
    # Pillow decodes the pixels of every PNG file without EXIF data to look behind them.
    is_read = image.format == "PNG" and stream is not None and not _has_metadata_behind_pixels(stream)
    exif = Image.Image.getexif(image) if is_read else image.getexif()
    width, height = image.size
    if (tags := getattr(image, "tag_v2", None)) is not None:  # Pillow turns the size of a TIFF file, or does not
        width, height = tags.get(ExifTags.Base.ImageWidth, width), tags.get(ExifTags.Base.ImageLength, height)
    return (height, width) if exif.get(ExifTags.Base.Orientation) in _ON_ITS_SIDE else (width, height)


def _stream(content: Path | bytes) -> BinaryIO:
    """Bytes to decode. Given a path, Pillow maps an uncompressed TIFF file, and scrambles one that EXIF turns."""
    return io.BytesIO(content) if isinstance(content, bytes) else content.open("rb")


def _has_metadata_behind_pixels(png: IO[bytes]) -> bool:
    at, is_behind = png.tell(), False
    png.seek(8)  # the signature
    try:
        while len(head := png.read(8)) == 8:
            length, kind = struct.unpack(">I4s", head)
            is_behind = is_behind or kind == b"IDAT"
            if is_behind and kind in _PNG_METADATA:
                return True
            png.seek(length + 4, os.SEEK_CUR)  # the data and its checksum
        return False
    finally:
        png.seek(at)


def content_digest(content: bytes | Image.Image) -> str:
    """The sha256 of a file's bytes, or of the mode, size and pixels of a decoded image."""
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    image = content.convert("RGBA") if content.mode == "P" else content
    image = ImageOps.exif_transpose(image)
    return hashlib.sha256(f"{image.mode}:{image.width}x{image.height}:".encode() + image.tobytes()).hexdigest()


def reason(error: BaseException) -> str:
    """Why an image cannot be read, for a user."""
    # Pillow's message names the buffer by its memory address, which does not help a reader.
    if isinstance(error, UnidentifiedImageError) or "BytesIO" in str(error):
        return "not an image, or damaged"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__


def upper_bits(image: Image.Image) -> Bytes:
    """The upper 8 of the 16 bits of the pixels of an image of one of the modes `DEEP`."""
    return (np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)


def _pixels(image: Image.Image, image_size: ImageSize, channels: int) -> Bytes:
    flat = _flat(ImageOps.exif_transpose(image), "L" if channels == 1 else "RGB")
    fitted = ImageOps.fit(flat, (image_size.width, image_size.height), Image.Resampling.BICUBIC)
    return np.asarray(fitted, dtype=np.uint8).reshape(*image_size.sides, channels)


def _flat(image: Image.Image, mode: str) -> Image.Image:
    if image.mode == "F":
        raise ValueError("floating point images are not supported")
    if image.mode.startswith("I"):
        image = Image.fromarray(upper_bits(image))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert(mode)
