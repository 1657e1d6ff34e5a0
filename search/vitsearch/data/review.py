"""What a data set is, and warnings about usable data that judges badly: images on two sides, two labels, unequal and
small classes, skipped files.

Every image is read once, so that copies are found by their content.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vitsearch.core.data_sources import UNLABELLED
from vitsearch.data.arrays import Bytes, Labels
from vitsearch.data.builtin import is_builtin, load_builtin
from vitsearch.data.dark_files import too_dark
from vitsearch.data.estimate import DataEstimate, estimate, estimate_of_folder
from vitsearch.data.fashion_mnist import ORIGINS
from vitsearch.data.folders.decoded import Decoded, decoded_files, not_decoded
from vitsearch.data.folders.masked import IMAGES, MASKS, MaskedSurvey, check_masks, survey_masked
from vitsearch.data.folders.reader import FolderPart, FolderSurvey, survey_folder, survey_parts
from vitsearch.data.folders.skipped import skipped_files
from vitsearch.data.holdout import HOLDOUT_SHARE, SEED, rows_to_learn, set_aside
from vitsearch.data.image_data import ImageData
from vitsearch.data.layout import Layout, SplitCounts, SplitOrigin
from vitsearch.data.leaks import named_pairs, pairs_text
from vitsearch.data.masks import present_in, rarest
from vitsearch.data.near_duplicates import group_of_pairs
from vitsearch.data.problems import Problems, some
from vitsearch.data.spec import DataSpec
from vitsearch.data.splits import Split, first_rows
from vitsearch.data.timm_sets.skipped import skipped_samples
from vitsearch.data.timm_sets.source import SplitPart, survey_timm, test_part
from vitsearch.errors import DataError
from vitsearch_agent.verify.segmentation import IGNORED

MOST_COMPARED = 200_000  # images; to read more takes longer than a check should
LIKE_MASKS = (MASKS, "mask", "labels", "annotations", "segmentation")  # what folders of masks are called
FEWEST_TO_JUDGE = 10  # validation images of a class; with fewer, one image is more than 10 points of its accuracy
MOST_UNEQUAL = 3  # largest to smallest class of train; beyond, an accuracy says little of the small ones

MOST_CUT = 0.02  # share of the pixels of an image with a mask; sizes in whole steps of a backbone cut off as much


class Review(NamedTuple):
    """What a data set takes, its classes and splits (`None` where they were not counted), and one line for each thing
    to know before its accuracies are believed."""

    estimate: DataEstimate
    layout: Layout | None
    warnings: list[str]


@dataclass(frozen=True)
class Images:
    """The images of one split: labels, digests of the contents, names for people, and where they are from."""

    labels: Labels
    sha256s: Sequence[str]
    names: Sequence[str]
    origin: SplitOrigin
    units: Labels | None = None

    def counts(self, classes: int, rows: Labels | None = None) -> tuple[int, ...]:
        """Count the images of each class; of some rows alone where they are given."""
        labels = self.labels if rows is None else self.labels[rows]
        return tuple(np.bincount(labels, minlength=classes).tolist())


@dataclass(frozen=True)
class MaskedImages:
    """The same of images with masks. `read_present` reads all masks and gives which classes are in each image, (n,
    classes); a run, which compares images alone, does not call it."""

    read_present: Callable[[], NDArray[np.bool_]]
    sha256s: Sequence[str]
    names: Sequence[str]
    origin: SplitOrigin
    units: Labels | None = None

    @cached_property
    def present(self) -> NDArray[np.bool_]:
        return self.read_present()

    @property
    def labels(self) -> Labels:
        """The rarest class of each image."""
        return rarest(self.present)

    def counts(self, classes: int, rows: Labels | None = None) -> tuple[int, ...]:
        """Count the images with each class; of some rows alone where they are given."""
        present = self.present if rows is None else self.present[rows]
        return tuple(present[:, :classes].sum(axis=0).tolist())


SplitImages = Images | MaskedImages


@dataclass(frozen=True)
class Contents:
    """The images of a data set. `test` is `None` where there are none, or where `test_problem` says why they
    cannot be used. At most `holdout_images` of `train` judge models in the search. `cut_images` says which images with
    masks lose their sides."""

    class_names: tuple[str, ...]
    train: SplitImages
    validation: SplitImages
    test: SplitImages | None
    holdout_images: int
    test_problem: str | None = None
    cut_images: str | None = None

    @cached_property
    def holdout(self) -> Labels:
        """Ascending rows of `train`, as in `ImageData`."""
        return set_aside(self.train.labels, self.holdout_images, first_rows(self.train.sha256s), self.train.units)

    @property
    def learned(self) -> Labels:
        """The other rows, as in `ImageData`."""
        joined = first_rows(self.train.sha256s) if self.train.units is None else self.train.units
        return rows_to_learn(len(self.train.names), self.holdout, joined)

    @property
    def judging(self) -> dict[str, tuple[SplitImages, Labels]]:
        """The images that judge models, by role, and their rows."""
        parts = {"validation": self.validation} | ({} if self.test is None else {"test": self.test})
        whole = {role: (images, np.arange(len(images.names))) for role, images in parts.items()}
        return whole | {"holdout": (self.train, self.holdout)}

    def layout(self) -> Layout:
        classes = len(self.class_names)
        drawn = "drawn" if self.class_names == (UNLABELLED,) else "drawn from its classes"
        origin = SplitOrigin(
            f"a tenth of train, at most {self.holdout_images:,}, {drawn} with seed {SEED}; they judge models in the "
            "search and train none",
            HOLDOUT_SHARE,
            SEED,
        )
        splits = {
            "train": _counted(self.train, classes),
            "holdout": SplitCounts(len(self.holdout), self.train.counts(classes, self.holdout), origin),
            "validation": _counted(self.validation, classes),
        }
        if self.test is not None:
            splits["test"] = _counted(self.test, classes)
        return Layout(self.class_names, splits)

    def warnings(self) -> list[str]:
        """Everything that reading the images has shown.

        Raises:
            DataError: Masks have too few classes to learn from.
        """
        return [*self.notes(), *_found(self._untrained_classes(), self._two_labels(), self._small_classes())]

    def notes(self) -> list[str]:
        """What a run also says at its start."""
        return _found(
            self._masks_as_a_class(),
            self.cut_images,
            self._unequal_classes(),
            self._trained_and_validated(),
            self._learned_and_tested(),
            self.test_problem,
        )

    def counted(self) -> list[str]:
        """What the labels alone show."""
        return _found(self._masks_as_a_class(), self._unequal_classes(), self._small_classes(), self.test_problem)

    def _masks_as_a_class(self) -> str | None:
        names = set(self.class_names)
        masks = [name for name in LIKE_MASKS if name in names]
        if isinstance(self.train, MaskedImages) or IMAGES not in names or not masks:
            return None
        rename = "" if masks[0] == MASKS else f"call the folder {MASKS!r} and "
        return (
            f"two classes are called {IMAGES!r} and {masks[0]!r}: if these are images with their masks, {rename}write "
            "task.kind: segmentation and task.data.labels: masks"
        )

    def _unequal_classes(self) -> str | None:
        if isinstance(self.train, MaskedImages):  # most images have a background
            return None
        counts = dict(zip(self.class_names, self.train.counts(len(self.class_names)), strict=True))
        largest, smallest = max(counts, key=counts.__getitem__), min(counts, key=counts.__getitem__)
        most, fewest = counts[largest], counts[smallest]
        if most <= MOST_UNEQUAL * fewest:
            return None
        ratio = f"{most / fewest:.1f} to 1" if fewest else "the latter has no training image"
        return (
            f"unequal classes in train: {largest!r} {most:,} images, {smallest!r} {fewest:,} ({ratio}); an accuracy "
            f"can be high although {smallest!r} is never recognised: look at recall_min, and consider "
            "task.base.class_weights"
        )

    def _untrained_classes(self) -> str | None:
        if not isinstance(self.train, MaskedImages):
            return None
        return _without_pixels(self.class_names, self.train.present)

    def _trained_and_validated(self) -> str | None:
        copies = _copies(self.validation, self.train)
        if not copies:
            return None
        count = f"{len(copies)} of {len(self.validation.names)} validation images are also training images"
        return f"{count}, so every accuracy is too high: {some(copies)}"

    def _learned_and_tested(self) -> str | None:
        if self.test is None or not (copies := _copies(self.test, self.validation, self.train)):
            return None
        count = f"{len(copies)} of {len(self.test.names)} test images are also training or validation images"
        return f"{count}, so the accuracy on the test images is too high: {some(copies)}"

    def _two_labels(self) -> str | None:
        if isinstance(self.train, MaskedImages):
            return None
        labels: dict[str, dict[int, str]] = defaultdict(dict)
        for images in (self.train, self.validation):
            for label, sha256, name in zip(images.labels.tolist(), images.sha256s, images.names, strict=True):
                labels[sha256].setdefault(label, name)
        several = [
            ", ".join(f"{name} as {self.class_names[label]!r}" for label, name in by_label.items())
            for by_label in labels.values()
            if len(by_label) > 1
        ]
        return f"images with more than one label ({len(several)}): {some(several)}" if several else None

    def _small_classes(self) -> str | None:
        counts = self.validation.counts(len(self.class_names))
        small = {name: n for name, n in zip(self.class_names, counts, strict=True) if n < FEWEST_TO_JUDGE}
        if not small:
            return None
        listed = some(f"{name!r} {n}" for name, n in sorted(small.items(), key=lambda item: item[1]))
        return (
            f"too few validation images to judge {len(small)} of {len(counts)} classes: {listed}; with fewer than "
            f"{FEWEST_TO_JUDGE}, one image is more than {100 // FEWEST_TO_JUDGE} points of the accuracy of its class"
        )


def _counted(images: SplitImages, classes: int) -> SplitCounts:
    return SplitCounts(len(images.names), images.counts(classes), images.origin)


def review(spec: DataSpec) -> Review:
    """Read the whole data set, without storing anything.

    Raises `DataError` with every problem of the data.
    """
    if spec.source == "folder" and spec.has_masks:
        return _review_masked(survey_masked(spec, None), spec)
    if spec.source == "folder":
        return _review_folder(survey_folder(spec, None), spec)
    estimated = estimate(spec)
    skipped = skipped_samples(spec)
    if estimated.images > MOST_COMPARED:
        not_read = f"{_not_compared(estimated)}, nor were classes counted"
        return Review(estimated, None, [not_read, *_found(estimated.too_dark), *skipped])
    contents = _contents(spec, None)
    return Review(estimated, contents.layout(), [*contents.warnings(), *_found(estimated.too_dark), *skipped])


def notes(spec: DataSpec, cache_dir: Path) -> list[str]:
    """The lines that a run says at its start: unequal classes, and images on two sides. What was read of the images
    before is taken from `cache_dir`."""
    return _contents(spec, cache_dir).notes()


def notes_of_masks(images: ImageData) -> list[str]:
    """What a run also says of masks, once they are decoded.

    Args:
        images: Any data set.

    Returns:
        Lines; none where it has no masks.

    Raises:
        DataError: The masks have too few classes to learn from.
    """
    if images.train.labels.ndim == 1:
        return []
    return _found(_without_pixels(images.class_names, present_in(images.train.labels)[:, : len(images.class_names)]))


def _without_pixels(class_names: Sequence[str], present: NDArray[np.bool_]) -> str | None:
    """The classes that no training mask has, by which are in each (masks, classes)."""
    seen = set(np.flatnonzero(present.any(axis=0)).tolist())
    absent = [f"{name!r} ({index})" for index, name in enumerate(class_names) if index not in seen]
    if not absent:
        return None
    line = f"no training mask has a pixel of {len(absent)} of {len(class_names)} classes: {some(absent)}"
    if len(seen) < 2:
        raise DataError(
            f"{line}; a model needs two classes to learn from. A mask has the index of the class of each pixel, which "
            f"stands behind its name here: write 1 for the second class, not {IGNORED}, which counts for nothing"
        )
    return f"{line}; no model learns them, and mean_iou leaves out a class that neither masks nor predictions have"


def _review_folder(survey: FolderSurvey, spec: DataSpec) -> Review:
    problems, is_small = Problems(str(survey.root)), len(survey.files) <= MOST_COMPARED
    decoded = decoded_files(survey.all_files, problems)
    if is_small:
        contents = _of_folder(survey, spec, problems)
        found = [*contents.warnings(), *_nearly_equal(contents, survey, decoded.pictures, spec)]
    else:
        problems.raise_any()
        contents = _of_folder(_without_copies(survey), spec)
        found = contents.counted()
    estimated = estimate_of_folder(survey)
    found += _shown(decoded, survey)
    not_read = [] if is_small else [_not_compared(estimated)]
    return Review(estimated, contents.layout(), [*not_read, *found, *skipped_files(survey, spec.group)])


def _review_masked(survey: MaskedSurvey, spec: DataSpec) -> Review:
    problems, files = Problems(str(survey.images.root)), survey.images.all_files
    decoded = decoded_files(files, problems)
    if len(problems):
        check_masks(filter(None, (survey.train, survey.validation, survey.test)), len(survey.class_names), problems)
    problems.raise_any()
    estimated = estimate_of_folder(survey.images)
    shown = _shown(decoded, survey.images)
    if estimated.images > MOST_COMPARED:
        not_read = f"{_not_compared(estimated)}, nor were classes counted"
        return Review(estimated, None, [*_found(not_read, _cut_images(survey.images)), *shown])
    contents = _of_masked(survey, spec)
    near = _nearly_equal(contents, survey.images, decoded.pictures, spec)
    return Review(estimated, contents.layout(), [*contents.warnings(), *near, *shown])


def _shown(decoded: Decoded, survey: FolderSurvey) -> list[str]:
    """What decoding has shown, besides damaged images."""
    brightest = {str(path.relative_to(survey.root)): most for path, most in decoded.brightest.items()}
    return _found(not_decoded(len(survey.all_files), len(decoded.pictures)), too_dark(brightest))


def _nearly_equal(
    contents: Contents, survey: FolderSurvey, pictures: Mapping[Path, Bytes], spec: DataSpec
) -> list[str]:
    """The line on nearly equal images, with the groups that keep them together where images are drawn."""
    by_name = {str(path.relative_to(survey.root)): picture for path, picture in pictures.items()}
    pairs = named_pairs(contents.train, contents.learned, contents.judging, by_name)
    if (line := pairs_text(pairs)) is None:
        return []
    if spec.group is not None or survey.validation is not None:
        return [line]
    paths = [Path(name).as_posix() for images in (contents.train, contents.validation) for name in images.names]
    drawn = [pair for role in ("validation", "holdout") for pair in pairs[role].names]
    pattern = group_of_pairs(paths, drawn) if drawn else None
    way = f"write in task.data: group: '{pattern}'" if pattern else "task.data.group keeps images of one thing together"
    return [f"{line}: {way}"]


def _without_copies(survey: FolderSurvey) -> FolderSurvey:
    """The survey as if no image were equal to another, so that its images are counted without reading them."""

    def numbered(split: str, part: FolderPart | None) -> FolderPart | None:
        return part and replace(part, sha256s=tuple(f"{split} {row}" for row in range(len(part.files))))

    train = numbered("train", survey.train) or survey.train
    validation, test = numbered("validation", survey.validation), numbered("test", survey.test)
    return replace(survey, train=train, validation=validation, test=test)


def _not_compared(estimated: DataEstimate) -> str:
    return (
        f"{estimated.images:,} images were not compared (this check reads up to {MOST_COMPARED:,}): there may be "
        "training images among the validation images"
    )


def _contents(spec: DataSpec, cache_dir: Path | None) -> Contents:
    if spec.source == "folder" and spec.has_masks:
        return _of_masked(survey_masked(spec, cache_dir), spec)
    if spec.source == "folder":
        return _of_folder(survey_folder(spec, cache_dir), spec)
    return _of_builtin(spec) if is_builtin(spec.source) else _of_timm(spec, cache_dir)


def _of_folder(survey: FolderSurvey, spec: DataSpec, problems: Problems | None = None) -> Contents:
    folders, parts = survey.folders, survey_parts(survey, spec, problems)
    whole = "every folder of the root is a class" if survey.is_labelled else "all images below the root"
    train = whole if folders.train == folders.root else _folder(folders.train, survey)
    validation = _drawn(spec) if folders.validation is None else SplitOrigin(_folder(folders.validation, survey))
    return Contents(
        survey.names,
        _of_part(parts["train"], survey, SplitOrigin(train)),
        _of_part(parts["validation"], survey, validation),
        _of_part(survey.test.read(), survey, SplitOrigin(_folder(folders.test, survey)))
        if survey.test is not None and folders.test is not None
        else None,
        spec.holdout_images,
    )


def _of_masked(survey: MaskedSurvey, spec: DataSpec) -> Contents:
    folders, parts = survey.images.folders, survey.parts(spec)
    if survey.test is not None:
        parts["test"] = survey.test.read()
    where = {"train": folders.train, "validation": folders.validation, "test": folders.test}
    present = cache(lambda: survey.present(parts))

    def images(name: str) -> MaskedImages:
        part, folder = parts[name], where[name]
        origin = _drawn(spec) if folder is None else SplitOrigin(_folder(folder, survey.images))
        named = _of_part(part.images, survey.images, origin)
        return MaskedImages(lambda: present()[name], named.sha256s, named.names, origin, named.units)

    test = images("test") if "test" in parts else None
    return Contents(
        survey.class_names,
        images("train"),
        images("validation"),
        test,
        spec.holdout_images,
        cut_images=_cut_images(survey.images),
    )


def _cut_images(survey: FolderSurvey) -> str | None:
    """The images whose sides are cut off in the size that is stored, and how much of them."""
    size = survey.image_size
    cut = {file: share for file in survey.files if (share := size.cut_share(file.height, file.width)) > MOST_CUT}
    if not cut:
        return None
    seen = [f"{file.path.relative_to(survey.root)} is {file.height}x{file.width}" for file in cut]
    pixels = f"{100 * sum(cut.values()) / len(cut):.0f} % of their pixels"
    return (
        f"{len(cut)} of {len(survey.files)} images have another shape than {size.height}x{size.width} (height x "
        f"width), in which they are stored: {pixels}, and of their masks, are cut off at the sides ({some(seen)}). "
        "For whole images give space.resolution their shape, and task.data.image_size if it is set"
    )


def _folder(folder: Path, survey: FolderSurvey) -> str:
    return f"folder {folder.relative_to(survey.root).as_posix()}"


def _drawn(spec: DataSpec) -> SplitOrigin:
    of_class = " of each class" if spec.is_labelled else ""
    share = f"{100 * spec.validation_share:.3g} % of the images{of_class}"
    whole = "" if spec.group is None else " in whole groups"
    source = f"{share}, drawn{whole} with seed {spec.seed}; train has the others"
    return SplitOrigin(source, spec.validation_share, spec.seed)


def _of_part(part: FolderPart, survey: FolderSurvey, origin: SplitOrigin) -> Images:
    names = [str(file.path.relative_to(survey.root)) for file in part.files]
    return Images(part.labels, part.sha256s, names, origin, part.units)


def _of_timm(spec: DataSpec, cache_dir: Path | None) -> Contents:
    survey = survey_timm(spec, cache_dir)
    origin = {name: SplitOrigin(f"from {part.split.where}") for name, part in survey.parts.items()}
    if survey.splits.validation is None:
        origin["validation"] = _drawn(spec)
    sides = {name: _of_rows(part, origin[name]) for name, part in survey.parts.items()}
    test, problem = None, None
    try:
        part = test_part(spec, survey, cache_dir)
        test = None if part is None else _of_rows(part, SplitOrigin(f"from {part.split.where}"))
    except DataError as error:  # the search does not need them, and they may be on another machine
        problem = f"there are no test images to judge a finished model by: {error}"
    return Contents(survey.class_names, sides["train"], sides["validation"], test, spec.holdout_images, problem)


def _of_rows(part: SplitPart, origin: SplitOrigin) -> Images:
    return Images(
        part.labels, part.sha256s, [f"image {row} of {part.split.where}" for row in part.rows.tolist()], origin
    )


def _of_builtin(spec: DataSpec) -> Contents:
    data = load_builtin(spec)
    splits = {"train": data.train, "validation": data.validation, "test": data.test}
    parts = {
        name: _of_split(name, split, SplitOrigin(ORIGINS[name])) for name, split in splits.items() if split is not None
    }
    return Contents(data.class_names, parts["train"], parts["validation"], parts.get("test"), spec.holdout_images)


def _of_split(name: str, split: Split, origin: SplitOrigin) -> SplitImages:
    sha256s = [hashlib.sha256(image.tobytes()).hexdigest() for image in split.images]
    names = [f"image {row} of {name}" for row in range(len(split))]
    if split.labels.ndim == 1:
        return Images(split.labels.astype(np.int64), sha256s, names, origin)
    return MaskedImages(partial(present_in, split.labels), sha256s, names, origin)


def _copies(images: SplitImages, *others: SplitImages) -> list[str]:
    """What of `images` is also among the `others`, with both names."""
    by_digest = {sha256: name for other in others for sha256, name in zip(other.sha256s, other.names, strict=True)}
    pairs = zip(images.sha256s, images.names, strict=True)
    return [f"{name} is {by_digest[sha256]}" for sha256, name in pairs if sha256 in by_digest]


def _found(*lines: str | None) -> list[str]:
    return [line for line in lines if line is not None]
