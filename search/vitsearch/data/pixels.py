"""Decoding of one image to uint8 pixels of the stored size."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import TypeAlias

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from vitsearch.core.image_size import ImageSize
from vitsearch.data.arrays import Bytes

UNREADABLE = (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError)
"""What Pillow raises for files that are damaged or are not images."""
GREY = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N")
_SPARE = 2  # a JPEG is decoded at this multiple of the stored size or more, so that our resizing decides its look

Content: TypeAlias = Path | bytes | Image.Image
"""An image file, its bytes, or an image that a data set's own reader has decoded."""


def decode_image(content: Content, image_size: ImageSize, channels: int) -> Bytes:
    """Decode an image to uint8 (height, width, channels) of a size.

    The image is turned as its EXIF data says, transparent pixels become white, the mode becomes grey or colour, the
    image is resized so that it covers `image_size` (bicubic, antialiased; of a square, its shorter side has that size),
    and the centre is cropped. So no image is squashed. 16-bit images keep their upper 8 bits; of several frames the
    first is used. Raises one of `UNREADABLE`.
    """
    if isinstance(content, Image.Image):
        return _pixels(content, image_size, channels)
    with Image.open(io.BytesIO(content) if isinstance(content, bytes) else content) as opened:
        if opened.format == "JPEG":
            least = _SPARE * max(image_size.sides)  # both ways, as EXIF may turn the image
            opened.draft(None, (least, least))
        return _pixels(opened, image_size, channels)


def header_of(content: Content) -> Image.Image:
    """The image opened for its size and mode; the pixels of files and bytes are not decoded."""
    if isinstance(content, Image.Image):
        return content
    with Image.open(io.BytesIO(content) if isinstance(content, bytes) else content) as image:
        return image


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


def _pixels(image: Image.Image, image_size: ImageSize, channels: int) -> Bytes:
    flat = _flat(ImageOps.exif_transpose(image), "L" if channels == 1 else "RGB")
    fitted = ImageOps.fit(flat, (image_size.width, image_size.height), Image.Resampling.BICUBIC)
    return np.asarray(fitted, dtype=np.uint8).reshape(*image_size.sides, channels)


def _flat(image: Image.Image, mode: str) -> Image.Image:
    if image.mode == "F":
        raise ValueError("floating point images are not supported")
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert(mode)
