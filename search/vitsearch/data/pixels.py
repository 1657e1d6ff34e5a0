"""One image to uint8 pixels of the stored size, from whatever it comes as."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import TypeAlias

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from vitsearch.data.arrays import Bytes

UNREADABLE = (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError)
"""What Pillow raises for files that are damaged or no images."""
GREY = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N")
_SPARE = 2  # a JPEG is decoded at no less than this times the stored size, so that resizing decides how it looks

Content: TypeAlias = Path | bytes | Image.Image
"""An image file, its bytes, or an image that a data set's own reader has decoded."""


def decode_image(content: Content, image_size: int, channels: int) -> Bytes:
    """uint8 (image_size, image_size, channels): turned as EXIF says, put on white where it is
    transparent, made grey or colour, shorter side resized to ``image_size`` (bicubic, antialiased),
    centre cropped. 16-bit images keep their upper 8 bits; of several frames the first is taken."""
    if isinstance(content, Image.Image):
        return _pixels(content, image_size, channels)
    with Image.open(io.BytesIO(content) if isinstance(content, bytes) else content) as opened:
        if opened.format == "JPEG":
            opened.draft(None, (_SPARE * image_size, _SPARE * image_size))
        return _pixels(opened, image_size, channels)


def header_of(content: Content) -> Image.Image:
    """For its size and mode; of bytes the pixels are not decoded."""
    if isinstance(content, Image.Image):
        return content
    with Image.open(io.BytesIO(content) if isinstance(content, bytes) else content) as image:
        return image


def content_digest(content: bytes | Image.Image) -> str:
    """sha256 of a file's bytes; of a decoded image that of its mode, size and pixels."""
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    image = content.convert("RGBA") if content.mode == "P" else content
    image = ImageOps.exif_transpose(image)
    return hashlib.sha256(f"{image.mode}:{image.width}x{image.height}:".encode() + image.tobytes()).hexdigest()


def reason(error: BaseException) -> str:
    """Why an image cannot be read, in words for a person."""
    # Pillow names the buffer in its message, a memory address that says nothing to a reader.
    if isinstance(error, UnidentifiedImageError) or "BytesIO" in str(error):
        return "not an image, or damaged"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__


def _pixels(image: Image.Image, image_size: int, channels: int) -> Bytes:
    flat = _flat(ImageOps.exif_transpose(image), "L" if channels == 1 else "RGB")
    fitted = ImageOps.fit(flat, (image_size, image_size), Image.Resampling.BICUBIC)
    return np.asarray(fitted, dtype=np.uint8).reshape(image_size, image_size, channels)


def _flat(image: Image.Image, mode: str) -> Image.Image:
    if image.mode == "F":
        raise ValueError("floating point images are not supported")
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert(mode)
