"""The image files of a folder: which there are, of which class, size and mode; nothing is decoded."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from vitsearch.errors import DataError
from vitsearch_evaluators.canonical import digest

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
UNREADABLE = (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError)
_LISTED = 5
_GREY = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N")


@dataclass(frozen=True)
class ImageFile:
    """``sha256`` of the file's bytes; ``width`` and ``height`` in pixels, as it is stored."""

    path: Path
    sha256: str
    width: int
    height: int
    mode: str

    @property
    def is_grey(self) -> bool:
        return self.mode in _GREY


def scan_classes(folder: Path, cache_dir: Path | None) -> dict[str, list[ImageFile]]:
    """Files by class, classes and files by name; a class is a subfolder, its own subfolders included.

    What was read of a file is remembered in ``cache_dir`` as long as its size and modification time
    stay. :class:`DataError` for no class, a class without images and files that are no images.
    """
    paths = {entry.name: _images(entry) for entry in sorted(_folders(folder), key=lambda entry: entry.name)}
    empty = [name for name, files in paths.items() if not files]
    if not paths:
        raise DataError(f"{folder}: no class folders; one folder of images for each class is expected")
    if empty:
        raise DataError(
            f"{folder}: no images in {some([repr(name) for name in empty])}; remove empty class folders. "
            f"Image files end in {', '.join(SUFFIXES)}"
        )
    memory = _Memory(folder, cache_dir)
    files: dict[str, list[ImageFile]] = {}
    broken: list[str] = []
    for name, members in paths.items():
        files[name] = []
        for path in members:
            try:
                files[name].append(memory.read(path))
            except UNREADABLE as error:
                broken.append(f"{path}: {_reason(error)}")
    refuse_broken(folder, broken)
    memory.save()
    return files


def refuse_broken(folder: Path, broken: list[str]) -> None:
    """Raise :class:`DataError` that lists files which cannot be read, if there are any."""
    if broken:
        count = f"{len(broken)} file{'s' if len(broken) > 1 else ''}"
        lines = [*broken[:_LISTED], *([f"and {len(broken) - _LISTED} more"] if len(broken) > _LISTED else [])]
        raise DataError(f"{folder}: {count} cannot be read as images\n" + "\n".join(f"  {line}" for line in lines))


def some(values: Iterable[str]) -> str:
    """Up to five of ``values``, and how many more there are."""
    shown = list(values)
    more = f" and {len(shown) - _LISTED} more" if len(shown) > _LISTED else ""
    return ", ".join(shown[:_LISTED]) + more


def _reason(error: BaseException) -> str:
    # Pillow names the buffer in its message, a memory address that says nothing to a reader.
    return "not an image, or damaged" if "BytesIO" in str(error) else str(error) or type(error).__name__


def _folders(folder: Path) -> list[Path]:
    try:
        return [entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith(".")]
    except OSError as error:
        raise DataError(f"{folder}: cannot be read: {error.strerror or error}") from error


def _images(folder: Path) -> list[Path]:
    found = (path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    visible = (path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts))
    return sorted(visible, key=lambda path: path.relative_to(folder).as_posix())


class _Memory:
    """Digest and header of files that were read before, by name, size and modification time."""

    def __init__(self, folder: Path, cache_dir: Path | None) -> None:
        self._folder = folder
        name = digest(str(folder.resolve()))[:16]
        self._file = cache_dir / f"listing-{name}.json" if cache_dir is not None else None
        self._known: dict[str, list[Any]] = self._load()
        self._seen: dict[str, list[Any]] = {}

    def read(self, path: Path) -> ImageFile:
        status = path.stat()
        name, stamp = path.relative_to(self._folder).as_posix(), [status.st_size, status.st_mtime_ns]
        known = self._known.get(name)
        if known is None or known[:2] != stamp:
            content = path.read_bytes()
            with Image.open(io.BytesIO(content)) as image:
                known = [*stamp, hashlib.sha256(content).hexdigest(), *image.size, image.mode]
        self._seen[name] = known
        return ImageFile(path, *known[2:])

    def save(self) -> None:
        if self._file is not None and self._seen != self._known:
            write_atomically(self._file, json.dumps(self._seen).encode())

    def _load(self) -> dict[str, list[Any]]:
        if self._file is None or not self._file.is_file():
            return {}
        try:
            return dict(json.loads(self._file.read_bytes()))
        except ValueError:
            return {}


def write_atomically(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, suffix=".part")
    with os.fdopen(handle, "wb") as stream:
        stream.write(content)
    os.replace(name, path)
