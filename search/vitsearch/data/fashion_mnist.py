"""Fashion-MNIST (Xiao, Rasul, Vollgraf 2017; MIT): the committed subset and the full set.

Both share class names, normalisation and the same 2,000 validation images, which are taken out of
the official training set, so that a model that was trained on one is judged fairly on the other.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from vitsearch.data.arrays import Bytes, Labels
from vitsearch.data.idx import read_idx
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
# Of the 58,000 official training images that are not validation images, in units of 255.
MEAN, STD = (0.2860,), (0.3530,)


def load_fashion_mnist(spec: DataSpec) -> ImageData:
    """``builtin:fashion-mnist-14k`` or ``builtin:fashion-mnist``; with 3 channels the grey is repeated."""
    if spec.image_size not in (None, 28):
        raise DataError(
            f"data.image_size: {spec.image_size}; {spec.source} has images of 28 pixels, "
            "leave it out: a plan's resolution resizes them"
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
    """The same split, named as before, with its grey channel ``channels`` times."""
    images: Bytes = np.repeat(split.images, channels, axis=3) if channels > 1 else split.images
    return Split(images, split.labels, split.sha256)


def _read_repeated(read: Callable[[str], Split], name: str, channels: int) -> Split:
    return _repeated(read(name), channels)


def subset_split(name: str) -> Split:
    """``train`` (10,000), ``validation`` (2,000) or ``test`` (2,000) of the committed subset."""
    with np.load(SUBSET_ASSET, allow_pickle=False) as arrays:
        return Split.of(arrays[f"{name}_images"][..., None], arrays[f"{name}_labels"].astype(np.int64))


def validation_index() -> Labels:
    """Where the validation images stand in the official training set, as drawn."""
    with np.load(SUBSET_ASSET, allow_pickle=False) as arrays:
        index: Labels = arrays["validation_index"].astype(np.int64)
        return index


def full_split(folder: Path, name: str) -> Split:
    """``train`` (58,000), ``validation`` (the subset's 2,000) or ``test`` (10,000) of the full set."""
    if name == "test":
        return read_official(folder, "t10k")
    official, held_out = read_official(folder, "train"), validation_index()
    if name == "validation":
        return Split.of(official.images[held_out], official.labels[held_out])
    kept = np.setdiff1d(np.arange(len(official)), held_out)
    return Split.of(official.images[kept], official.labels[kept])


def read_official(folder: Path, prefix: str) -> Split:
    """``train`` or ``t10k`` of the official files in ``folder``."""
    images = read_idx(_file(folder, f"{prefix}-images-idx3-ubyte"))
    labels = read_idx(_file(folder, f"{prefix}-labels-idx1-ubyte"))
    count = {"train": 60_000, "t10k": 10_000}[prefix]
    if images.shape != (count, 28, 28) or labels.shape != (count,):
        raise DataError(
            f"{folder}: the {prefix} files hold images of {images.shape} and labels of {labels.shape}, "
            f"Fashion-MNIST has ({count}, 28, 28) and ({count},)"
        )
    return Split.of(images[..., None], labels.astype(np.int64))


def find_full(root: Path | None, environment: Callable[[str], str | None] = os.environ.get) -> Path:
    """The folder that holds the four official files; see the message for where it is looked for."""
    places = _places(root, environment("VITSEARCH_DATA"))
    for place in places:
        if all(_exists(place, name) for name in _FILES):
            return place
    looked = "\n".join(f"  {place}" for place in places)
    raise DataError(
        f"builtin:fashion-mnist: the four files ({', '.join(_FILES)}, plain or .gz) were found in none of\n"
        f"{looked}\n"
        "Install the Debian package dataset-fashion-mnist, or download the set with "
        "torchvision.datasets.FashionMNIST(DIR, download=True) and name DIR as `root` or in "
        "$VITSEARCH_DATA; or use builtin:fashion-mnist-14k, which is part of vitsearch."
    )


_FILES = (
    "train-images-idx3-ubyte", "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte",
)  # fmt: skip


def _places(root: Path | None, data_folder: str | None) -> list[Path]:
    if root is not None:
        return _inside(root)
    given = _inside(Path(data_folder).expanduser()) if data_folder else []
    return [*given, DEBIAN_FOLDER]


def _inside(root: Path) -> list[Path]:
    return [root, root / "fashion-mnist", root / "FashionMNIST" / "raw"]


def _exists(folder: Path, name: str) -> bool:
    return (folder / name).is_file() or (folder / f"{name}.gz").is_file()


def _file(folder: Path, name: str) -> Path:
    plain = folder / name
    return plain if plain.is_file() else folder / f"{name}.gz"
