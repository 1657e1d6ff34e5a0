"""Every set that timm's `create_dataset` reads, as `ImageData`: decoded once, then mapped.

The first load reads a split twice: once for digests, labels, sizes and modes (the index, which stays in the cache
folder until the files change), and once for the pixels. One image is held in memory at a time.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from vitsearch.core.image_size import ImageSize
from vitsearch.data.arrays import Bytes, Labels
from vitsearch.data.holdout import held_out
from vitsearch.data.image_data import ImageData
from vitsearch.data.pixels import GREY, UNREADABLE, content_digest, decode_image, header_of, reason
from vitsearch.data.problems import Problems, some
from vitsearch.data.spec import DataSpec
from vitsearch.data.splits import Split, stored_splits
from vitsearch.data.statistics import common_size, mean_and_std
from vitsearch.data.store import write_to_cache
from vitsearch.data.timm_sets.labels import class_names_of, label_of, relabelled
from vitsearch.data.timm_sets.open import open_split
from vitsearch.data.timm_sets.read import OpenSplit, UnreadableImage
from vitsearch.data.timm_sets.splits import SplitNames, split_names
from vitsearch_agent.base.canonical_json import digest

SCHEMA = 2  # raise it when the meaning of an index changes


@dataclass(frozen=True)
class Index:
    """What one pass over a split finds; `sizes` are the distinct (width, height) in pixels."""

    labels: Labels
    sha256s: tuple[str, ...]
    grey: bool
    sizes: tuple[tuple[int, int], ...]

    def to_bytes(self) -> bytes:
        value = {"labels": self.labels.tolist(), "sha256s": self.sha256s, "grey": self.grey, "sizes": self.sizes}
        return json.dumps(value).encode()

    @classmethod
    def from_bytes(cls, content: bytes) -> Index | None:
        """The stored index, or `None` when the file is damaged."""
        try:
            value = json.loads(content)
            sizes = tuple((width, height) for width, height in value["sizes"])
            return cls(np.array(value["labels"], np.int64), tuple(value["sha256s"]), bool(value["grey"]), sizes)
        except (ValueError, KeyError, TypeError):
            return None


@dataclass(frozen=True)
class SplitPart:
    """Some rows of an open split, with their labels and digests."""

    split: OpenSplit
    rows: Labels
    labels: Labels
    sha256s: tuple[str, ...]

    @classmethod
    def of(cls, split: OpenSplit, index: Index, rows: Labels) -> SplitPart:
        return cls(split, rows, index.labels[rows], tuple(index.sha256s[row] for row in rows))


@dataclass(frozen=True)
class TimmSurvey:
    """A set by its index. `own_names` are the class names of the set, if it has any; `size` is that of its images as
    they are stored."""

    splits: SplitNames
    class_names: tuple[str, ...]
    own_names: tuple[str, ...]
    parts: dict[str, SplitPart]
    size: ImageSize
    channels: int


def survey_timm(spec: DataSpec, cache_dir: Path | None) -> TimmSurvey:
    """Read the set of `spec` once, without its pixels. Raises `DataError` with all problems
    found."""
    names = split_names(spec)
    train = open_split(spec, names.train)
    validation = open_split(spec, names.validation) if names.validation else None
    opened = [train] if validation is None else [train, validation]
    indexes = [read_index(split, spec, cache_dir) for split in opened]
    class_names = class_names_of(spec, train.class_names, _labels_in_train_order(opened, indexes))
    problems = Problems(spec.source)
    size = spec.image_size or common_size((size for index in indexes for size in index.sizes), problems)
    parts = _parts(opened, indexes, class_names, spec, problems)
    problems.raise_any()
    channels = spec.channels or (1 if all(index.grey for index in indexes) else 3)
    return TimmSurvey(names, class_names, train.class_names, parts, size, channels)


def load_timm(spec: DataSpec, cache_dir: Path | None) -> ImageData:
    """Load the set of `spec`. Raises `DataError` with all problems found."""
    survey = survey_timm(spec, cache_dir)
    splits = _decode(survey.parts, survey.size, survey.channels, cache_dir)
    mean, std = mean_and_std(splits["train"].images)
    read_test = partial(_read_test, spec, survey, cache_dir) if survey.splits.test is not None else None
    return ImageData(survey.class_names, splits["train"], splits["validation"], mean, std, read_test)


def decoded_rows(survey: TimmSurvey, rows: Labels) -> Split:
    """Some of the validation images, decoded into memory."""
    part = survey.parts["validation"]
    sha256s = tuple(part.sha256s[row] for row in rows)
    sample = SplitPart(part.split, part.rows[rows], part.labels[rows], sha256s)
    return _decode({"sample": sample}, survey.size, survey.channels, None)["sample"]


def _labels_in_train_order(opened: list[OpenSplit], indexes: list[Index]) -> list[Labels]:
    """The labels of the splits that number the classes as the training split does."""
    first = opened[0].class_names
    return [index.labels for split, index in zip(opened, indexes, strict=True) if split.class_names == first]


def read_index(split: OpenSplit, spec: DataSpec, cache_dir: Path | None) -> Index:
    """The index of a split, from the cache folder or by a pass over the split.

    Raises one `DataError` with all problems of the split.
    """
    root = None if spec.root is None else str(Path(spec.root).expanduser().resolve())
    named = {"schema": SCHEMA, "where": split.where, "root": root, "stamp": split.stamp}
    keys = {"input_key": spec.input_key, "target_key": spec.target_key}
    file = cache_dir / f"index-{digest(named | keys)}.json" if cache_dir else None
    if file is not None and file.is_file() and (cached := Index.from_bytes(file.read_bytes())) is not None:
        return cached
    index = _scan(split)
    if file is not None:
        write_to_cache(file, index.to_bytes())
    return index


def _scan(split: OpenSplit) -> Index:
    problems = Problems(split.where)
    labels, sha256s, sizes, grey = list[int](), list[str](), set[tuple[int, int]](), True
    for sample in split.read(range(len(split))):
        if isinstance(sample.content, UnreadableImage):
            problems.add_unreadable(sample.name, sample.content.why)
            continue
        label = label_of(sample, problems)
        try:
            header = header_of(sample.content)
        except UNREADABLE as error:
            problems.add_unreadable(sample.name, reason(error))
            continue
        if label is not None:
            labels.append(label)
            sha256s.append(content_digest(sample.content))
            sizes.add((header.width, header.height))
            grey = grey and header.mode in GREY
    if not len(problems) and len(labels) != len(split):
        problems.add(
            f"{len(split)} images are declared, {len(labels)} were read; a shard is cut off, or labels are below 0, "
            "which timm skips"
        )
    if not labels and not len(problems):
        problems.add("no images")
    problems.raise_any()
    return Index(np.array(labels, np.int64), tuple(sha256s), grey, tuple(sorted(sizes)))


def _parts(
    opened: list[OpenSplit], indexes: list[Index], names: tuple[str, ...], spec: DataSpec, problems: Problems
) -> dict[str, SplitPart]:
    train, index = opened[0], indexes[0]
    if len(set(index.labels.tolist())) < 2:
        problems.add(f"only one class, {names[index.labels[0]]!r}; at least 2 are needed")
    if len(opened) > 1:
        labels = relabelled(indexes[1].labels, opened[1].class_names, train.class_names, "validation", problems)
        lacking = sorted(set(labels.tolist()) - set(index.labels.tolist()) - {-1})
        if lacking:
            shown = some(repr(names[label]) for label in lacking)
            problems.add(f"validation has images of classes without a training image: {shown}")
        every = np.arange(len(labels))
        validation = SplitPart(opened[1], every, labels, indexes[1].sha256s)
        return {"train": SplitPart.of(train, index, np.arange(len(index.labels))), "validation": validation}
    chosen = held_out(index.sha256s, index.labels, names, spec.validation_share, spec.seed, problems)
    return {
        "train": SplitPart.of(train, index, np.flatnonzero(~chosen)),
        "validation": SplitPart.of(train, index, np.flatnonzero(chosen)),
    }


def _decode(parts: Mapping[str, SplitPart], size: ImageSize, channels: int, cache_dir: Path | None) -> dict[str, Split]:
    def rows(names: frozenset[str]) -> Iterator[tuple[str, Bytes]]:
        for split in {id(parts[name].split): parts[name].split for name in sorted(names)}.values():
            yield from _pixels(split, {name: parts[name] for name in names if parts[name].split is split})

    def _pixels(split: OpenSplit, wanted: Mapping[str, SplitPart]) -> Iterator[tuple[str, Bytes]]:
        problems = Problems(split.where)
        part_of = {row: name for name, part in wanted.items() for row in part.rows.tolist()}
        for sample in split.read(sorted(part_of)):
            try:
                if isinstance(sample.content, UnreadableImage):
                    raise ValueError(sample.content.why)
                yield part_of[sample.row], decode_image(sample.content, size, channels)
            except UNREADABLE as error:
                problems.add_unreadable(sample.name, reason(error))
        problems.raise_any()

    return stored_splits(parts, size, channels, rows, cache_dir)


def test_part(spec: DataSpec, survey: TimmSurvey, cache_dir: Path | None) -> SplitPart | None:
    """The test images of a set without their pixels, `None` for a set without test images.

    Raises `DataError` with all problems found.
    """
    if survey.splits.test is None:
        return None
    split = open_split(spec, survey.splits.test)
    index, problems = read_index(split, spec, cache_dir), Problems(split.where)
    names = survey.class_names
    labels = relabelled(index.labels, split.class_names, survey.own_names, "test", problems)
    if labels.max() >= len(names):
        problems.add(f"label {labels.max()} is out of range (0 to {len(names) - 1})")
    problems.raise_any()
    return SplitPart(split, np.arange(len(labels)), labels, index.sha256s)


def _read_test(spec: DataSpec, survey: TimmSurvey, cache_dir: Path | None) -> Split:
    part = test_part(spec, survey, cache_dir)
    assert part is not None  # only a set with test images gets this function
    return _decode({"test": part}, survey.size, survey.channels, cache_dir)["test"]
