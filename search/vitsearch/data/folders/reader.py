"""The user's own images in folders: ROOT/train and ROOT/val (and ROOT/test), or only ROOT/CLASS.

Classes are ordered by name. Without a validation folder, ``validation_share`` of each class is held out
(see :mod:`vitsearch.data.holdout`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from vitsearch.data.arrays import Bytes, Labels
from vitsearch.data.folders.headers import HeaderCache, ImageFile
from vitsearch.data.folders.scan import Classes, scan_classes
from vitsearch.data.holdout import held_out, too_few
from vitsearch.data.image_data import ImageData
from vitsearch.data.pixels import UNREADABLE, decode_image, reason
from vitsearch.data.problems import Problems, some
from vitsearch.data.spec import DataSpec
from vitsearch.data.splits import Split, stored_splits
from vitsearch.data.statistics import common_size, mean_and_std
from vitsearch.errors import DataError

_VALIDATION_NAMES = ("val", "validation")


@dataclass(frozen=True)
class FolderPart:
    """Image files of one split with their labels; ``sha256s`` is empty until :meth:`read`."""

    files: tuple[ImageFile, ...]
    labels: Labels
    cache: HeaderCache
    sha256s: tuple[str, ...] = ()

    @classmethod
    def of(cls, classes: Classes, names: tuple[str, ...], cache: HeaderCache) -> FolderPart:
        labels = {name: label for label, name in enumerate(names)}
        found = [(file, labels[name]) for name, files in classes.items() if name in labels for file in files]
        return cls(tuple(file for file, _ in found), np.array([label for _, label in found], np.int64), cache)

    def read(self) -> FolderPart:
        """The same files with the digests of their contents."""
        sha256s = tuple(self.cache.sha256(file) for file in self.files)
        self.cache.save()
        return replace(self, sha256s=sha256s)

    def of_rows(self, rows: Labels) -> FolderPart:
        files, sha256s = tuple(self.files[row] for row in rows), tuple(self.sha256s[row] for row in rows)
        return replace(self, files=files, labels=self.labels[rows], sha256s=sha256s)


@dataclass(frozen=True)
class FolderSurvey:
    """The contents of a folder by its image headers. ``validation`` is ``None`` when it is held out of ``train``."""

    root: Path
    names: tuple[str, ...]
    train: FolderPart
    validation: FolderPart | None
    image_size: int
    channels: int

    @property
    def files(self) -> tuple[ImageFile, ...]:
        return self.train.files + (self.validation.files if self.validation else ())


def survey_folder(spec: DataSpec, cache_dir: Path | None) -> FolderSurvey:
    """Read the headers of all images below ``spec.root``. Raises one :class:`DataError` with all problems found."""
    root = Path(spec.root or "").expanduser()
    if not root.is_dir():
        raise DataError(f"data.root: {root} is not a folder")
    problems = Problems(str(root))
    train_folder, validation_folder = split_folders(root)
    cache = HeaderCache(train_folder, cache_dir)
    classes = scan_classes(train_folder, cache, problems)
    names = tuple(classes)
    if len(names) == 1:
        problems.add(f"only one class, {names[0]!r}; at least 2 are needed")
    validation = None
    if validation_folder is not None:
        validation_cache = HeaderCache(validation_folder, cache_dir)
        found = scan_classes(validation_folder, validation_cache, problems)
        _add_unknown_classes("validation", found, names, problems)
        validation = FolderPart.of(found, names, validation_cache)
    else:
        for name, members in classes.items():
            if len(members) == 1:
                problems.add(too_few(name, 1))
    train = FolderPart.of(classes, names, cache)
    files = train.files + (validation.files if validation else ())
    size = spec.image_size or common_size(((file.width, file.height) for file in files), problems)
    problems.raise_any()
    channels = spec.channels or (1 if all(file.is_grey for file in files) else 3)
    return FolderSurvey(root, names, train, validation, size, channels)


def load_folder(spec: DataSpec, cache_dir: Path | None) -> ImageData:
    """Load the folder ``spec.root``. Raises one :class:`DataError` with all problems found."""
    survey = survey_folder(spec, cache_dir)
    parts = survey_parts(survey, spec)
    splits = _decode(parts, survey, cache_dir)
    mean, std = mean_and_std(splits["train"].images)
    read_test = None
    if (survey.root / "train").is_dir() and (survey.root / "test").is_dir():
        read_test = partial(_read_test, survey.root, survey.names, survey.image_size, survey.channels, cache_dir)
    return ImageData(survey.names, splits["train"], splits["validation"], mean, std, read_test)


def decoded_sample(survey: FolderSurvey, part: FolderPart, rows: Labels) -> Split:
    """Some images of a part, which is not read yet, decoded into memory."""
    some_files = tuple(part.files[row] for row in rows)
    sample = replace(part, files=some_files, labels=part.labels[rows]).read()
    return _decode({"sample": sample}, survey, None)["sample"]


def split_folders(root: Path) -> tuple[Path, Path | None]:
    """The folders of the training and the validation images; ``None`` when there is no validation folder."""
    parts = [root / name for name in _VALIDATION_NAMES if (root / name).is_dir()]
    if not (root / "train").is_dir():
        if parts:
            raise DataError(f"{root}: has a folder {parts[0].name!r} but no folder 'train'")
        return root, None
    if len(parts) > 1:
        raise DataError(f"{root}: has both 'val' and 'validation'; keep one")
    return root / "train", parts[0] if parts else None


def survey_parts(survey: FolderSurvey, spec: DataSpec) -> dict[str, FolderPart]:
    """The training and the validation images with the digests of their contents."""
    train = survey.train.read()
    if survey.validation is not None:
        return {"train": train, "validation": survey.validation.read()}
    problems = Problems(str(survey.root))
    chosen = held_out(train.sha256s, train.labels, survey.names, spec.validation_share, spec.seed, problems)
    problems.raise_any()
    return {"train": train.of_rows(np.flatnonzero(~chosen)), "validation": train.of_rows(np.flatnonzero(chosen))}


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

    return stored_splits(parts, size, channels, rows, cache_dir)


def _read_test(root: Path, names: tuple[str, ...], image_size: int, channels: int, cache_dir: Path | None) -> Split:
    problems, cache = Problems(str(root)), HeaderCache(root / "test", cache_dir)
    classes = scan_classes(root / "test", cache, problems)
    _add_unknown_classes("test", classes, names, problems)
    problems.raise_any()
    part = FolderPart.of(classes, names, cache)
    survey = FolderSurvey(root, names, part, None, image_size, channels)
    return _decode({"test": part.read()}, survey, cache_dir)["test"]


def _add_unknown_classes(part: str, classes: Classes, names: tuple[str, ...], problems: Problems) -> None:
    unknown = [repr(name) for name in classes if name not in names]
    if unknown:
        known = some(repr(name) for name in names)
        problems.add(f"{part} has classes that train lacks: {some(unknown)}; train has {known}")
