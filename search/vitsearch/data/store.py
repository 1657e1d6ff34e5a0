"""Decoded images on disk: written row by row, complete or not at all, read through a memory map."""

from __future__ import annotations

import errno
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from vitsearch.data.arrays import Bytes
from vitsearch.errors import DataError
from vitsearch.storage.locks import locked
from vitsearch_evaluators.base.canonical_json import digest

SCHEMA = 1  # raised when decoding changes what it returns
MOST_IN_MEMORY = 2 * 10**9  # bytes; sets that are larger are read from a file only
_FULL = (errno.ENOSPC, errno.EDQUOT)
_PART = ".part"


@dataclass(frozen=True)
class Wanted:
    """Images to be stored: their shape (N, H, W, C) and the digests of what they are decoded from."""

    shape: tuple[int, int, int, int]
    sha256s: Sequence[str]

    @property
    def bytes(self) -> int:
        return math.prod(self.shape)

    @property
    def file_name(self) -> str:
        return f"images-{digest({'schema': SCHEMA, 'shape': list(self.shape), 'files': list(self.sha256s)})}.npy"


Rows = Callable[[frozenset[str]], Iterable[tuple[str, Bytes]]]
"""``rows(names)``: every image (H, W, C) of the arrays ``names``, of each array in its order."""


def stored(wanted: Mapping[str, Wanted], rows: Rows, cache_dir: Path | None) -> dict[str, Bytes]:
    """The arrays ``wanted`` by name: read-only maps of files in ``cache_dir``, or in memory without it.

    ``rows`` is asked only for arrays that are not there yet; of several processes one decodes and the
    others wait. :class:`DataError` for a full disk and for what does not fit in memory.
    """
    if cache_dir is None:
        return _in_memory(wanted, rows)
    targets = {name: cache_dir / each.file_name for name, each in wanted.items()}
    found = {name: images for name, path in targets.items() if (images := _mapped(path, wanted[name])) is not None}
    if len(found) == len(wanted):
        return found
    with full_disk_told(cache_dir), _alone(cache_dir):
        # Two names may want the same images: a file has one writer.
        missing = {path: name for name, path in targets.items() if _mapped(path, wanted[name]) is None}
        _refuse_full(cache_dir, sum(wanted[name].bytes for name in missing.values()))
        if missing:
            _write({name: path for path, name in missing.items()}, wanted, rows)
    return {name: np.load(path, mmap_mode="r") for name, path in targets.items()}


def write_atomically(path: Path, content: bytes) -> None:
    """``path`` has ``content`` or what it had before; :class:`DataError` for a full disk."""
    with full_disk_told(path.parent), _replacing(path) as stream:
        stream.write(content)


@contextmanager
def full_disk_told(folder: Path) -> Iterator[None]:
    """Turns a write that finds no space into one :class:`DataError`."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise DataError(f"{folder}: the disk is full; the images are decoded into this folder") from error


def _in_memory(wanted: Mapping[str, Wanted], rows: Rows) -> dict[str, Bytes]:
    size = sum(each.bytes for each in wanted.values())
    if size > MOST_IN_MEMORY:
        raise DataError(
            f"the images take {size / 1e9:.1f} GB and no cache folder was given; "
            f"up to {MOST_IN_MEMORY / 1e9:.1f} GB are held in memory"
        )
    arrays: dict[str, Bytes] = {name: np.empty(each.shape, dtype=np.uint8) for name, each in wanted.items()}
    places = {name: iter(array) for name, array in arrays.items()}
    for name, row in rows(frozenset(wanted)):
        next(places[name])[...] = row
    return arrays


def _mapped(path: Path, wanted: Wanted) -> Bytes | None:
    """``None`` as well for a file that something else has cut short."""
    try:
        images: Bytes = np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError):
        return None
    return images if images.shape == wanted.shape and images.dtype == np.uint8 else None


def _write(targets: Mapping[str, Path], wanted: Mapping[str, Wanted], rows: Rows) -> None:
    """Written as a stream and not through a map: written pages of a map count as the process's memory
    until the system needs them, and a full disk would end the process by a signal."""
    with ExitStack() as closing:
        streams = {name: closing.enter_context(_replacing(path)) for name, path in targets.items()}
        for name, stream in streams.items():
            header = {"descr": "|u1", "fortran_order": False, "shape": wanted[name].shape}
            np.lib.format.write_array_header_1_0(stream, header)
        left = {name: wanted[name].shape[0] for name in targets}
        for name, row in rows(frozenset(targets)):
            streams[name].write(np.ascontiguousarray(row).data)
            left[name] -= 1
        if any(left.values()):
            raise DataError(f"{sum(left.values())} images fewer than before were read; did the files change meanwhile?")


@contextmanager
def _replacing(path: Path) -> Iterator[BinaryIO]:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f"{path.stem}-", suffix=_PART)
    try:
        with os.fdopen(handle, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(name, path)
    finally:
        Path(name).unlink(missing_ok=True)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One process at a time; what a killed one left half written is removed. A file system without
    locks lets several decode at once: each replaces the file by the same content."""
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / "decoding.lock") as is_alone:
        if is_alone:
            for left in folder.glob(f"images-*{_PART}"):
                left.unlink(missing_ok=True)
        yield


def _refuse_full(folder: Path, size: int) -> None:
    free = shutil.disk_usage(folder).free
    if size > free:
        raise DataError(
            f"{folder}: the decoded images take {size / 1e9:.2f} GB, the disk has {free / 1e9:.2f} GB left; "
            "make room, or set a smaller data.image_size"
        )
