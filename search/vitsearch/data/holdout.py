"""The choice of validation images for a set without a validation split."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vitsearch.data.arrays import Labels
from vitsearch.data.problems import Problems


def held_out(
    sha256s: Sequence[str], labels: Labels, names: Sequence[str], share: float, seed: int, problems: Problems
) -> NDArray[np.bool_]:
    """A mask that is True for the validation images: ``share`` of each class, at least one image.

    Images are ranked by the sha256 of the seed and their content. So a renamed or added file moves no other file to
    the other side, and copies of one image stay on the same side. A class with fewer than two different images is
    added to ``problems``.
    """
    chosen = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label).tolist()
        contents = sorted({sha256s[row] for row in rows}, key=lambda sha256: _rank(seed, sha256))
        if len(contents) < 2:
            problems.add(too_few(names[label], len(contents)))
            continue
        count = min(max(round(len(contents) * share), 1), len(contents) - 1)
        kept = set(contents[:count])
        chosen[rows] = [sha256s[row] in kept for row in rows]
    return chosen


def too_few(name: str, count: int) -> str:
    """The message for a class that cannot be split."""
    return f"class {name!r} has {count} different image; at least 2 are needed, one to train on and one to validate on"


def _rank(seed: int, sha256: str) -> str:
    return hashlib.sha256(f"{seed}:{sha256}".encode("ascii")).hexdigest()
