"""The image files of a folder: which there are and of which class. Nothing is decoded, every defect is collected."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from vitsearch.data.folders.headers import ImageFile, Memory
from vitsearch.data.pixels import UNREADABLE, reason
from vitsearch.data.problems import Defects, some

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")

Classes = dict[str, list[ImageFile]]


def scan_classes(folder: Path, memory: Memory, defects: Defects) -> Classes:
    """Files by class, classes and files by name; a class is a subfolder, its own subfolders included.

    To ``defects`` go: no class, a class without images, files that are no images or cannot be read,
    links that lead nowhere or in circles. Hidden files and those with other endings are passed over.
    """
    members = {entry.name: _images(entry, folder, defects) for entry in _class_folders(folder, defects)}
    if not members and not len(defects):
        loose = sum(entry.suffix.lower() in SUFFIXES for entry in folder.iterdir())
        seen = f"; {loose} image files lie directly in it" if loose else ""
        defects.add(f"{folder}: no class folders{seen}; one folder of images for each class is expected")
    empty = [name for name, paths in members.items() if not paths and not defects.has(folder / name)]
    if empty:
        there = sorted({path.suffix for name in empty for path in (folder / name).rglob("*") if path.suffix})
        others = f" (other files there: {some(there)})" if there else ""
        defects.add(
            f"{folder}: no images in {some(repr(name) for name in empty)}{others}; remove empty class folders. "
            f"Image files end in {', '.join(SUFFIXES)}"
        )
    return {name: list(_headers(paths, memory, defects)) for name, paths in members.items()}


def _class_folders(folder: Path, defects: Defects) -> list[Path]:
    return [path for path in _entries(folder, defects) if _is_folder(path, (folder.resolve(),), defects)]


def _images(folder: Path, parent: Path, defects: Defects) -> list[Path]:
    found = _walk(folder, (parent.resolve(), folder.resolve()), defects)
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def _walk(folder: Path, around: tuple[Path, ...], defects: Defects) -> Iterator[Path]:
    for path in _entries(folder, defects):
        if _is_folder(path, around, defects):
            yield from _walk(path, (*around, path.resolve()), defects)
        elif path.suffix.lower() in SUFFIXES and path.is_file():
            yield path


def _entries(folder: Path, defects: Defects) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        defects.broken(folder, error.strerror or str(error))
        return []


def _is_folder(path: Path, around: tuple[Path, ...], defects: Defects) -> bool:
    """A folder to go into: not one that links back to a folder around it, which would never end."""
    try:
        os.stat(path)
    except OSError as error:
        defects.broken(path, "a link that leads nowhere" if path.is_symlink() else error.strerror or str(error))
        return False
    if path.is_symlink() and path.is_dir() and path.resolve() in around:
        defects.broken(path, "a link to a folder around it")
        return False
    return path.is_dir()


def _headers(paths: list[Path], memory: Memory, defects: Defects) -> Iterator[ImageFile]:
    for path in paths:
        try:
            yield memory.header(path)
        except UNREADABLE as error:
            defects.broken(path, reason(error))
