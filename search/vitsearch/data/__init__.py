"""Labelled images: sources, splits, and the fingerprint of a data set.

spec.py           DataSpec: the section task.data of a space file
image_data.py     ImageData: a data set as the search uses it; fingerprint; describe_difference
builtin.py        the built-in sets by name: fashion_mnist.py, and with masks fashion_mosaic.py
masks.py          what masks say of whole images
folders/          the user's own folders of images, and of images with masks
timm_sets/        every set that timm reads
splits.py         Split: images, labels and digest        holdout.py   choice of the images that are held out
groups.py         images that are held out together
pixels.py         decoding of one image to uint8          store.py     decoded images on disk
dark_files.py     files of 16 bits whose upper ones are empty
statistics.py     size, mean and deviation of images      estimate.py  memory and time of a data set, in advance
review.py         classes and splits, and warnings about data that judges badly        layout.py   both in words
near_duplicates.py  images that show nearly the same       leaks.py   which of them judge, and are learned
split_words.py    which names are those of splits, and which only look like them
problems.py       every problem of a data set, reported together
tensors.py        uint8 arrays to torch tensors (the only module here that imports torch)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from vitsearch.core.data_sources import SOURCES
from vitsearch.data.builtin import is_builtin, load_builtin
from vitsearch.data.folders.masked import load_masked
from vitsearch.data.folders.reader import load_folder
from vitsearch.data.image_data import ImageData, describe_difference
from vitsearch.data.spec import DataSpec
from vitsearch.data.splits import Split
from vitsearch.data.timm_sets.source import load_timm

__all__ = ["SOURCES", "DataSpec", "ImageData", "Split", "describe_difference", "licence", "load"]

FASHION_MNIST_LICENCE = "MIT; Fashion-MNIST, Zalando SE"


def load(spec: DataSpec, cache_dir: Path | None = None) -> ImageData:
    """Load the data set of `spec`.

    Decoded images are stored in `cache_dir` and mapped from there; without `cache_dir` every call decodes them into
    memory. Raises `DataError`.
    """
    return replace(_read(spec, cache_dir), holdout_images=spec.holdout_images)


def _read(spec: DataSpec, cache_dir: Path | None) -> ImageData:
    if is_builtin(spec.source):
        return load_builtin(spec)
    if spec.source != "folder":
        return load_timm(spec, cache_dir)
    return load_masked(spec, cache_dir) if spec.has_masks else load_folder(spec, cache_dir)


def licence(spec: Mapping[str, Any]) -> str | None:
    """The licence of the data set of a `DataSpec` in its JSON form, where it is known."""
    return FASHION_MNIST_LICENCE if is_builtin(str(spec["source"])) else None
