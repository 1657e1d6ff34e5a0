"""Every set that timm's ``create_dataset`` reads, as our :class:`ImageData`: decoded once, then mapped.

A split is passed through twice, the first time only: for digests, labels, sizes and modes (the index,
kept in the cache folder as long as the files stay), and for the pixels. One image is held at a time.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from vitsearch.data.arrays import Bytes, Labels
from vitsearch.data.holdout import held_out
from vitsearch.data.image_data import ImageData
from vitsearch.data.pixels import GREY, UNREADABLE, content_digest, decode_image, header_of, reason
from vitsearch.data.problems import Defects, some
from vitsearch.data.sizes import common_size
from vitsearch.data.spec import DataSpec
from vitsearch.data.splits import Split, stored_splits
from vitsearch.data.statistics import mean_and_std
from vitsearch.data.store import write_to_cache
from vitsearch.data.timm_sets.labels import class_names_of, label_of, relabelled
from vitsearch.data.timm_sets.open import open_split
from vitsearch.data.timm_sets.read import Broken, OpenSplit
from vitsearch.data.timm_sets.splits import split_names
from vitsearch_evaluators.base.canonical_json import digest

SCHEMA = 1  # raised when an index changes its meaning


@dataclass(frozen=True)
class Index:
    """What one pass over a split tells; ``sizes`` are the different (width, height) in pixels."""

    labels: Labels
    sha256s: tuple[str, ...]
    grey: bool
    sizes: tuple[tuple[int, int], ...]

    def to_bytes(self) -> bytes:
        value = {"labels": self.labels.tolist(), "sha256s": self.sha256s, "grey": self.grey, "sizes": self.sizes}
        return json.dumps(value).encode()

    @classmethod
    def from_bytes(cls, content: bytes) -> Index | None:
        """``None`` for a file that something has damaged."""
        try:
            value = json.loads(content)
            sizes = tuple((width, height) for width, height in value["sizes"])
            return cls(np.array(value["labels"], np.int64), tuple(value["sha256s"]), bool(value["grey"]), sizes)
        except (ValueError, KeyError, TypeError):
            return None


@dataclass(frozen=True)
class Rows:
    """Images of an open split: which, and their labels and digests."""

    split: OpenSplit
    rows: Labels
    labels: Labels
    sha256s: tuple[str, ...]

    @classmethod
    def of(cls, split: OpenSplit, index: Index, rows: Labels) -> Rows:
        return cls(split, rows, index.labels[rows], tuple(index.sha256s[row] for row in rows))


def load_timm(spec: DataSpec, cache_dir: Path | None) -> ImageData:
    """The set of ``spec``; :class:`DataError` for everything that makes it no data set."""
    names = split_names(spec)
    train = open_split(spec, names.train)
    validation = open_split(spec, names.validation) if names.validation else None
    opened = [train] if validation is None else [train, validation]
    indexes = [index_of(split, spec, cache_dir) for split in opened]
    class_names = class_names_of(spec, train.class_names, _numbered_alike(opened, indexes))
    defects = Defects(spec.source)
    size = spec.image_size or common_size((size for index in indexes for size in index.sizes), defects)
    parts = _parted(opened, indexes, class_names, spec, defects)
    defects.refuse()
    channels = spec.channels or (1 if all(index.grey for index in indexes) else 3)
    splits = _decoded(parts, size, channels, cache_dir)
    mean, std = mean_and_std(splits["train"].images)
    read_test = None
    if names.test is not None:
        read_test = partial(_test, spec, names.test, class_names, train.class_names, size, channels, cache_dir)
    return ImageData(class_names, splits["train"], splits["validation"], mean, std, read_test)


def _numbered_alike(opened: list[OpenSplit], indexes: list[Index]) -> list[Labels]:
    first = opened[0].class_names
    return [index.labels for split, index in zip(opened, indexes, strict=True) if split.class_names == first]


def index_of(split: OpenSplit, spec: DataSpec, cache_dir: Path | None) -> Index:
    """Read from the cache folder, else by a pass over the split. All that is wrong with it is told at once."""
    named = {"schema": SCHEMA, "where": split.where, "stamp": split.stamp}
    keys = {"input_key": spec.input_key, "target_key": spec.target_key}
    file = cache_dir / f"index-{digest(named | keys)}.json" if cache_dir else None
    if file is not None and file.is_file() and (known := Index.from_bytes(file.read_bytes())) is not None:
        return known
    index = _passed(split)
    if file is not None:
        write_to_cache(file, index.to_bytes())
    return index


def _passed(split: OpenSplit) -> Index:
    defects = Defects(split.where)
    labels, sha256s, sizes, grey = list[int](), list[str](), set[tuple[int, int]](), True
    for sample in split.read(range(len(split))):
        if isinstance(sample.content, Broken):
            defects.broken(sample.name, sample.content.why)
            continue
        label = label_of(sample, defects)
        try:
            header = header_of(sample.content)
        except UNREADABLE as error:
            defects.broken(sample.name, reason(error))
            continue
        if label is not None:
            labels.append(label)
            sha256s.append(content_digest(sample.content))
            sizes.add((header.width, header.height))
            grey = grey and header.mode in GREY
    if not len(defects) and len(labels) != len(split):
        defects.add(f"{len(split)} images are promised, {len(labels)} were read; labels below 0 are left out by timm")
    if not labels and not len(defects):
        defects.add("no images")
    defects.refuse()
    return Index(np.array(labels, np.int64), tuple(sha256s), grey, tuple(sorted(sizes)))


def _parted(
    opened: list[OpenSplit], indexes: list[Index], names: tuple[str, ...], spec: DataSpec, defects: Defects
) -> dict[str, Rows]:
    train, index = opened[0], indexes[0]
    if len(set(index.labels.tolist())) < 2:
        defects.add(f"only one class, {names[index.labels[0]]!r}; at least 2 are needed")
    if len(opened) > 1:
        held = relabelled(indexes[1].labels, opened[1].class_names, train.class_names, "validation", defects)
        lacking = sorted(set(held.tolist()) - set(index.labels.tolist()) - {-1})
        if lacking:
            shown = some(repr(names[label]) for label in lacking)
            defects.add(f"validation has classes that train has no image of: {shown}")
        every = np.arange(len(held))
        validation = Rows(opened[1], every, held, indexes[1].sha256s)
        return {"train": Rows.of(train, index, np.arange(len(index.labels))), "validation": validation}
    chosen = held_out(index.sha256s, index.labels, names, spec.validation_share, spec.seed, defects)
    return {
        "train": Rows.of(train, index, np.flatnonzero(~chosen)),
        "validation": Rows.of(train, index, np.flatnonzero(chosen)),
    }


def _decoded(parts: Mapping[str, Rows], size: int, channels: int, cache_dir: Path | None) -> dict[str, Split]:
    def rows(names: frozenset[str]) -> Iterator[tuple[str, Bytes]]:
        for split in {id(parts[name].split): parts[name].split for name in sorted(names)}.values():
            yield from _pixels(split, {name: parts[name] for name in names if parts[name].split is split})

    def _pixels(split: OpenSplit, wanted: Mapping[str, Rows]) -> Iterator[tuple[str, Bytes]]:
        defects = Defects(split.where)
        part_of = {row: name for name, part in wanted.items() for row in part.rows.tolist()}
        for sample in split.read(sorted(part_of)):
            try:
                if isinstance(sample.content, Broken):
                    raise ValueError(sample.content.why)
                yield part_of[sample.row], decode_image(sample.content, size, channels)
            except UNREADABLE as error:
                defects.broken(sample.name, reason(error))
        defects.refuse()

    return stored_splits(parts, size, channels, rows, cache_dir)


def _test(
    spec: DataSpec,
    name: str,
    names: tuple[str, ...],
    own_names: tuple[str, ...],
    size: int,
    channels: int,
    cache_dir: Path | None,
) -> Split:
    split = open_split(spec, name)
    index, defects = index_of(split, spec, cache_dir), Defects(split.where)
    labels = relabelled(index.labels, split.class_names, own_names, "test", defects)
    if labels.max() >= len(names):
        defects.add(f"label {labels.max()} is none of the {len(names)} classes")
    defects.refuse()
    part = Rows(split, np.arange(len(labels)), labels, index.sha256s)
    return _decoded({"test": part}, size, channels, cache_dir)["test"]
