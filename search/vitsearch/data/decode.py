"""Image files to one uint8 array, decoded once and then read through a memory map."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from vitsearch.data.arrays import Bytes
from vitsearch.data.scan import UNREADABLE, ImageFile, refuse_broken
from vitsearch_evaluators.canonical import digest

SCHEMA = 1  # raised when decode_image changes what it returns


def decode_files(
    files: Sequence[ImageFile], image_size: int, channels: int, folder: Path, cache_dir: Path | None
) -> Bytes:
    """uint8 (N, image_size, image_size, channels) of ``files`` in their order.

    With ``cache_dir`` the array is a read-only map of a file there, named by the digests of the
    image files and the two settings; without it, it lives in memory. :class:`DataError` lists files
    that cannot be decoded; ``folder`` is named in it.
    """
    shape = (len(files), image_size, image_size, channels)
    if cache_dir is None:
        images = np.empty(shape, dtype=np.uint8)
        _fill(images, files, folder)
        return images
    key = digest({"schema": SCHEMA, "shape": list(shape), "files": [file.sha256 for file in files]})
    target = cache_dir / f"images-{key}.npy"
    if not target.is_file():
        _write(target, shape, files, folder)
    mapped: Bytes = np.load(target, mmap_mode="r")
    return mapped


def decode_image(path: Path, image_size: int, channels: int) -> Bytes:
    """uint8 (image_size, image_size, channels): turned as EXIF says, put on white where it is
    transparent, made grey or colour, shorter side resized to ``image_size`` (bicubic, antialiased),
    centre cropped. 16-bit images keep their upper 8 bits; of several frames the first is taken."""
    with Image.open(path) as opened:
        image = _flat(ImageOps.exif_transpose(opened), "L" if channels == 1 else "RGB")
    fitted = ImageOps.fit(image, (image_size, image_size), Image.Resampling.BICUBIC)
    return np.asarray(fitted, dtype=np.uint8).reshape(image_size, image_size, channels)


def _flat(image: Image.Image, mode: str) -> Image.Image:
    if image.mode == "F":
        raise ValueError("floating point images are not supported")
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert(mode)


def _fill(images: Bytes, files: Sequence[ImageFile], folder: Path) -> None:
    broken = []
    for index, file in enumerate(files):
        try:
            images[index] = decode_image(file.path, images.shape[1], images.shape[3])
        except UNREADABLE as error:
            broken.append(f"{file.path}: {error}")
    refuse_broken(folder, broken)


def _write(target: Path, shape: tuple[int, ...], files: Sequence[ImageFile], folder: Path) -> None:
    """Complete or not at all, also when several workers decode the same files at once."""
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, suffix=".part")
    os.close(handle)
    try:
        images = np.lib.format.open_memmap(name, mode="w+", dtype=np.uint8, shape=shape)
        _fill(images, files, folder)
        images.flush()
        os.replace(name, target)
    finally:
        Path(name).unlink(missing_ok=True)
