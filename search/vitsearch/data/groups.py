"""Images that belong together: those of one part, patient, camera or vendor stay on one side of every split.

`task.data.group` is a regex that finds the name of the group in the path of an image, or FILE.csv:COLUMN. Images of one
group, and copies of one file, are a unit, which is drawn as a whole.
"""

from __future__ import annotations

import csv
import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vitsearch.core.data_sources import group_column
from vitsearch.data.arrays import Labels
from vitsearch.data.pixels import reason
from vitsearch.data.problems import Problems, some
from vitsearch.errors import did_you_mean

KEY = "data.group"


def group_names(paths: Sequence[str], rule: str, root: Path, problems: Problems) -> tuple[str, ...]:
    """Find the group of each image.

    Args:
        paths: Of the images below the folder of the data, with slashes.
        rule: A regex whose first group, or what it matches where it has none, is the name; or FILE.csv:COLUMN.
        root: The folder of the data.
        problems: Images without a group are added to them.

    Returns:
        As many names; `""` for an image without a group.
    """
    if (column := group_column(rule)) is not None:
        return _names_of_column(paths, *column, root, problems)
    matches = [re.search(rule, path) for path in paths]
    names = tuple("" if match is None else match[min(1, match.re.groups)] or "" for match in matches)
    without = [path for path, name in zip(paths, names, strict=True) if not name]
    if without:
        problems.add(
            f"{KEY}: {rule!r} finds no group in {len(without)} of {len(paths)} images: {some(without)}; it has to "
            "match in the path of every image below data.root"
        )
    return names


def _names_of_column(paths: Sequence[str], name: str, column: str, root: Path, problems: Problems) -> tuple[str, ...]:
    """The names that rows of a CSV file give to images. A row names its image by the path or by the file's name alone,
    in the first column that has one of them."""
    try:
        with (root / name).open(encoding="utf-8-sig", newline="") as stream:
            head = stream.readline()
            stream.seek(0)
            reader = csv.reader(stream, delimiter=";" if ";" in head and "," not in head else ",")
            rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        problems.add(f"{KEY}: {name} below data.root cannot be read: {reason(error)}")
        return ("",) * len(paths)
    header = rows.pop(0)[1] if rows else []
    if column not in header:
        near = did_you_mean(column, header)
        problems.add(f"{KEY}: {name} has no column {column!r}; its first line has: {some(map(repr, header))}{near}")
        return ("",) * len(paths)
    at, known = header.index(column), {*paths, *(path.rpartition("/")[2] for path in paths)}
    names = (number for number in range(len(header)) if any(_image(row, number) in known for _, row in rows))
    where = next(names, None)
    given: dict[str, tuple[str, int]] = {}
    several = []
    for line, row in rows if where is not None else ():
        image, group = _image(row, where or 0), row[at] if at < len(row) else ""
        first, before = given.setdefault(image, (group, line))
        if first != group and image in known:
            several.append(f"{image} is in {first!r} by line {before}, in {group!r} by line {line}")
    if several:
        problems.add(f"{KEY}: {name} gives images several values of {column!r} ({len(several)}): {some(several)}")
    found = tuple((given.get(path) or given.get(path.rpartition("/")[2]) or ("", 0))[0] for path in paths)
    without = [path for path, group in zip(paths, found, strict=True) if not group]
    if without:
        problems.add(
            f"{KEY}: {name} has no {column!r} for {len(without)} of {len(paths)} images: {some(without)}; a row names "
            "its image by the path below data.root, or by the name of the file"
        )
    return found


def _image(row: Sequence[str], column: int) -> str:
    return row[column].replace("\\", "/").removeprefix("./") if column < len(row) else ""


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
