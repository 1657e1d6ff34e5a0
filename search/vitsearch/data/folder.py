"""The user's own images in folders: ROOT/train and ROOT/val (and ROOT/test), or ROOT/CLASS alone.

Class order is by name. Where there is no validation folder, ``validation_share`` of each class is
held out: images are ranked by the sha256 of the seed and their content, so that a renamed or added
file moves no other one, and copies of one image stay on the same side.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from vitsearch.data.arrays import Bytes
from vitsearch.data.decode import decode_files
from vitsearch.data.image_data import ImageData
from vitsearch.data.scan import ImageFile, scan_classes, some
from vitsearch.data.spec import DataSpec
from vitsearch.data.splits import Split, digest_of_files
from vitsearch.errors import DataError

_VALIDATION_NAMES = ("val", "validation")
_STATISTICS_IMAGES = 2048

Classes = dict[str, list[ImageFile]]


def load_folder(spec: DataSpec, cache_dir: Path | None) -> ImageData:
    """The folder of ``spec.root``; :class:`DataError` for everything that makes it no data set."""
    root = Path(spec.root or "").expanduser()
    if not root.is_dir():
        raise DataError(f"data.root: {root} is not a folder")
    train, validation = _scanned(root, spec, cache_dir)
    names = tuple(train)
    if len(names) < 2:
        raise DataError(f"{root}: only one class, {names[0]!r}; at least 2 are needed")
    _refuse_unknown_classes(root, "validation", validation, names)
    files = [file for members in (*train.values(), *validation.values()) for file in members]
    size, channels = spec.image_size or _common_size(root, files), spec.channels or _channels(files)
    read = partial(_split, names=names, image_size=size, channels=channels, root=root, cache_dir=cache_dir)
    split = read(train)
    mean, std = _statistics(split.images)
    read_test = None
    if (root / "train").is_dir() and (root / "test").is_dir():
        read_test = partial(_test, root, names, size, channels, cache_dir)
    return ImageData(names, split, read(validation), mean, std, read_test)


def _scanned(root: Path, spec: DataSpec, cache_dir: Path | None) -> tuple[Classes, Classes]:
    parts = [root / name for name in _VALIDATION_NAMES if (root / name).is_dir()]
    if not (root / "train").is_dir():
        if parts:
            raise DataError(f"{root}: has {parts[0].name!r} but no 'train'")
        return _held_out(root, scan_classes(root, cache_dir), spec)
    if not parts:
        return _held_out(root, scan_classes(root / "train", cache_dir), spec)
    if len(parts) > 1:
        raise DataError(f"{root}: has both 'val' and 'validation'; keep one")
    return scan_classes(root / "train", cache_dir), scan_classes(parts[0], cache_dir)


def _held_out(root: Path, classes: Classes, spec: DataSpec) -> tuple[Classes, Classes]:
    train: Classes = {}
    validation: Classes = {}
    for name, files in classes.items():
        contents = sorted({file.sha256 for file in files}, key=lambda sha256: _rank(spec.seed, sha256))
        if len(contents) < 2:
            raise DataError(
                f"{root}: class {name!r} has {len(contents)} different image; at least 2 are needed, "
                "one to train on and one to validate on"
            )
        count = min(max(round(len(contents) * spec.validation_share), 1), len(contents) - 1)
        chosen = set(contents[:count])
        train[name] = [file for file in files if file.sha256 not in chosen]
        validation[name] = [file for file in files if file.sha256 in chosen]
    return train, validation


def _rank(seed: int, sha256: str) -> str:
    return hashlib.sha256(f"{seed}:{sha256}".encode("ascii")).hexdigest()


def _split(
    classes: Classes, names: Sequence[str], image_size: int, channels: int, root: Path, cache_dir: Path | None
) -> Split:
    files = [file for members in classes.values() for file in members]
    labels = np.array([names.index(name) for name, members in classes.items() for _ in members], dtype=np.int64)
    images = decode_files(files, image_size, channels, root, cache_dir)
    return Split(images, labels, digest_of_files([file.sha256 for file in files], labels))


def _test(root: Path, names: tuple[str, ...], image_size: int, channels: int, cache_dir: Path | None) -> Split:
    classes = scan_classes(root / "test", cache_dir)
    _refuse_unknown_classes(root, "test", classes, names)
    return _split(classes, names, image_size, channels, root, cache_dir)


def _refuse_unknown_classes(root: Path, part: str, classes: Classes, names: Sequence[str]) -> None:
    unknown = [repr(name) for name in classes if name not in names]
    if unknown:
        known = some(repr(name) for name in names)
        raise DataError(f"{root}: {part} has classes that train lacks: {some(unknown)}; train has {known}")


def _common_size(root: Path, files: list[ImageFile]) -> int:
    sizes = sorted({(file.width, file.height) for file in files})
    if len(sizes) == 1 and sizes[0][0] == sizes[0][1]:
        return sizes[0][0]
    seen = some(f"{width}x{height}" for width, height in sizes)
    raise DataError(
        f"data.image_size: missing, and the images of {root} are not all squares of one size ({seen}); "
        "set it, best to the largest resolution of the space"
    )


def _channels(files: list[ImageFile]) -> int:
    return 1 if all(file.is_grey for file in files) else 3


def _statistics(images: Bytes) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel of up to 2,048 evenly spaced images, in [0, 1]."""
    chosen = np.linspace(0, len(images) - 1, min(len(images), _STATISTICS_IMAGES)).astype(np.int64)
    sums = squares = np.zeros(images.shape[3])
    pixels = 0
    for start in range(0, len(chosen), 64):
        values = images[chosen[start : start + 64]].reshape(-1, images.shape[3]).astype(np.float64) / 255
        sums, squares, pixels = sums + values.sum(0), squares + (values**2).sum(0), pixels + len(values)
    mean = sums / pixels
    std = np.sqrt(np.maximum(squares / pixels - mean**2, 1e-6))
    return tuple(float(v) for v in np.round(mean, 4)), tuple(float(v) for v in np.round(std, 4))
