"""The size at which images are stored when nobody says one."""

from __future__ import annotations

from collections.abc import Iterable

from vitsearch.data.problems import Defects, some


def common_size(sizes: Iterable[tuple[int, int]], defects: Defects) -> int:
    """The side of images that are all squares of one size; else 0, and a line in ``defects``."""
    different = sorted(set(sizes))
    if len(different) == 1 and different[0][0] == different[0][1]:
        return different[0][0]
    if different:
        seen = some(f"{width}x{height}" for width, height in different)
        defects.add(
            f"data.image_size: missing, and the images are not all squares of one size ({seen}); "
            "set it, best to the largest resolution of the space"
        )
    return 0
