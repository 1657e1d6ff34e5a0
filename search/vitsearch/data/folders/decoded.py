"""Images that are decoded to find damaged ones, which headers and ends of files do not show.

10,000 JPEG files of 64 x 64 pixels take 2.3 s of CPU time, 500 of 12 megapixels 14 s. Of more than
`MOST_FILES` files, or `MOST_PIXELS`, some are decoded.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vitsearch.core.image_size import ImageSize
from vitsearch.core.spread import spread_rows
from vitsearch.data.arrays import Bytes
from vitsearch.data.folders.headers import ImageFile
from vitsearch.data.near_duplicates import SIDE
from vitsearch.data.pixels import UNREADABLE, decode_image, reason
from vitsearch.data.problems import Problems

MOST_FILES = 30_000
MOST_PIXELS = 10**10


def decoded_files(files: Sequence[ImageFile], problems: Problems) -> dict[Path, Bytes]:
    """Decode all images, or so many that it takes a bounded time.

    Args:
        files: Of a folder, all splits.
        problems: Damaged images are added to them.

    Returns:
        Pictures (32, 32), grey, by path.
    """
    pictures, small = dict[Path, Bytes](), ImageSize.square(SIDE)
    pixels = sum(file.width * file.height for file in files)
    share = min(1.0, MOST_PIXELS / max(1, pixels))
    for row in spread_rows(len(files), min(MOST_FILES, round(share * len(files)))):
        path = files[row].path
        try:
            pictures[path] = decode_image(path, small, 1)[..., 0]
        except UNREADABLE as error:
            problems.add_unreadable(path, reason(error))
    return pictures


def not_decoded(images: int, decoded: int) -> str | None:
    """Say of how many images only headers and ends were looked at; None where all were decoded."""
    if decoded == images:
        return None
    return (
        f"{decoded:,} of {images:,} images were decoded, evenly over the folder; of the others only headers and "
        "ends of the files were read, so a run may still find damaged ones"
    )
