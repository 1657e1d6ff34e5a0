"""Images that judge and show nearly the same as images that models learn from.

`check` compares pictures of files, a run those of the images that it has decoded. Of each side a sample is compared, so
sets of any size take seconds; with more images to learn from, different ones would also pair by chance.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from PIL import Image

from vitsearch.core.caveats.leaks import StoredLeak
from vitsearch.core.image_size import ImageSize
from vitsearch.core.spread import spread_rows
from vitsearch.data.arrays import Bytes, Labels
from vitsearch.data.image_data import ImageData
from vitsearch.data.near_duplicates import SIDE, alike, fingerprints
from vitsearch.data.pixels import decode_image
from vitsearch.data.splits import Split
from vitsearch.data.store import write_to_cache
from vitsearch.errors import DataError
from vitsearch_agent.base.canonical_json import digest

SCHEMA = 1  # raise it when other images pair
MOST_LEARNED = 10_000
MOST_JUDGING = 2_000


@dataclass(frozen=True)
class Side:
    """The rows of a split that have one role, and what makes pictures (n, 32, 32) of some of them."""

    rows: Labels
    pictures: Callable[[Labels], Bytes]

    def sample(self, most: int) -> Labels:
        """At most so many of the rows, evenly over them."""
        return self.rows[spread_rows(len(self.rows), most)]


@dataclass(frozen=True)
class Crossing:
    """How many images of a role were compared, and the `pairs` (n, 2), rows in its split and in train."""

    images: int
    pairs: Labels


def crossings(learned: Side, judging: Mapping[str, Side]) -> dict[str, Crossing]:
    """Compare images that judge with those that models learn from.

    Args:
        learned: Of the training images.
        judging: By role.

    Returns:
        By role.
    """
    rows = learned.sample(MOST_LEARNED)
    known = fingerprints(learned.pictures(rows))

    def crossing(side: Side) -> Crossing:
        own = side.sample(MOST_JUDGING)
        pairs = alike(fingerprints(side.pictures(own)), known)
        return Crossing(len(own), np.stack([own[pairs[:, 0]], rows[pairs[:, 1]]], axis=1))

    return {role: crossing(side) for role, side in judging.items()}


class Named(Protocol):
    """Images of a split: names for people, and digests of their files."""

    @property
    def names(self) -> Sequence[str]: ...
    @property
    def sha256s(self) -> Sequence[str]: ...


class NamedPairs(NamedTuple):
    """How many images of a role were compared, and the names of nearly equal ones, that of the role first."""

    images: int
    names: list[tuple[str, str]]


def named_pairs(
    train: Named, learned: Labels, judging: Mapping[str, tuple[Named, Labels]], pictures: Mapping[str, Bytes]
) -> dict[str, NamedPairs]:
    """Compare files.

    Args:
        train: The training images.
        learned: The rows that models learn from.
        judging: The others, and the rows that judge, by role.
        pictures: (32, 32) by name; images without one are left out.

    Returns:
        By role, without copies.
    """

    def side(images: Named, rows: Labels) -> Side:
        seen = [row for row in rows.tolist() if images.names[row] in pictures]
        return Side(np.array(seen, np.int64), lambda chosen: _stacked([pictures[images.names[row]] for row in chosen]))

    named = {}
    for role, crossing in crossings(side(train, learned), {role: side(*of) for role, of in judging.items()}).items():
        own = judging[role][0]
        pairs = [(row, at) for row, at in crossing.pairs.tolist() if own.sha256s[row] != train.sha256s[at]]
        named[role] = NamedPairs(crossing.images, [(own.names[row], train.names[at]) for row, at in pairs])
    return named


def pairs_text(pairs: Mapping[str, NamedPairs]) -> str | None:
    """What to say of nearly equal images; None where there are none."""
    every = [names for found in pairs.values() for names in found.names]
    if not every:
        return None
    counts = [
        f"{len({own for own, _ in found.names}):,} of {found.images:,} {role} images"
        for role, found in pairs.items()
        if found.names
    ]
    return (
        f"nearly equal images to judge by and to learn from: {len(every):,} pair{'s'[: len(every) > 1]}, of "
        f"{', '.join(counts)}, such as {every[0][0]} and {every[0][1]}; if they show one thing, the accuracies are too "
        "high"
    )


def find_leaks(images: ImageData, cache_dir: Path) -> dict[str, StoredLeak]:
    """Look for what a study has to know of its data, once.

    Args:
        images: Its data; test images that cannot be read are left out, because the search does not need them.
        cache_dir: Where the answer is kept.

    Returns:
        By the name of the split.
    """
    test = None
    with contextlib.suppress(DataError):
        test = images.test
    seen = {"schema": SCHEMA, "data": images.identity.fingerprint, "test": test and test.sha256}
    file = cache_dir / f"leaks-{digest(seen)}.json"
    with contextlib.suppress(OSError, ValueError):
        stored: dict[str, StoredLeak] = json.loads(file.read_bytes())
        return stored
    judging = {"validation": _side(images.validation), "holdout": _side(images.train, images.holdout)}
    found = crossings(_side(images.train, images.learned), judging | ({} if test is None else {"test": _side(test)}))
    leaks = {
        role: StoredLeak(images=crossing.images, alike=len(np.unique(crossing.pairs[:, 0])))
        for role, crossing in found.items()
    }
    write_to_cache(file, json.dumps(leaks).encode())
    return leaks


def _stacked(pictures: Sequence[Bytes]) -> Bytes:
    return np.stack(pictures) if pictures else np.zeros((0, SIDE, SIDE), np.uint8)


def _side(split: Split, rows: Labels | None = None) -> Side:
    return Side(np.arange(len(split)) if rows is None else rows, partial(_pictures, split.images))


def _pictures(images: Bytes, rows: Labels) -> Bytes:
    pictures = np.zeros((len(rows), SIDE, SIDE), np.uint8)
    for picture, row in zip(pictures, rows, strict=True):
        image = images[row][..., 0] if images.shape[-1] == 1 else images[row]
        picture[...] = decode_image(Image.fromarray(image), ImageSize.square(SIDE), 1)[..., 0]
    return pictures
