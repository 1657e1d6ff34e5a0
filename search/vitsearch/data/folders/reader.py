"""The user's own images in folders: ROOT/train and ROOT/val (and ROOT/test), or ROOT/CLASS alone.

Class order is by name. Where there is no validation folder, ``validation_share`` of each class is
held out (see :mod:`.holdout`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from vitsearch.data.arrays import Bytes, Labels
from vitsearch.data.folders.headers import ImageFile, Memory
from vitsearch.data.folders.scan import Classes, scan_classes
from vitsearch.data.holdout import held_out, too_few
from vitsearch.data.image_data import ImageData
from vitsearch.data.pixels import UNREADABLE, decode_image, reason
from vitsearch.data.problems import Defects, some
from vitsearch.data.sizes import common_size
from vitsearch.data.spec import DataSpec
from vitsearch.data.splits import Split, stored_splits
from vitsearch.data.statistics import mean_and_std
from vitsearch.errors import DataError

_VALIDATION_NAMES = ("val", "validation")


@dataclass(frozen=True)
class Part:
    """Image files with their labels; ``sha256s`` is empty until their contents were read."""

    files: tuple[ImageFile, ...]
    labels: Labels
    memory: Memory
    sha256s: tuple[str, ...] = ()

    @classmethod
    def of(cls, classes: Classes, names: tuple[str, ...], memory: Memory) -> Part:
        places = {name: label for label, name in enumerate(names)}
        found = [(file, places[name]) for name, files in classes.items() if name in places for file in files]
        return cls(tuple(file for file, _ in found), np.array([label for _, label in found], np.int64), memory)

    def read(self) -> Part:
        sha256s = tuple(self.memory.sha256(file) for file in self.files)
        self.memory.save()
        return replace(self, sha256s=sha256s)

    def of_rows(self, rows: Labels) -> Part:
        files, sha256s = tuple(self.files[row] for row in rows), tuple(self.sha256s[row] for row in rows)
        return replace(self, files=files, labels=self.labels[rows], sha256s=sha256s)


@dataclass(frozen=True)
class FolderSurvey:
    """What the headers of a folder tell. ``validation`` is ``None`` where it is to be held out."""

    root: Path
    names: tuple[str, ...]
    train: Part
    validation: Part | None
    image_size: int
    channels: int

    @property
    def files(self) -> tuple[ImageFile, ...]:
        return self.train.files + (self.validation.files if self.validation else ())


def survey_folder(spec: DataSpec, cache_dir: Path | None) -> FolderSurvey:
    """The folder of ``spec.root`` by its headers alone; one :class:`DataError` for all that is wrong with it."""
    root = Path(spec.root or "").expanduser()
    if not root.is_dir():
        raise DataError(f"data.root: {root} is not a folder")
    defects = Defects(str(root))
    train_folder, validation_folder = _folders(root)
    memory = Memory(train_folder, cache_dir)
    classes = scan_classes(train_folder, memory, defects)
    names = tuple(classes)
    if len(names) == 1:
        defects.add(f"only one class, {names[0]!r}; at least 2 are needed")
    validation = None
    if validation_folder is not None:
        validation_memory = Memory(validation_folder, cache_dir)
        found = scan_classes(validation_folder, validation_memory, defects)
        _tell_unknown_classes("validation", found, names, defects)
        validation = Part.of(found, names, validation_memory)
    else:
        for name, members in classes.items():
            if len(members) == 1:
                defects.add(too_few(name, 1))
    train = Part.of(classes, names, memory)
    files = train.files + (validation.files if validation else ())
    size = spec.image_size or common_size(((file.width, file.height) for file in files), defects)
    defects.refuse()
    channels = spec.channels or (1 if all(file.is_grey for file in files) else 3)
    return FolderSurvey(root, names, train, validation, size, channels)


def load_folder(spec: DataSpec, cache_dir: Path | None) -> ImageData:
    """The folder of ``spec.root``; :class:`DataError` for everything that makes it no data set."""
    survey = survey_folder(spec, cache_dir)
    parts = _parted(survey, spec)
    splits = _decoded(parts, survey, cache_dir)
    mean, std = mean_and_std(splits["train"].images)
    read_test = None
    if (survey.root / "train").is_dir() and (survey.root / "test").is_dir():
        read_test = partial(_test, survey.root, survey.names, survey.image_size, survey.channels, cache_dir)
    return ImageData(survey.names, splits["train"], splits["validation"], mean, std, read_test)


def _folders(root: Path) -> tuple[Path, Path | None]:
    """Where the training and the validation images are."""
    parts = [root / name for name in _VALIDATION_NAMES if (root / name).is_dir()]
    if not (root / "train").is_dir():
        if parts:
            raise DataError(f"{root}: has {parts[0].name!r} but no 'train'")
        return root, None
    if len(parts) > 1:
        raise DataError(f"{root}: has both 'val' and 'validation'; keep one")
    return root / "train", parts[0] if parts else None


def _parted(survey: FolderSurvey, spec: DataSpec) -> dict[str, Part]:
    train = survey.train.read()
    if survey.validation is not None:
        return {"train": train, "validation": survey.validation.read()}
    defects = Defects(str(survey.root))
    chosen = held_out(train.sha256s, train.labels, survey.names, spec.validation_share, spec.seed, defects)
    defects.refuse()
    return {"train": train.of_rows(np.flatnonzero(~chosen)), "validation": train.of_rows(np.flatnonzero(chosen))}


def _decoded(parts: Mapping[str, Part], survey: FolderSurvey, cache_dir: Path | None) -> dict[str, Split]:
    size, channels = survey.image_size, survey.channels

    def rows(names: frozenset[str]) -> Iterator[tuple[str, Bytes]]:
        defects = Defects(str(survey.root))
        for name in sorted(names):
            for file in parts[name].files:
                try:
                    yield name, decode_image(file.path, size, channels)
                except UNREADABLE as error:
                    defects.broken(file.path, reason(error))
        defects.refuse()

    return stored_splits(parts, size, channels, rows, cache_dir)


def _test(root: Path, names: tuple[str, ...], image_size: int, channels: int, cache_dir: Path | None) -> Split:
    defects, memory = Defects(str(root)), Memory(root / "test", cache_dir)
    classes = scan_classes(root / "test", memory, defects)
    _tell_unknown_classes("test", classes, names, defects)
    defects.refuse()
    part = Part.of(classes, names, memory)
    survey = FolderSurvey(root, names, part, None, image_size, channels)
    return _decoded({"test": part.read()}, survey, cache_dir)["test"]


def _tell_unknown_classes(part: str, classes: Classes, names: tuple[str, ...], defects: Defects) -> None:
    unknown = [repr(name) for name in classes if name not in names]
    if unknown:
        known = some(repr(name) for name in names)
        defects.add(f"{part} has classes that train lacks: {some(unknown)}; train has {known}")
