"""Images that are decoded to find damaged and dark ones, which headers and ends of files do not show.

10,000 JPEG files of 64 x 64 pixels take 2.3 s of CPU time, 500 of 12 megapixels 14 s. Of more than
`MOST_FILES` files, or `MOST_PIXELS`, some are decoded.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from vitsearch.core.image_size import ImageSize
from vitsearch.core.spread import spread_rows
from vitsearch.data.arrays import Bytes
from vitsearch.data.dark_files import brightest_pixel
from vitsearch.data.folders.headers import ImageFile
from vitsearch.data.near_duplicates import SIDE
from vitsearch.data.pixels import DEEP, UNREADABLE, decode_image, open_image, reason
from vitsearch.data.problems import Problems

MOST_FILES = 30_000
MOST_PIXELS = 10**10


class Decoded(NamedTuple):
    """Pictures (32, 32), grey, by path, and the brightest pixels of those of 16 bits."""

    pictures: dict[Path, Bytes]
    brightest: dict[Path, int]


def decoded_files(files: Sequence[ImageFile], problems: Problems) -> Decoded:
    """Decode all images, or so many that it takes a bounded time.

    Args:
        files: Of a folder, all splits.
        problems: Damaged images are added to them.

    Returns:
        What they show.
    """
    decoded, small = Decoded({}, {}), ImageSize.square(SIDE)
    pixels = sum(file.width * file.height for file in files)
    share = min(1.0, MOST_PIXELS / max(1, pixels))
    for row in spread_rows(len(files), min(MOST_FILES, round(share * len(files)))):
        path = files[row].path
        try:
            if files[row].mode in DEEP:
                with open_image(path) as image:
                    decoded.brightest[path] = brightest_pixel(image)
                    decoded.pictures[path] = decode_image(image, small, 1)[..., 0]
            else:
                decoded.pictures[path] = decode_image(path, small, 1)[..., 0]
        except UNREADABLE as error:
            problems.add_unreadable(path, reason(error))
    return decoded


def not_decoded(images: int, decoded: int) -> str | None:
    """Say of how many images only headers and ends were looked at; None where all were decoded."""
    if decoded == images:
        return None
    return (
        f"{decoded:,} of {images:,} images were decoded, evenly over the folder; of the others only headers and "
        "ends of the files were read, so a run may still find damaged ones"
    )
