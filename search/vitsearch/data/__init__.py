"""Labelled images: where they come from, how they are split, what tells one data set from another.

spec.py           DataSpec: what the space file says
image_data.py     ImageData: what the search sees; fingerprint; describe_difference
fashion_mnist.py  the two built-in sets           idx.py        their file format
folder.py         the user's own folders          scan.py       which files     headers.py   what they are
timm_source.py    every set that timm reads       timm_*.py     its splits, samples, labels and messages
holdout.py        images to judge by              sizes.py, statistics.py       of images
pixels.py         one image to uint8              store.py      many, decoded once, on disk
defects.py        all that is wrong, at once      estimate.py   memory and time, beforehand
tensors.py        uint8 arrays to torch (the only file here that imports torch)
"""

from __future__ import annotations

from pathlib import Path

from vitsearch.core.data_sources import SOURCES
from vitsearch.data.fashion_mnist import load_fashion_mnist
from vitsearch.data.folders.reader import load_folder
from vitsearch.data.image_data import ImageData, describe_difference
from vitsearch.data.spec import DataSpec
from vitsearch.data.splits import Split
from vitsearch.data.timm_sets.source import load_timm

__all__ = ["SOURCES", "DataSpec", "ImageData", "Split", "describe_difference", "load"]


def load(spec: DataSpec, cache_dir: Path | None = None) -> ImageData:
    """The data of ``spec``. Decoded images are kept in ``cache_dir`` and mapped from there; without
    it they are decoded into memory each time. Raises :class:`~vitsearch.errors.DataError`."""
    if spec.source.startswith("builtin:"):
        return load_fashion_mnist(spec)
    return load_folder(spec, cache_dir) if spec.source == "folder" else load_timm(spec, cache_dir)
