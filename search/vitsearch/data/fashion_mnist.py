"""Fashion-MNIST (Xiao, Rasul, Vollgraf 2017; MIT): the committed subset and the full set.

Both have the same class names, normalisation and 2,000 validation images. The validation images are removed from the
official training set, so that a model trained on one set is judged fairly on the other.
"""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from vitsearch.core.image_size import ImageSize
from vitsearch.data.arrays import Bytes, Labels
from vitsearch.data.image_data import ImageData
from vitsearch.data.spec import DataSpec
from vitsearch.data.splits import Split
from vitsearch.errors import DataError

ASSETS = Path(__file__).parents[1] / "assets"
SUBSET_ASSET = ASSETS / "fashion_mnist_14k.npz"
LICENSE_ASSET = ASSETS / "FASHION_MNIST_LICENSE.txt"
DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")

CLASS_NAMES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
    "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
# Over the 58,000 official training images that are not validation images, of pixels in [0, 1].
MEAN, STD = (0.2860,), (0.3530,)
SIZE = ImageSize.square(28)
_IDX_UNSIGNED_BYTE = 8
ORIGINS = {
    "train": "from the official training images, without those of validation",
    "validation": "from the official training images",
    "test": "from the official test images",
}


def load_fashion_mnist(spec: DataSpec) -> ImageData:
    """Load `builtin:fashion-mnist-14k` or `builtin:fashion-mnist`; 3 channels repeat the grey one."""
    if spec.image_size not in (None, SIZE):
        raise DataError(
            f"data.image_size: {spec.image_size} cannot be used with {spec.source}, which has images of 28 pixels; "
            "leave the key out: a plan's resolution resizes the images"
        )
    channels = spec.channels or 1
    read: Callable[[str], Split] = subset_split
    if spec.source == "builtin:fashion-mnist":
        folder = find_full(Path(spec.root).expanduser() if spec.root else None)
        read = partial(full_split, folder)
    return ImageData(
        CLASS_NAMES,
        _repeated(read("train"), channels),
        _repeated(read("validation"), channels),
        MEAN * channels,
        STD * channels,
        partial(_read_repeated, read, "test", channels),
    )


def _repeated(split: Split, channels: int) -> Split:
    """The split with its grey channel repeated `channels` times, under the same digest."""
    images: Bytes = np.repeat(split.images, channels, axis=3) if channels > 1 else split.images
    return Split(images, split.labels, split.sha256)


def _read_repeated(read: Callable[[str], Split], name: str, channels: int) -> Split:
    return _repeated(read(name), channels)


def subset_split(name: str) -> Split:
    """Read `train` (10,000 images), `validation` (2,000) or `test` (2,000) of the committed subset."""
    with np.load(SUBSET_ASSET, allow_pickle=False) as arrays:
        return Split.of(arrays[f"{name}_images"][..., None], arrays[f"{name}_labels"].astype(np.int64))


def validation_index() -> Labels:
    """The indices of the validation images in the official training set, in the order in which they were drawn."""
    with np.load(SUBSET_ASSET, allow_pickle=False) as arrays:
        index: Labels = arrays["validation_index"].astype(np.int64)
        return index


def full_split(folder: Path, name: str) -> Split:
    """Read `train` (58,000 images), `validation` (the subset's 2,000) or `test` (10,000) of the full set."""
    if name == "test":
        return read_official(folder, "t10k")
    official, held_out = read_official(folder, "train"), validation_index()
    if name == "validation":
        return Split.of(official.images[held_out], official.labels[held_out])
    kept = np.setdiff1d(np.arange(len(official)), held_out)
    return Split.of(official.images[kept], official.labels[kept])


def read_official(folder: Path, prefix: str) -> Split:
    """Read the official files in `folder` that begin with `prefix`: `train` or `t10k`."""
    images = read_idx(_file(folder, f"{prefix}-images-idx3-ubyte"))
    labels = read_idx(_file(folder, f"{prefix}-labels-idx1-ubyte"))
    count = {"train": 60_000, "t10k": 10_000}[prefix]
    if images.shape != (count, 28, 28) or labels.shape != (count,):
        raise DataError(
            f"{folder}: the {prefix} files hold images of shape {images.shape} and labels of shape {labels.shape}; "
            f"Fashion-MNIST has ({count}, 28, 28) and ({count},)"
        )
    return Split.of(images[..., None], labels.astype(np.int64))


def read_idx(path: Path) -> Bytes:
    """Read an IDX file (the format of MNIST), plain or gzipped: a uint8 array in the shape that its header states.

    Format: two zero bytes, a type byte (8: unsigned byte), the number of dimensions, each dimension as a big-endian
    32-bit integer, then the values. Raises `DataError` when the file has another form or
    type, or is cut short.
    """
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    if len(raw) < 4 or raw[:2] != b"\0\0" or raw[2] != _IDX_UNSIGNED_BYTE:
        raise DataError(f"{path}: not an IDX file of unsigned bytes (it starts with {raw[:4]!r})")
    values_at = 4 + 4 * raw[3]
    if len(raw) < values_at:
        raise DataError(f"{path}: ends within its header, after {len(raw)} bytes")
    shape = tuple(int(size) for size in np.frombuffer(raw[4:values_at], dtype=">u4"))
    values = np.frombuffer(raw, dtype=np.uint8, offset=values_at)
    expected = int(np.prod(shape, dtype=np.int64))
    if values.size != expected:
        raise DataError(f"{path}: {values.size} values follow a header of {shape}, expected {expected}")
    return values.reshape(shape)


def find_full(root: Path | None, environment: Callable[[str], str | None] = os.environ.get) -> Path:
    """The folder that holds the four official files. The error message lists the folders that were searched."""
    folders = _folders(root, environment("VITSEARCH_DATA"))
    for folder in folders:
        if all(_exists(folder, name) for name in _FILES):
            return folder
    searched = "\n".join(f"  {folder}" for folder in folders)
    raise DataError(
        f"builtin:fashion-mnist: none of these folders holds the four files ({', '.join(_FILES)}, plain or .gz):\n"
        f"{searched}\n"
        "Install the Debian package dataset-fashion-mnist, or download the set with "
        "torchvision.datasets.FashionMNIST(DIR, download=True) and give DIR as `root` or in "
        "$VITSEARCH_DATA; or use builtin:fashion-mnist-14k, which is part of vitsearch."
    )


_FILES = (
    "train-images-idx3-ubyte", "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte",
)  # fmt: skip


def _folders(root: Path | None, data_folder: str | None) -> list[Path]:
    if root is not None:
        return _folders_below(root)
    folders = _folders_below(Path(data_folder).expanduser()) if data_folder else []
    return [*folders, DEBIAN_FOLDER]


def _folders_below(root: Path) -> list[Path]:
    return [root, root / "fashion-mnist", root / "FashionMNIST" / "raw"]


def _exists(folder: Path, name: str) -> bool:
    return (folder / name).is_file() or (folder / f"{name}.gz").is_file()


def _file(folder: Path, name: str) -> Path:
    plain = folder / name
    return plain if plain.is_file() else folder / f"{name}.gz"
