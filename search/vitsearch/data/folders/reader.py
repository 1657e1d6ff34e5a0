"""The user's own images in folders: ROOT/train and ROOT/val (and ROOT/test), or only ROOT/CLASS
(see `vitsearch.data.folders.layout`). Images without labels lie anywhere below ROOT/train, ROOT/val and ROOT/test, or
below ROOT.

Classes are ordered by name. Without a validation folder, `validation_share` of each class is held out
(see `vitsearch.data.holdout`).
"""

from __future__ import annotations

import shlex
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from vitsearch.core.data_sources import UNLABELLED
from vitsearch.core.image_size import ImageSize
from vitsearch.data.arrays import Bytes, Labels
from vitsearch.data.folders.decoded import decoded_files
from vitsearch.data.folders.headers import HeaderCache, ImageFile
from vitsearch.data.folders.layout import SplitFolders, split_folders
from vitsearch.data.folders.scan import Classes, scan_classes, scan_unlabelled
from vitsearch.data.groups import group_names, refuse_unfit, units
from vitsearch.data.holdout import held_out, set_aside, too_few
from vitsearch.data.image_data import ImageData
from vitsearch.data.pixels import UNREADABLE, decode_image, reason
from vitsearch.data.problems import Problems, some
from vitsearch.data.spec import DataSpec
from vitsearch.data.split_words import KEYS, NONE
from vitsearch.data.splits import Split, stored_splits
from vitsearch.data.statistics import common_size, mean_and_std

T = TypeVar("T")
Scan = Callable[[Path, HeaderCache, Problems], Classes]


@dataclass(frozen=True)
class FolderPart:
    """Image files of one split with their labels; `sha256s` is empty until `read`, `groups` where
    images belong to none."""

    files: tuple[ImageFile, ...]
    labels: Labels
    cache: HeaderCache
    sha256s: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()

    @classmethod
    def of(cls, classes: Classes, names: tuple[str, ...], cache: HeaderCache) -> FolderPart:
        labels = {name: label for label, name in enumerate(names)}
        labelled = [(file, labels[name]) for name, files in classes.items() if name in labels for file in files]
        return cls(tuple(file for file, _ in labelled), np.array([label for _, label in labelled], np.int64), cache)

    def read(self) -> FolderPart:
        """The same files with the digests of their contents."""
        if self.sha256s:
            return self
        sha256s = tuple(self.cache.sha256(file) for file in self.files)
        self.cache.save()
        return replace(self, sha256s=sha256s)

    def unread(self, rows: Labels) -> FolderPart:
        """Some of the files, whose contents are not read yet."""
        return replace(self, **self._chosen(rows), sha256s=())

    def of_rows(self, rows: Labels) -> FolderPart:
        return replace(self, **self._chosen(rows), sha256s=tuple(self.sha256s[row] for row in rows))

    @property
    def units(self) -> Labels | None:
        return units(self.groups, self.sha256s) if self.groups else None

    def _chosen(self, rows: Labels) -> dict[str, Any]:
        groups = tuple(self.groups[row] for row in rows) if self.groups else ()
        return {"files": tuple(self.files[row] for row in rows), "labels": self.labels[rows], "groups": groups}


@dataclass(frozen=True)
class FolderSurvey:
    """The contents of a folder by its image headers. `validation` is `None` when it is held out of `train`,
    `test` when there are no test images."""

    folders: SplitFolders
    names: tuple[str, ...]
    train: FolderPart
    validation: FolderPart | None
    test: FolderPart | None
    image_size: ImageSize
    channels: int

    @property
    def root(self) -> Path:
        return self.folders.root

    @property
    def is_labelled(self) -> bool:
        return self.names != (UNLABELLED,)

    @property
    def files(self) -> tuple[ImageFile, ...]:
        """Those of the training and the validation images."""
        return self.train.files + (self.validation.files if self.validation else ())

    @property
    def all_files(self) -> tuple[ImageFile, ...]:
        """Those, and the test images."""
        return self.files + (self.test.files if self.test else ())


def survey_folder(spec: DataSpec, cache_dir: Path | None) -> FolderSurvey:
    """Read the headers of all images below `spec.root`. Raises one `DataError` with all problems found."""
    folders = split_folders(spec)
    problems = Problems(str(folders.root))
    cache = HeaderCache(folders.train, cache_dir)
    scan = scan_classes if spec.is_labelled else scan_unlabelled
    classes = scan(folders.train, cache, problems)
    names = tuple(classes)
    if len(names) == 1 and spec.is_labelled:
        problems.add(f"only one class, {names[0]!r}; at least 2 are needed")
    other = partial(_other_split, names=names, cache_dir=cache_dir, problems=problems, scan=scan)
    validation = other("validation", folders.validation)
    if validation is None:
        for name, members in classes.items():
            if len(members) == 1:
                problems.add(too_few(name, 1))
    so_far = len(problems)
    test = other("test", folders.test)
    if len(problems) > so_far:
        problems.advise(f"to use no test images, set data.{KEYS['test']}: {NONE}")
    train = FolderPart.of(classes, names, cache)
    if spec.group is not None:
        named = {"train": train, "validation": validation, "test": test}
        parts = grouped_parts(present_parts(named), folders.root, spec.group, problems)
        train, validation, test = parts["train"], parts.get("validation"), parts.get("test")
    files = train.files + (validation.files if validation else ())
    size = spec.image_size or common_size(((file.width, file.height) for file in files), problems)
    if len(problems):  # all is said at once, so what only decoding shows too
        decoded_files(files + (test.files if test else ()), problems)
    problems.raise_any()
    channels = spec.channels or (1 if all(file.is_grey for file in files) else 3)
    return FolderSurvey(folders, names, train, validation, test, size, channels)


def present_parts(parts: Mapping[str, T | None]) -> dict[str, T]:
    """Those of the splits that there are, in the same order."""
    return {name: part for name, part in parts.items() if part is not None}


def grouped_parts(parts: Mapping[str, FolderPart], root: Path, rule: str, problems: Problems) -> dict[str, FolderPart]:
    """Give images their groups.

    Args:
        parts: By the name of the split; the first is that of the training.
        root: The folder of the data.
        rule: `task.data.group`.
        problems: Images without a group are added to them, and groups that cannot be split.

    Returns:
        The same files with their groups.
    """
    before = len(problems)
    paths = [file.path.relative_to(root).as_posix() for part in parts.values() for file in part.files]
    names = iter(group_names(paths, rule, root, problems))
    grouped = {name: replace(part, groups=tuple(islice(names, len(part.files)))) for name, part in parts.items()}
    if len(problems) == before:
        refuse_unfit({name: part.groups for name, part in grouped.items()}, "validation" not in parts, problems)
    return grouped


def load_folder(spec: DataSpec, cache_dir: Path | None) -> ImageData:
    """Load the folder `spec.root`. Raises one `DataError` with all problems found."""
    survey = survey_folder(spec, cache_dir)
    parts = survey_parts(survey, spec)
    splits = _decode(parts, survey, cache_dir)
    mean, std = mean_and_std(splits["train"].images)
    read_test = None if survey.test is None else partial(_read_test, survey.test, survey, cache_dir)
    return ImageData(survey.names, splits["train"], splits["validation"], mean, std, read_test)


def decoded_sample(survey: FolderSurvey, part: FolderPart, rows: Labels) -> Split:
    """Some images of a part, which is not read yet, decoded into memory."""
    return _decode({"sample": part.unread(rows).read()}, survey, None)["sample"]


def survey_parts(survey: FolderSurvey, spec: DataSpec, problems: Problems | None = None) -> dict[str, FolderPart]:
    """The training and the validation images with the digests of their contents. Raises one `DataError` with all
    `problems`, those of the draw among them."""
    problems = Problems(str(survey.root)) if problems is None else problems
    train = survey.train.read()
    if survey.validation is not None:
        problems.raise_any()
        return {"train": train, "validation": survey.validation.read()}
    chosen = held_out(
        train.sha256s, train.labels, survey.names, spec.validation_share, spec.seed, problems, train.groups
    )
    problems.raise_any()
    left = train.of_rows(np.flatnonzero(~chosen))
    if left.units is not None:
        holdout = set_aside(left.labels, spec.holdout_images, None, left.units)
        learned = set(np.delete(left.labels, holdout).tolist())
        if lost := [name for label, name in enumerate(survey.names) if label not in learned]:
            problems.add(
                f"data.group: the groups that validate and judge leave no image of {some(map(repr, lost))} to train on;"
                " a class needs 3 groups"
            )
            problems.raise_any()
    return {"train": left, "validation": train.of_rows(np.flatnonzero(chosen))}


def _decode(parts: Mapping[str, FolderPart], survey: FolderSurvey, cache_dir: Path | None) -> dict[str, Split]:
    size, channels = survey.image_size, survey.channels

    def rows(names: frozenset[str]) -> Iterator[tuple[str, Bytes]]:
        problems = Problems(str(survey.root))
        for name in sorted(names):
            for file in parts[name].files:
                try:
                    yield name, decode_image(file.path, size, channels)
                except UNREADABLE as error:
                    problems.add_unreadable(file.path, reason(error))
        problems.raise_any()

    splits = stored_splits(parts, size, channels, rows, cache_dir)
    return {name: replace(split, units=parts[name].units) for name, split in splits.items()}


def _read_test(test: FolderPart, survey: FolderSurvey, cache_dir: Path | None) -> Split:
    return _decode({"test": test.read()}, survey, cache_dir)["test"]


def _other_split(
    part: str, folder: Path | None, names: tuple[str, ...], cache_dir: Path | None, problems: Problems, scan: Scan
) -> FolderPart | None:
    """The validation or the test images, whose classes are those of the training images."""
    if folder is None:
        return None
    cache = HeaderCache(folder, cache_dir)
    classes = scan(folder, cache, problems)
    unknown = [name for name in classes if name not in names]
    if unknown and names:
        listed = some(repr(name) for name in names)
        lines = [f"{part} has classes that train lacks: {some(map(repr, unknown))}; train has {listed}"]
        alike = {_letters(name): name for name in names if name not in classes}
        for name in unknown:
            if (target := alike.get(_letters(name))) is not None:
                lines.append(f"mv {shlex.quote(str(folder / name))} {shlex.quote(str(folder / target))}")
        problems.add("\n  ".join(lines))
    return FolderPart.of(classes, names, cache)


def _letters(name: str) -> str:
    """The same for names that differ in case or in how accents are stored, which look the same in a list."""
    return unicodedata.normalize("NFC", name.casefold())
