"""The images that are held out: for validation, of a set without a validation split, and for judging in the search."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vitsearch.data.arrays import Labels
from vitsearch.data.problems import Problems

SEED = 0
HOLDOUT_SHARE = 0.1


def held_out(
    sha256s: Sequence[str], labels: Labels, names: Sequence[str], share: float, seed: int, problems: Problems
) -> NDArray[np.bool_]:
    """A mask (n,) that is True for the validation images: `share` of each class, at least one image. `labels` (n,) are
    indices into `names`.

    Images are ranked by the sha256 of the seed and their content. So a renamed or added file moves no other file to the
    other side, and copies of one image stay on the same side. A class with fewer than two different images is added to
    `problems`.
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


def set_aside(labels: Labels, most: int) -> Labels:
    """Ascending rows of the training images, with `labels` (N,), that judge models during the search.

    A tenth of each class, but at most `most` in all, and at least one image of two. The images of a class are spread
    evenly over 0 to 1 and those with the lowest places are taken, so a class with a share s of the images, among k
    classes, gives its tenth to within (1 + k s) / 2 images. The draw depends on the labels alone, so all studies on the
    same data hold out the same images.
    """
    count = min(most, max(int(len(labels) * HOLDOUT_SHARE), min(1, len(labels) - 1)))
    place = np.empty(len(labels))
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        place[np.random.default_rng([SEED, int(label)]).permutation(rows)] = (np.arange(len(rows)) + 0.5) / len(rows)
    return np.sort(np.argsort(place, kind="stable")[:count]).astype(np.int64)


def others(labels: Labels, holdout: Labels, firsts: Labels | None) -> Labels:
    """Choose the rows to learn from.

    Args:
        labels: The classes of the training images, (N,).
        holdout: The rows that judge.
        firsts: The first row with the same image as each row has, (N,); None where no image is there twice.

    Returns:
        The other rows, ascending, without copies of an image that judges; but a class that has nothing else keeps them.
    """
    judges = np.zeros(len(labels), dtype=bool)
    judges[holdout] = True
    if firsts is None:
        return np.flatnonzero(~judges)
    is_known = np.isin(firsts, firsts[holdout])
    has_others = np.isin(labels, np.unique(labels[~is_known]))
    return np.flatnonzero(np.where(has_others, ~is_known, ~judges))


def too_few(name: str, count: int) -> str:
    """The message for a class that cannot be split."""
    return f"class {name!r} has {count} different image; at least 2 are needed, one to train on and one to validate on"


def _rank(seed: int, sha256: str) -> str:
    return hashlib.sha256(f"{seed}:{sha256}".encode("ascii")).hexdigest()
