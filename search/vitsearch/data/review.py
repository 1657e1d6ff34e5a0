"""Warnings about usable data that judges badly: images on both sides, two labels, small classes, skipped files.

Every image is read once, so that copies are found by their content.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from vitsearch.data.arrays import Labels
from vitsearch.data.estimate import Estimate, estimate, estimate_of_folder
from vitsearch.data.fashion_mnist import load_fashion_mnist
from vitsearch.data.folders.reader import FolderSurvey, survey_folder, survey_parts
from vitsearch.data.folders.skipped import skipped_files
from vitsearch.data.problems import some
from vitsearch.data.spec import DataSpec
from vitsearch.data.splits import Split
from vitsearch.data.timm_sets.skipped import skipped_samples
from vitsearch.data.timm_sets.source import survey_timm

MOST_COMPARED = 200_000  # images; to read more takes longer than a check should
FEWEST_TO_JUDGE = 10  # validation images of a class; with fewer, one image is more than 10 points of its accuracy


class Review(NamedTuple):
    """What a data set takes, and one line for each thing to know before its accuracies are believed."""

    estimate: Estimate
    warnings: list[str]


@dataclass(frozen=True)
class Images:
    """The images of one split: labels, digests of the contents, and names for people."""

    labels: Labels
    sha256s: Sequence[str]
    names: Sequence[str]


@dataclass(frozen=True)
class Contents:
    class_names: tuple[str, ...]
    train: Images
    validation: Images

    def warnings(self) -> list[str]:
        found = (self._trained_and_validated(), self._two_labels(), self._small_classes())
        return [line for line in found if line is not None]

    def _trained_and_validated(self) -> str | None:
        trained = dict(zip(self.train.sha256s, self.train.names, strict=True))
        copies = [
            f"{name} is {trained[sha256]}"
            for sha256, name in zip(self.validation.sha256s, self.validation.names, strict=True)
            if sha256 in trained
        ]
        if not copies:
            return None
        count = f"{len(copies)} of {len(self.validation.names)} validation images are also training images"
        return f"{count}, so every accuracy is too high: {some(copies)}"

    def _two_labels(self) -> str | None:
        labels: dict[str, dict[int, str]] = defaultdict(dict)
        for images in (self.train, self.validation):
            for label, sha256, name in zip(images.labels.tolist(), images.sha256s, images.names, strict=True):
                labels[sha256].setdefault(label, name)
        several = [
            ", ".join(f"{name} as {self.class_names[label]!r}" for label, name in found.items())
            for found in labels.values()
            if len(found) > 1
        ]
        return f"images with more than one label ({len(several)}): {some(several)}" if several else None

    def _small_classes(self) -> str | None:
        counts = np.bincount(self.validation.labels, minlength=len(self.class_names)).tolist()
        small = {name: n for name, n in zip(self.class_names, counts, strict=True) if n < FEWEST_TO_JUDGE}
        if not small:
            return None
        listed = some(f"{name!r} {n}" for name, n in sorted(small.items(), key=lambda item: item[1]))
        return (
            f"too few validation images to judge {len(small)} of {len(counts)} classes: {listed}; with fewer than "
            f"{FEWEST_TO_JUDGE}, one image is more than {100 // FEWEST_TO_JUDGE} points of the accuracy of its class"
        )


def review(spec: DataSpec) -> Review:
    """Read the whole data set, without storing anything.

    Raises :class:`~vitsearch.errors.DataError` with every problem of the data.
    """
    if spec.source == "folder":
        survey = survey_folder(spec, None)
        found = estimate_of_folder(survey)
        return Review(found, [*_compared(found, lambda: _of_folder(survey, spec)), *skipped_files(survey)])
    found = estimate(spec)
    read = _of_builtin if spec.source.startswith("builtin:") else _of_timm
    return Review(found, [*_compared(found, lambda: read(spec)), *skipped_samples(spec)])


def _compared(found: Estimate, read: Callable[[], Contents]) -> list[str]:
    if found.images > MOST_COMPARED:
        return [
            f"{found.images:,} images were not compared (this check reads up to {MOST_COMPARED:,}): there may be "
            "training images among the validation images, and classes with few of them"
        ]
    return read().warnings()


def _of_folder(survey: FolderSurvey, spec: DataSpec) -> Contents:
    sides = {
        name: Images(part.labels, part.sha256s, [str(file.path.relative_to(survey.root)) for file in part.files])
        for name, part in survey_parts(survey, spec).items()
    }
    return Contents(survey.names, sides["train"], sides["validation"])


def _of_timm(spec: DataSpec) -> Contents:
    survey = survey_timm(spec, None)
    sides = {
        name: Images(part.labels, part.sha256s, [f"image {row} of {part.split.where}" for row in part.rows.tolist()])
        for name, part in survey.parts.items()
    }
    return Contents(survey.class_names, sides["train"], sides["validation"])


def _of_builtin(spec: DataSpec) -> Contents:
    data = load_fashion_mnist(spec)
    return Contents(data.class_names, _of_split("train", data.train), _of_split("validation", data.validation))


def _of_split(name: str, split: Split) -> Images:
    sha256s = [hashlib.sha256(image.tobytes()).hexdigest() for image in split.images]
    return Images(split.labels, sha256s, [f"image {row} of {name}" for row in range(len(split))])
