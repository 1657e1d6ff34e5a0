"""Headers and digests of image files, kept until a file's size or modification time changes."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from PIL import Image

from vitsearch.data.pixels import GREY, turned_size
from vitsearch.data.store import write_to_cache
from vitsearch_agent.base.canonical_json import digest

SCHEMA = 3  # raise it when the meaning of an entry changes
_TAIL = 256  # bytes


@dataclass(frozen=True)
class ImageFile:
    """`width` and `height` in pixels, of the image turned as its EXIF data says; `format` as its contents say, whatever
    its name ends in."""

    path: Path
    width: int
    height: int
    mode: str
    format: str

    @property
    def is_grey(self) -> bool:
        return self.mode in GREY


class HeaderCache:
    """Headers and digests of the image files of `folder`, stored in `cache_dir` when one is given."""

    def __init__(self, folder: Path, cache_dir: Path | None) -> None:
        self._folder = folder
        name = digest({"schema": SCHEMA, "folder": str(folder.resolve())})[:16]
        self._file = cache_dir / f"listing-{name}.json" if cache_dir is not None else None
        self._entries = self._load()
        self._seen: dict[str, list[Any]] = {}
        self._changed = False

    def header(self, path: Path) -> ImageFile:
        """Size and mode of an image file.

        Raises one of `UNREADABLE` for a file that is not an image or is cut short.
        """
        status = path.stat()
        name, stamp = self._name(path), [status.st_size, status.st_mtime_ns]
        entry = self._entries.get(name)
        if entry is None or entry[:2] != stamp:
            entry = [*stamp, *_read_header(path), None]
            self._changed = True
        self._seen[name] = entry
        return ImageFile(path, *entry[2:6])

    def sha256(self, file: ImageFile) -> str:
        """The digest of a file's bytes; `header` must have read the file before."""
        entry = self._seen[self._name(file.path)]
        if entry[6] is None:
            with file.path.open("rb") as stream:
                entry[6] = hashlib.file_digest(stream, "sha256").hexdigest()
            self._changed = True
        return str(entry[6])

    def save(self) -> None:
        """Store what was read, if anything changed."""
        if self._file is not None and self._changed:
            write_to_cache(self._file, json.dumps(self._seen).encode())

    def _name(self, path: Path) -> str:
        return path.relative_to(self._folder).as_posix()

    def _load(self) -> dict[str, list[Any]]:
        if self._file is None or not self._file.is_file():
            return {}
        try:
            return {name: entry for name, entry in json.loads(self._file.read_bytes()).items() if len(entry) == 7}
        except (ValueError, AttributeError, TypeError):
            return {}


def _read_header(path: Path) -> tuple[int, int, str, str]:
    with path.open("rb") as stream:
        with Image.open(stream) as image:
            header = *turned_size(image), image.mode, image.format or ""
            whole = _ends_well(stream, header[3])
        if not whole:  # the file may be cut short, which only decoding shows
            stream.seek(0)
            with Image.open(stream) as image:
                image.load()
    return header


def _ends_well(stream: BinaryIO, file_format: str) -> bool:
    """Whether the file ends as its format requires; `False` for formats without an end mark."""
    size = stream.seek(0, os.SEEK_END)
    stream.seek(max(0, size - _TAIL))
    tail = stream.read()
    if file_format == "JPEG":
        return b"\xff\xd9" in tail
    if file_format == "PNG":
        return b"IEND" in tail
    if file_format == "GIF":
        return tail.endswith(b";")
    return False
