"""The images that are held out: for validation, of a set without a validation split, and for judging in the search."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vitsearch.data.arrays import Labels
from vitsearch.data.groups import draw_units, units
from vitsearch.data.problems import Problems, some

SEED = 0
HOLDOUT_SHARE = 0.1


def held_out(
    sha256s: Sequence[str],
    labels: Labels,
    names: Sequence[str],
    share: float,
    seed: int,
    problems: Problems,
    groups: Sequence[str] = (),
) -> NDArray[np.bool_]:
    """A mask (n,) that is True for the validation images: `share` of each class, at least one image. `labels` (n,) are
    indices into `names`.

    Images are ranked by the sha256 of the seed and their content. So a renamed or added file moves no other file to the
    other side, and copies of one image stay on the same side. A class with fewer than two different images is added to
    `problems`. Where images belong to `groups` (n,), whole groups are chosen.
    """
    if groups:
        joined = units(groups, sha256s)
        _refuse_whole_classes(joined, labels, names, problems, groups)
        return draw_units(joined, labels, max(round(len(labels) * share), 1), seed, groups)
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


def set_aside(labels: Labels, most: int, firsts: Labels | None = None, joined: Labels | None = None) -> Labels:
    """Choose the training images that judge models during the search.

    A tenth of each class, but at most `most` in all, and at least one image of two. The images of a class are spread
    evenly over 0 to 1 and those with the lowest places are taken, so a class with a share s of the images, among k
    classes, gives its tenth to within (1 + k s) / 2 images. The draw depends on the labels and on which images are
    copies alone, so all studies on the same data hold out the same images.

    Args:
        labels: The classes of the training images, (N,).
        most: How many may judge.
        firsts: The first row with the same image as each row has, (N,); None where no image is there twice. Of copies
            the first alone is drawn.
        joined: The first row of the unit of each row, (N,), where images belong to groups: whole units are drawn.

    Returns:
        Their rows, ascending.
    """
    if joined is not None:
        count, names = min(most, max(int(len(labels) * HOLDOUT_SHARE), 1)), [str(row) for row in range(len(labels))]
        chosen = draw_units(joined, labels, count, SEED, names)
        if not chosen.any():  # each unit is all of a class: one is drawn nevertheless
            chosen = draw_units(joined, np.zeros_like(labels), count, SEED, names)
        return np.flatnonzero(chosen)
    rows = np.arange(len(labels)) if firsts is None else np.unique(firsts)
    count = min(most, max(int(len(rows) * HOLDOUT_SHARE), min(1, len(rows) - 1)))
    classes, place = labels[rows], np.empty(len(rows))
    for label in np.unique(classes):
        members = np.flatnonzero(classes == label)
        places = (np.arange(len(members)) + 0.5) / len(members)
        place[np.random.default_rng([SEED, int(label)]).permutation(members)] = places
    return np.sort(rows[np.argsort(place, kind="stable")[:count]]).astype(np.int64)


def rows_to_learn(count: int, holdout: Labels, firsts: Labels | None) -> Labels:
    """Choose the training images that models learn from.

    Args:
        count: The number of training images, N.
        holdout: The rows that judge.
        firsts: As in `set_aside`.

    Returns:
        The other rows, ascending, without copies of an image that judges.
    """
    contents = np.arange(count) if firsts is None else firsts
    return np.flatnonzero(~np.isin(contents, contents[holdout]))


def _refuse_whole_classes(
    joined: Labels, labels: Labels, names: Sequence[str], problems: Problems, groups: Sequence[str]
) -> None:
    """Add the classes whose images are all in one unit to `problems`."""
    classes = np.unique(labels).tolist()
    members = {label: np.flatnonzero(labels == label) for label in classes}
    whole = [label for label, rows in members.items() if len(np.unique(joined[rows])) < 2]
    if whole:
        listed = some(f"{names[label]!r} (group {groups[members[label][0]]!r})" for label in whole)
        problems.add(
            f"data.group: in {len(whole)} of {len(classes)} classes all images belong together: {listed}; a class "
            "needs at least 2 groups, one to train on and one to validate on"
        )


def too_few(name: str, count: int) -> str:
    """The message for a class that cannot be split."""
    return f"class {name!r} has {count} different image; at least 2 are needed, one to train on and one to validate on"


def _rank(seed: int, sha256: str) -> str:
    return hashlib.sha256(f"{seed}:{sha256}".encode("ascii")).hexdigest()
