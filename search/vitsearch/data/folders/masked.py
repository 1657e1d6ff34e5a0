"""The user's own images with masks: ROOT/train/images with ROOT/train/masks, likewise ROOT/val and ROOT/test, or
ROOT/images with ROOT/masks; and ROOT/classes.txt, the name of a class in each line.

The mask of `images/a/b.jpg` is `masks/a/b.png`: as large as the image, and of each pixel the index of its class, in the
order of classes.txt, or 255 for a pixel that counts for nothing. The index is the number that is stored, whatever the
file's bits and palette make of it for the eye.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from vitsearch.core.data_sources import UNLABELLED
from vitsearch.core.image_size import ImageSize
from vitsearch.data.arrays import Bytes, Labels, Masks
from vitsearch.data.folders.decoded import decoded_files
from vitsearch.data.folders.headers import HeaderCache, ImageFile
from vitsearch.data.folders.layout import split_folders
from vitsearch.data.folders.reader import FolderPart, FolderSurvey, grouped_parts, present_parts
from vitsearch.data.folders.scan import scan_unlabelled
from vitsearch.data.holdout import held_out
from vitsearch.data.image_data import ImageData
from vitsearch.data.pixels import DEEP, UNREADABLE, decode_image, reason
from vitsearch.data.problems import Problems, some
from vitsearch.data.spec import DataSpec
from vitsearch.data.splits import Split, digest_of_files, first_rows
from vitsearch.data.statistics import common_size, mean_and_std
from vitsearch.data.store import ArrayRequest, stored
from vitsearch_agent.verify.segmentation import IGNORED

IMAGES, MASKS, CLASSES = "images", "masks", "classes.txt"
INDEXED = ("1", "L", "P")
"""Modes of files whose pixels are one number of up to 8 bits."""
STORED_MASKS = "masks 2"
"""Part of the key of decoded masks; another one when files are decoded to other indices."""
PNG = "PNG"
_HEADER_BYTES = 26  # of a PNG file up to its bits for a number and its type of colour
_GREY, _FULL = 0, 255


@dataclass(frozen=True)
class MaskedPart:
    """The images of a split, and their masks in the same order."""

    images: FolderPart
    masks: FolderPart

    def __len__(self) -> int:
        return len(self.images.files)

    def read(self) -> MaskedPart:
        """The same files with the digests of their contents."""
        return MaskedPart(self.images.read(), self.masks.read())

    def unread(self, rows: Labels) -> MaskedPart:
        """Some of the files, whose contents are not read yet."""
        return MaskedPart(self.images.unread(rows), self.masks.unread(rows))

    def of_rows(self, rows: Labels) -> MaskedPart:
        return MaskedPart(self.images.of_rows(rows), self.masks.of_rows(rows))


@dataclass(frozen=True)
class MaskedSurvey:
    """The contents of a folder with masks by the headers of its files. `images` are all of it but masks and classes;
    `validation` is None when it is held out of `train`, `test` when there are no test images."""

    images: FolderSurvey
    class_names: tuple[str, ...]
    train: MaskedPart
    validation: MaskedPart | None
    test: MaskedPart | None

    def parts(self, spec: DataSpec) -> dict[str, MaskedPart]:
        """The training and the validation images with the digests of their contents.

        Args:
            spec: It says which share of the training images validates where no folder does.

        Returns:
            By the name of the split.

        Raises:
            DataError: There are too few images to hold some out.
        """
        train = self.train.read()
        if self.validation is not None:
            return {"train": train, "validation": self.validation.read()}
        problems, images = Problems(str(self.images.root)), train.images
        none = np.zeros(len(train), np.int64)
        share, seed = spec.validation_share, spec.seed
        chosen = held_out(images.sha256s, none, (UNLABELLED,), share, seed, problems, images.groups)
        problems.raise_any()
        return {"train": train.of_rows(np.flatnonzero(~chosen)), "validation": train.of_rows(np.flatnonzero(chosen))}

    def present(self, parts: Mapping[str, MaskedPart]) -> dict[str, NDArray[np.bool_]]:
        """Look up which classes are in each image, of all splits at once, so that all problems are.

        Args:
            parts: Of this survey, by the name of the split.

        Returns:
            (images, classes) of each.

        Raises:
            DataError: Masks cannot be read, or have values that are no class.
        """
        problems, classes = Problems(str(self.images.root)), len(self.class_names)
        seen = {name: np.zeros((len(part), classes), dtype=bool) for name, part in parts.items()}
        for name, part in parts.items():
            for row, file in enumerate(part.masks.files):
                mask = _checked(file.path, None, classes, problems)
                if mask is not None:
                    values = np.unique(mask)
                    seen[name][row, values[values != IGNORED]] = True
        problems.raise_any()
        return seen


def is_masked(root: Path) -> bool:
    """Look whether a folder holds images with masks.

    Args:
        root: The folder.

    Returns:
        Whether it, or its folder of training images, has one of images and one of masks.
    """
    return any((folder / IMAGES).is_dir() and (folder / MASKS).is_dir() for folder in (root, root / "train"))


def survey_masked(spec: DataSpec, cache_dir: Path | None) -> MaskedSurvey:
    """Read the headers of all files below `spec.root`.

    Args:
        spec: Of a folder with masks.
        cache_dir: Where headers are kept; None for nowhere.

    Returns:
        What the folder holds.

    Raises:
        DataError: With all problems that these show.
    """
    folders = split_folders(spec)
    problems = Problems(str(folders.root))
    names = _class_names(folders.root / CLASSES, problems)
    read = partial(_part, cache_dir=cache_dir, problems=problems)
    train, validation, test = read(folders.train), read(folders.validation), read(folders.test)
    parts = present_parts({"train": train, "validation": validation, "test": test})
    if spec.group is not None and train is not None:
        images = {name: part.images for name, part in parts.items()}
        grouped = grouped_parts(images, folders.root, spec.group, problems)
        parts = {name: replace(part, images=grouped[name]) for name, part in parts.items()}
        train, validation, test = parts["train"], parts.get("validation"), parts.get("test")
    files = tuple(file for name, part in parts.items() if name != "test" for file in part.images.files)
    size = spec.image_size or common_size(((file.width, file.height) for file in files), problems)
    if len(problems):  # all is said at once, so what only decoding shows too
        decoded_files([file for part in parts.values() for file in part.images.files], problems)
        check_masks(parts.values(), len(names), problems)
    problems.raise_any()
    assert train is not None
    channels = spec.channels or (1 if all(file.is_grey for file in files) else 3)
    survey = FolderSurvey(
        folders,
        (UNLABELLED,),
        train.images,
        None if validation is None else validation.images,
        None if test is None else test.images,
        size,
        channels,
    )
    return MaskedSurvey(survey, names, train, validation, test)


def load_masked(spec: DataSpec, cache_dir: Path | None) -> ImageData:
    """Load the folder `spec.root` with its masks.

    Args:
        spec: Of a folder with masks.
        cache_dir: Where decoded images and masks are kept; None for memory.

    Returns:
        The data set.

    Raises:
        DataError: With all problems found.
    """
    survey = survey_masked(spec, cache_dir)
    splits = decode(survey.parts(spec), survey, cache_dir)
    mean, std = mean_and_std(splits["train"].images)
    read_test = None if survey.test is None else partial(_read_test, survey.test, survey, cache_dir)
    return ImageData(survey.class_names, splits["train"], splits["validation"], mean, std, read_test)


def decode(parts: Mapping[str, MaskedPart], survey: MaskedSurvey, cache_dir: Path | None) -> dict[str, Split]:
    """Decode images and masks to the size of the survey.

    Args:
        parts: By the name of the split, with the digests of their contents.
        survey: Of their folder.
        cache_dir: Where the arrays are kept; None for memory.

    Returns:
        By the name of the split.

    Raises:
        DataError: With all problems found.
    """
    size, channels = survey.images.image_size, survey.images.channels
    wanted = {}
    for name, part in parts.items():
        wanted[name] = ArrayRequest((len(part), *size.sides, channels), part.images.sha256s)
        wanted[f"{name} {MASKS}"] = ArrayRequest((len(part), *size.sides, 1), (STORED_MASKS, *part.masks.sha256s))

    def rows(names: frozenset[str]) -> Iterator[tuple[str, Bytes]]:
        problems = Problems(str(survey.images.root))
        for name, part in parts.items():
            for file in part.images.files if name in names else ():
                try:
                    yield name, decode_image(file.path, size, channels)
                except UNREADABLE as error:
                    problems.add_unreadable(file.path, reason(error))
            for file in part.masks.files if f"{name} {MASKS}" in names else ():
                mask = _checked(file.path, size, len(survey.class_names), problems)
                if mask is not None:
                    yield f"{name} {MASKS}", mask[..., None]
        problems.raise_any()

    arrays = stored(wanted, rows, cache_dir)
    return {
        name: Split(
            arrays[name],
            (masks := arrays[f"{name} {MASKS}"][..., 0]),
            digest_of_files(part.images.sha256s, masks),
            first_rows(part.images.sha256s),
            part.images.units,
        )
        for name, part in parts.items()
    }


def check_masks(parts: Iterable[MaskedPart], classes: int, problems: Problems) -> None:
    """Add what only decoding shows of the masks whose headers are fine."""
    for part in parts:
        for mask in part.masks.files:
            if mask.format == PNG and mask.mode in INDEXED:
                _checked(mask.path, None, classes or IGNORED, problems)  # without classes any index may be one


def _read_test(test: MaskedPart, survey: MaskedSurvey, cache_dir: Path | None) -> Split:
    return decode({"test": test.read()}, survey, cache_dir)["test"]


def _class_names(path: Path, problems: Problems) -> tuple[str, ...]:
    try:
        lines = path.read_text(encoding="utf-8-sig").rstrip().splitlines()  # editors write a byte order mark
    except (OSError, UnicodeDecodeError) as error:
        problems.add(f"{path.name}: {reason(error)}; it has the name of a class in each line, that of index 0 first")
        return ()
    names = tuple(line.strip() for line in lines)
    blank = [str(number) for number, name in enumerate(names, 1) if not name]
    if blank:
        problems.add(
            f"{path.name}: has no name in line {some(blank)}; line N names the class of index N - 1, so give it a name "
            "or remove it"
        )
        return tuple(filter(None, names))
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        problems.add(f"{path.name}: lists {some(map(repr, twice))} more than once")
    if not 2 <= len(names) <= IGNORED:
        problems.add(f"{path.name}: number of class names: {len(names)}; allowed: 2 to {IGNORED}")
    return names


def _part(folder: Path | None, cache_dir: Path | None, problems: Problems) -> MaskedPart | None:
    """The pairs of a split; what has no partner, or one of another size, is a problem."""
    if folder is None:
        return None
    missing = [name for name in (IMAGES, MASKS) if not (folder / name).is_dir()]
    if missing:
        problems.add(f"{folder}: has no folder {' and no folder '.join(map(repr, missing))}")
        return None
    caches = [HeaderCache(folder / name, cache_dir) for name in (IMAGES, MASKS)]
    images, masks = (
        _files(folder / name, cache, problems) for name, cache in zip((IMAGES, MASKS), caches, strict=True)
    )
    damaged = [problems.unreadable_below(folder / name) for name in (IMAGES, MASKS)]  # they are there
    bare = sorted(images.keys() - masks.keys() - damaged[1])
    alone = sorted(masks.keys() - images.keys() - damaged[0])
    _say(problems, folder, "images without a mask", [images[name] for name in bare])
    _say(problems, folder, "masks without an image", [masks[name] for name in alone])
    names = sorted(images.keys() & masks.keys())
    pairs = [(images[name], masks[name]) for name in names]
    other = [(image, mask) for image, mask in pairs if (mask.width, mask.height) != (image.width, image.height)]
    if other:
        seen = some(
            f"{mask.path.relative_to(folder)} is {mask.height}x{mask.width}, its image {image.height}x{image.width}"
            for image, mask in other
        )
        turned = " (height x width, each turned as its own EXIF data says)"
        problems.add(f"{folder}: masks of another size than their image ({len(other)}): {seen}{turned}")
    deep = [mask for _, mask in pairs if mask.format == PNG and mask.mode in DEEP]
    _say(problems, folder, "masks of 16 bits for a pixel; write 8", deep)
    other_format = [mask for _, mask in pairs if mask.format != PNG]
    _say(
        problems,
        folder,
        "masks in other files than PNG, which may not keep the indices of classes; write PNG",
        other_format,
    )
    colour = [mask for _, mask in pairs if mask.format == PNG and mask.mode not in (*INDEXED, *DEEP)]
    _say(
        problems,
        folder,
        "masks with several numbers for a pixel, such as a colour; write one, the index of its class",
        colour,
    )
    none = np.zeros(len(pairs), np.int64)
    return MaskedPart(
        FolderPart(tuple(image for image, _ in pairs), none, caches[0]),
        FolderPart(tuple(mask for _, mask in pairs), none, caches[1]),
    )


def _files(folder: Path, cache: HeaderCache, problems: Problems) -> dict[str, ImageFile]:
    """The image files of a folder by their path below it, without the ending."""
    files = scan_unlabelled(folder, cache, problems)[UNLABELLED]
    by_name: dict[str, ImageFile] = {}
    for file in files:
        name = file.path.relative_to(folder).with_suffix("").as_posix()
        if name in by_name:
            problems.add(f"{folder}: has both {by_name[name].path.name} and {file.path.name}; keep one")
        by_name[name] = file
    return by_name


def _say(problems: Problems, folder: Path, what: str, files: list[ImageFile]) -> None:
    if files:
        problems.add(f"{folder}: {what} ({len(files)}): {some(str(file.path.relative_to(folder)) for file in files)}")


def _checked(path: Path, size: ImageSize | None, classes: int, problems: Problems) -> Masks | None:
    """The mask of a file, of a size or as it is; None, and a problem, if it cannot be read, has other values than
    indices of classes, or no pixel that counts."""
    try:
        mask = decode_mask(path, size)
    except UNREADABLE as error:
        problems.add_unreadable(path, reason(error))
        return None
    wrong = [int(value) for value in np.unique(mask) if value >= classes and value != IGNORED]
    if wrong:
        named = f"0 to {classes - 1}, as {CLASSES} names {classes} classes"
        allowed = f"allowed: {named}, and {IGNORED} for pixels that count for nothing"
        if wrong == [classes]:
            allowed += f"; if {classes} is a class, {CLASSES} lacks its name"
        problems.add_unreadable(
            path, f"has the value{'s' if len(wrong) > 1 else ''} {some(map(str, wrong))}; {allowed}"
        )
    elif (mask == IGNORED).all():
        problems.add_unreadable(path, f"every pixel is {IGNORED}, so none counts; leave image and mask out")
        return None
    return None if wrong else mask


def decode_mask(path: Path, size: ImageSize | None) -> Masks:
    """Decode a mask.

    Args:
        path: A PNG file whose pixels are one number of up to 8 bits, which is read as it is stored.
        size: That of the result, cut and resized as the image is, by the nearest pixel; None for its own.

    Returns:
        uint8 (height, width).

    Raises:
        OSError: It cannot be read, or one of the other `UNREADABLE`.
    """
    with path.open("rb") as stream:  # a stream, as for images (pixels.py)
        spread = _spread(stream.read(_HEADER_BYTES))
        stream.seek(0)
        with Image.open(stream) as opened:
            seen = np.asarray(ImageOps.exif_transpose(opened)).astype(np.uint8)
    if (seen % spread).any():
        raise ValueError("its pixels are read in an unknown way; write 8 bits")
    values = Image.fromarray(seen // spread)
    if size is not None:
        values = ImageOps.fit(values, (size.width, size.height), Image.Resampling.NEAREST)
    return np.asarray(values, dtype=np.uint8)


def _spread(header: bytes) -> int:
    """What Pillow multiplies the numbers of a PNG file by: those of 2 and 4 bits without a palette are spread over the
    greys of 8, so 1 of 4 bits becomes 17."""
    bits, colour_type = header[-2:]
    return _FULL // (2**bits - 1) if colour_type == _GREY and bits in (2, 4) else 1
