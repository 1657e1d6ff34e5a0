"""Images that belong together: those of one part, patient, camera or vendor stay on one side of every split.

`task.data.group` is a regex that finds the name of the group in the path of an image. Images of one group, and copies
of one file, are a unit, which is drawn as a whole.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from vitsearch.data.arrays import Labels
from vitsearch.data.problems import Problems, some

KEY = "data.group"


def group_names(paths: Sequence[str], pattern: str, problems: Problems) -> tuple[str, ...]:
    """Find the group of each image.

    Args:
        paths: Of the images below the folder of the data, with slashes.
        pattern: Its first group, or what it matches where it has none, is the name.
        problems: An image without a group is added to them.

    Returns:
        As many names; `""` for an image without a group.
    """
    matches = [re.search(pattern, path) for path in paths]
    names = tuple("" if match is None else match[min(1, match.re.groups)] or "" for match in matches)
    without = [path for path, name in zip(paths, names, strict=True) if not name]
    if without:
        problems.add(
            f"{KEY}: {pattern!r} finds no group in {len(without)} of {len(paths)} images: {some(without)}; it has to "
            "match in the path of every image below data.root"
        )
    return names


def refuse_unfit(groups: Mapping[str, Sequence[str]], draws_validation: bool, problems: Problems) -> None:
    """Add groups that cannot be split to `problems`.

    Args:
        groups: The groups of the images of each split that is given, by its name; the first is that of the training.
        draws_validation: Whether the validation images are drawn from the training images.
        problems: Of the data.
    """
    train = next(iter(groups.values()))
    fewest = 3 if draws_validation else 2
    if len(set(train)) < fewest:
        listed = some(map(repr, sorted(set(train))))
        problems.add(
            f"{KEY}: the {len(train)} training images have {len(set(train))} group{'s'[: len(set(train)) > 1]} "
            f"({listed}); at least {fewest} are needed: to train on, to judge in the search"
            f"{' and to validate on' if fewest > 2 else ''}"
        )
    splits: dict[str, list[str]] = defaultdict(list)
    for split, names in groups.items():
        for name in dict.fromkeys(names):
            splits[name].append(split)
    crossing = {name: where for name, where in splits.items() if len(where) > 1}
    if crossing:
        name, where = next(iter(crossing.items()))
        problems.add(
            f"{KEY}: {len(crossing)} of {len(splits)} groups have images in more than one split, such as {name!r} in "
            f"{' and '.join(where)}; move the images of a group into one, or give one folder that is split by group"
        )


def units(groups: Sequence[str], sha256s: Sequence[str]) -> Labels:
    """Join images of one group and images of one content.

    Args:
        groups: The group of each image, (n,).
        sha256s: The digests of their files, (n,).

    Returns:
        int64 (n,), the first row of the unit of each image.
    """
    parent = list(range(len(groups)))

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    first: dict[tuple[int, str], int] = {}
    for row, names in enumerate(zip(groups, sha256s, strict=True)):
        for key in enumerate(names):
            lower, higher = sorted((root(first.setdefault(key, row)), root(row)))
            parent[higher] = lower
    return np.array([root(row) for row in range(len(groups))], np.int64)


def draw_units(joined: Labels, labels: Labels, count: int, seed: int, names: Sequence[str]) -> NDArray[np.bool_]:
    """Choose whole units of nearly `count` images, of each class nearly its share.

    Units are ranked by the digest of the seed and their name. One is taken while it brings the classes nearer to their
    shares, then while it brings the number nearer to `count`. At least one is taken if that can be; a unit without
    which a class had no image is not. So the number differs from `count` by at most the largest unit.

    Args:
        joined: The unit of each image, (n,), as `units` gives them.
        labels: The classes, (n,).
        count: How many images.
        seed: Of the ranking.
        names: What each image is ranked by, (n,): that of the first image of a unit counts.

    Returns:
        (n,), True for the chosen images.
    """
    rows_of: dict[int, list[int]] = defaultdict(list)
    for row, unit in enumerate(joined.tolist()):
        rows_of[unit].append(row)
    ranked = sorted(rows_of, key=lambda unit: hashlib.sha256(f"{seed}:{names[unit]}".encode()).hexdigest())
    classes = {unit: Counter(labels[rows].tolist()) for unit, rows in rows_of.items()}
    left = Counter(labels.tolist())
    aim = {label: count * images / len(labels) for label, images in left.items()}
    missing = dict(aim)
    chosen: list[int] = []
    taken = 0

    def may_go(unit: int) -> bool:
        return all(left[label] > images for label, images in classes[unit].items())

    def loss(unit: int) -> float:
        return sum((images * (images - 2 * missing[label]) for label, images in classes[unit].items()), 0.0)

    def take(unit: int) -> None:
        nonlocal taken
        chosen.append(unit)
        taken += len(rows_of[unit])
        for label, images in classes[unit].items():
            left[label] -= images
            missing[label] -= images

    def is_nearer(unit: int) -> bool:
        return abs(count - taken - len(rows_of[unit])) < abs(count - taken)

    for unit in ranked:
        if taken < count and loss(unit) < 0 and is_nearer(unit) and may_go(unit):
            take(unit)
    rest = sorted((unit for unit in ranked if unit not in set(chosen)), key=loss)
    for unit in rest:
        if is_nearer(unit) and may_go(unit):
            take(unit)
    if not chosen and count:
        fits = [unit for unit in rest if may_go(unit)]
        for unit in fits[:1]:
            take(unit)
    return np.isin(joined, chosen)
