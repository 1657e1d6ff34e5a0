"""A few validation images with their masks, for people: which ones, how maps are stored, and how they are drawn."""

from __future__ import annotations

import base64
import io
import zlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vitsearch.core.spread import spread_rows

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Maps = npt.NDArray[np.uint8]

SAMPLES = 3
"""Images that are shown."""
LEAST_SIDE = 112
"""Pixels: smaller pictures are enlarged."""
LARGEST_SIDE = 256
"""Pixels: larger images are shown smaller, because a study keeps them."""


def palette() -> bytes:
    """Return red, green and blue of each of 256 classes; the example of a bundle has the text of this function."""
    return bytes(value for index in range(256) for value in (index * 97 % 256, index * 157 % 256, index * 199 % 256))


def sample_rows(images: int) -> list[int]:
    """Choose the images that are shown: from all of a split, as the classes may be in order.

    Args:
        images: The number of images of the split.

    Returns:
        Their rows; fewer than `SAMPLES` of a smaller split.
    """
    return spread_rows(images, SAMPLES)


def packed(maps: Maps) -> dict[str, Any]:
    """Write maps in JSON types.

    Args:
        maps: (n, height, width), the class of each position.

    Returns:
        What `unpacked` reads.
    """
    return {
        "size": list(maps.shape[1:]),
        "maps": [base64.b64encode(zlib.compress(each.tobytes())).decode() for each in maps],
    }


def unpacked(value: Mapping[str, Any]) -> Maps:
    """Read maps that `packed` wrote.

    Args:
        value: In JSON types.

    Returns:
        (n, height, width).

    Raises:
        ValueError: It is something else.
    """
    import numpy as np

    height, width = value["size"]
    maps = [np.frombuffer(_inflated(each, height * width), np.uint8) for each in value["maps"]]
    return np.stack([each.reshape(height, width) for each in maps])


def _inflated(text: str, size: int) -> bytes:
    """Some bytes, of which a hostile text gives no more than a map has."""
    reader = zlib.decompressobj()
    inflated = reader.decompress(base64.b64decode(text), size)
    if len(inflated) != size:
        raise ValueError(f"{len(inflated)} bytes instead of {size}")
    return inflated


def pictures_of(maps: Maps) -> Sequence[bytes]:
    """Draw maps, or masks.

    Args:
        maps: (n, height, width), the class of each position.

    Returns:
        A PNG file of each, in colours.
    """
    from PIL import Image

    pictures = []
    for each in maps:
        picture = Image.fromarray(each)
        picture.thumbnail((LARGEST_SIDE, LARGEST_SIDE), Image.Resampling.NEAREST)
        picture = picture.convert("P")
        picture.putpalette(palette())
        pictures.append(_png(picture))
    return pictures


def pictures_of_images(images: Maps) -> Sequence[bytes]:
    """Write images.

    Args:
        images: (n, height, width, channels).

    Returns:
        A PNG file of each.
    """
    from PIL import Image

    pictures = []
    for each in images:
        picture = Image.fromarray(each.squeeze(2) if each.shape[2] == 1 else each)
        picture.thumbnail((LARGEST_SIDE, LARGEST_SIDE))
        pictures.append(_png(picture))
    return pictures


def _png(picture: Any) -> bytes:
    from PIL import Image

    larger = -(-LEAST_SIDE // min(picture.size))
    if larger > 1:
        picture = picture.resize((picture.width * larger, picture.height * larger), Image.Resampling.NEAREST)
    stream = io.BytesIO()
    picture.save(stream, "png", optimize=True)
    return stream.getvalue()
