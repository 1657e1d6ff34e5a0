"""The image files of a folder by class, or without classes. Nothing is decoded; every problem is collected."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from vitsearch.core.data_sources import UNLABELLED
from vitsearch.data.folders.headers import HeaderCache, ImageFile
from vitsearch.data.pixels import UNREADABLE, reason
from vitsearch.data.problems import Problems, some
from vitsearch.errors import DataError

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")

MOST_OTHERS = 100_000
"""A folder with more files and folders before its first image is refused: it is another one than was meant."""

Classes = dict[str, list[ImageFile]]


def scan_classes(folder: Path, cache: HeaderCache, problems: Problems) -> Classes:
    """The image files of each class, both sorted by name. A class is a subfolder with all folders below it.

    Adds to `problems`: a folder without classes, a class without images, files that are not images or cannot be
    read, links to nothing and links in a circle. Ignores hidden files and files with other endings. Raises `DataError`
    for a folder with more than `MOST_OTHERS` others before its first image.
    """
    members = {entry.name: _images(entry, folder, problems) for entry in _class_folders(folder, problems)}
    if not members and not len(problems):
        loose = sum(entry.suffix.lower() in SUFFIXES for entry in folder.iterdir())
        seen = f"; it directly holds {loose} image files" if loose else ""
        problems.add(
            f"{folder}: has no class folders{seen}; put the images of each class into a folder of its own. "
            "Where a single ONNX file is the only backbone, data.labels: none takes images without classes"
        )
    empty = [name for name, paths in members.items() if not paths and not problems.is_unreadable(folder / name)]
    if empty:
        there = sorted({path.suffix for name in empty for path in (folder / name).rglob("*") if path.suffix})
        others = f" (other files there: {some(there)})" if there else ""
        problems.add(
            f"{folder}: no images in {some(repr(name) for name in empty)}{others}; remove empty class folders. "
            f"Names of image files end in {', '.join(SUFFIXES)}"
        )
    return {name: list(_headers(paths, cache, problems)) for name, paths in members.items()}


def scan_unlabelled(folder: Path, cache: HeaderCache, problems: Problems) -> Classes:
    """All image files below a folder as those of one class, `UNLABELLED`; its folders mean nothing."""
    paths = _images(folder, folder, problems)
    if not paths and not problems.is_unreadable(folder):
        problems.add(f"{folder}: has no images. Names of image files end in {', '.join(SUFFIXES)}")
    return {UNLABELLED: list(_headers(paths, cache, problems))}


def _class_folders(folder: Path, problems: Problems) -> list[Path]:
    return [path for path in _entries(folder, problems) if _is_folder(path, (folder.resolve(),), problems)]


def _images(folder: Path, parent: Path, problems: Problems) -> list[Path]:
    files: list[Path] = []
    walk = _walk(folder, (parent.resolve(), folder.resolve()), problems)
    for others, path in enumerate(walk, 1):
        if path is not None:
            files.append(path)
        elif not files and others > MOST_OTHERS:
            raise DataError(
                f"{folder}: no image among its first {MOST_OTHERS:,} files and folders; name the folder that holds "
                "your images"
            )
    return sorted(files, key=lambda path: path.relative_to(folder).as_posix())


def _walk(folder: Path, around: tuple[Path, ...], problems: Problems) -> Iterator[Path | None]:
    """The images below a folder, and None for each other file and folder."""
    for path in _entries(folder, problems):
        if _is_folder(path, around, problems):
            yield None
            yield from _walk(path, (*around, path.resolve()), problems)
        else:
            yield path if path.suffix.lower() in SUFFIXES and path.is_file() else None


def _entries(folder: Path, problems: Problems) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        problems.add_unreadable(folder, error.strerror or str(error))
        return []


def _is_folder(path: Path, around: tuple[Path, ...], problems: Problems) -> bool:
    """Whether `path` is a folder to search. A link back to one of the folders `around` it would never end."""
    try:
        os.stat(path)
    except OSError as error:
        problems.add_unreadable(path, "a link to nothing" if path.is_symlink() else error.strerror or str(error))
        return False
    if path.is_symlink() and path.is_dir() and path.resolve() in around:
        problems.add_unreadable(path, "a link to a folder that contains it")
        return False
    return path.is_dir()


def _headers(paths: list[Path], cache: HeaderCache, problems: Problems) -> Iterator[ImageFile]:
    for path in paths:
        try:
            yield cache.header(path)
        except UNREADABLE as error:
            problems.add_unreadable(path, reason(error))
