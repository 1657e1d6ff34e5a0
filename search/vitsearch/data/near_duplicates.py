"""Images that show nearly the same on two sides of a split.

Two images pair when their grey 32x32 pictures, each moved so that the centre of its edges is in the middle, correlate
above `ALIKE`. So neither brightness nor contrast nor the place of the object matters. On Fashion-MNIST (10,000 training
and 2,000 validation images, 20 million pairs of different objects) 21 pairs are above it; a 64-bit difference hash
gives 10,165 of them the same value.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vitsearch.data.arrays import Bytes, Floats, Labels

SIDE = 32
ALIKE = 0.99
FLATTEST = 4.0
"""Standard deviation of grey levels; a picture with less shows nothing that could be compared."""
LEAST_KEPT = 0.95
"""Share of the pairs that a rule has to keep together; some pair by chance."""
_AT_ONCE = 1024


def fingerprints(pictures: Bytes) -> Floats:
    """Make pictures comparable.

    Args:
        pictures: uint8 (n, 32, 32), grey.

    Returns:
        float32 (n, 1024) of length 1, moved to the middle; zeros for flat pictures.
    """
    blocks = [_fingerprints(pictures[at : at + _AT_ONCE]) for at in range(0, len(pictures), _AT_ONCE)]
    return np.concatenate(blocks) if blocks else np.zeros((0, SIDE * SIDE), np.float32)


def alike(first: Floats, second: Floats) -> Labels:
    """Find pairs of two sides.

    Args:
        first: `fingerprints` of one side, (n, 1024).
        second: Those of the other, (m, 1024).

    Returns:
        int64 (pairs, 2), rows of both.
    """
    starts = range(0, len(first), _AT_ONCE)
    blocks = [np.argwhere(first[at : at + _AT_ONCE] @ second.T > ALIKE) + [at, 0] for at in starts]
    return np.concatenate(blocks).astype(np.int64) if blocks else np.zeros((0, 2), np.int64)


def group_of_pairs(paths: Sequence[str], pairs: Sequence[tuple[str, str]]) -> str | None:
    """Find a plain rule in file names that puts both images of every pair into one group.

    Args:
        paths: Of all images below the folder of the data.
        pairs: Paths that belong together.

    Returns:
        A regex for `task.data.group`: what stands before the last `_`, `-` or space of the name. None where no such
        rule fits all paths and nearly all pairs, or all images of a folder would be one group.
    """
    for mark in "_- ":
        pattern = f"(.*){mark}[^/{mark}]*$"
        groups = {path: match[1] for path in paths if (match := re.search(pattern, path))}
        folders = Counter(group.rpartition("/")[0] for group in set(groups.values()))
        kept = sum(first in groups and groups[first] == groups.get(second) for first, second in pairs)
        fits = len(groups) == len(paths) and kept >= LEAST_KEPT * len(pairs)
        if fits and len(set(groups.values())) > 2 and min(folders.values()) > 1:
            return pattern
    return None


def _fingerprints(pictures: Bytes) -> Floats:
    grey = pictures.astype(np.float32)
    flat = grey.std(axis=(1, 2)) < FLATTEST
    edges = np.zeros_like(grey)
    edges[:, :, 1:] += np.abs(np.diff(grey, axis=2))
    edges[:, 1:] += np.abs(np.diff(grey, axis=1))
    total, places, steps = edges.sum(axis=(1, 2)) + 1e-6, np.arange(SIDE), np.fft.fftfreq(SIDE)
    down = (edges.sum(axis=2) * places).sum(axis=1) / total - SIDE / 2
    right = (edges.sum(axis=1) * places).sum(axis=1) / total - SIDE / 2
    turn = np.exp(2j * np.pi * (steps[:, None] * down[:, None, None] + steps * right[:, None, None]))
    moved: NDArray[np.float64] = np.fft.ifft2(np.fft.fft2(grey) * turn).real.reshape(len(grey), -1)
    moved -= moved.mean(axis=1, keepdims=True)
    moved /= np.maximum(np.linalg.norm(moved, axis=1, keepdims=True), 1e-6)
    moved[flat] = 0
    return moved.astype(np.float32)
