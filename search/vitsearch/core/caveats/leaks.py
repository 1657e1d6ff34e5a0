"""What to know of qualities whose images show nearly the same as images that models learn from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypedDict

LEAST_SHARE = 0.01
"""Of the images that judge; fewer pair by chance, and change a quality by less than its interval."""
_ON_THE_FRONT = ("validation", "test")


class StoredLeak(TypedDict):
    """How many `images` of a split were compared with those that models learn from, and how many are `alike`."""

    images: int
    alike: int


def leak_text(leaks: Mapping[str, StoredLeak]) -> str | None:
    """What to say beside every quality of a study.

    Args:
        leaks: By the name of the split.

    Returns:
        A sentence; None where hardly any image is known to the models.
    """
    counts = [
        f"{leak['alike']:,} of the {leak['images']:,} {split} images"
        for split in _ON_THE_FRONT
        if (leak := leaks.get(split)) is not None and leak["alike"] >= max(1, LEAST_SHARE * leak["images"])
    ]
    if not counts:
        return None
    return (
        f"{' and '.join(counts)} that were compared show nearly the same as training images: the qualities measured on "
        "them are likely too high for things that no model has seen"
    )
