"""Decoded images on disk: written image by image, replaced in one step, read through a memory map."""

from __future__ import annotations

import errno
import math
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vitsearch.data.arrays import Bytes
from vitsearch.errors import DataError
from vitsearch.storage.atomic_files import PART, replacing
from vitsearch.storage.locks import locked
from vitsearch_agent.base.canonical_json import digest

SCHEMA = 1  # raise it when decoding returns other pixels
MOST_IN_MEMORY = 2 * 10**9  # bytes; a larger set needs a cache folder
_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True)
class ArrayRequest:
    """Images to store: their shape (N, H, W, C) and the digests of the contents that they are decoded from."""

    shape: tuple[int, int, int, int]
    sha256s: Sequence[str]

    @property
    def bytes(self) -> int:
        return math.prod(self.shape)

    @property
    def file_name(self) -> str:
        return f"images-{digest({'schema': SCHEMA, 'shape': list(self.shape), 'files': list(self.sha256s)})}.npy"


Rows = Callable[[frozenset[str]], Iterable[tuple[str, Bytes]]]
"""`rows(names)` yields (name, image (H, W, C)) for every image of the arrays `names`; the images of one array come
in its order."""


def stored(wanted: Mapping[str, ArrayRequest], rows: Rows, cache_dir: Path | None) -> dict[str, Bytes]:
    """The arrays `wanted` by name: read-only maps of files in `cache_dir`, or arrays in memory without one.

    Calls `rows` only for arrays that are not stored yet. Of several processes one decodes and the others wait.
    Raises `DataError` when the disk is full or the images do not fit in memory.
    """
    if cache_dir is None:
        return _in_memory(wanted, rows)
    targets = {name: cache_dir / each.file_name for name, each in wanted.items()}
    cached = {name: images for name, path in targets.items() if (images := _mapped(path, wanted[name])) is not None}
    if len(cached) == len(wanted):
        return cached
    with full_disk_reported(cache_dir), _alone(cache_dir):
        # Two names may want the same images, but one file must have one writer.
        missing = {path: name for name, path in targets.items() if _mapped(path, wanted[name]) is None}
        _refuse_full(cache_dir, sum(wanted[name].bytes for name in missing.values()))
        if missing:
            _write({name: path for path, name in missing.items()}, wanted, rows)
    return {name: np.load(path, mmap_mode="r") for name, path in targets.items()}


def write_to_cache(path: Path, content: bytes) -> None:
    """Replace the file `path` in one step. Raises `DataError` when the disk is full."""
    with full_disk_reported(path.parent), replacing(path) as stream:
        stream.write(content)


@contextmanager
def full_disk_reported(folder: Path) -> Iterator[None]:
    """Raise `DataError` when a write in the block finds no space on the disk."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise DataError(f"{folder}: the disk is full; decoded images are stored in this folder") from error


def _in_memory(wanted: Mapping[str, ArrayRequest], rows: Rows) -> dict[str, Bytes]:
    size = sum(each.bytes for each in wanted.values())
    if size > MOST_IN_MEMORY:
        raise DataError(
            f"the decoded images take {size / 1e9:.1f} GB and no cache folder was given; "
            f"without one, at most {MOST_IN_MEMORY / 1e9:.1f} GB are held in memory"
        )
    arrays: dict[str, Bytes] = {name: np.empty(each.shape, dtype=np.uint8) for name, each in wanted.items()}
    slots = {name: iter(array) for name, array in arrays.items()}
    for name, row in rows(frozenset(wanted)):
        next(slots[name])[...] = row
    return arrays


def _mapped(path: Path, wanted: ArrayRequest) -> Bytes | None:
    """The stored array, or `None` when the file is missing, cut short or of another shape."""
    try:
        images: Bytes = np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError):
        return None
    return images if images.shape == wanted.shape and images.dtype == np.uint8 else None


def _write(targets: Mapping[str, Path], wanted: Mapping[str, ArrayRequest], rows: Rows) -> None:
    """Decode into files, as streams. Through a map, written pages would count as the process's memory until the system
    needs them, and a full disk would kill the process with a signal."""
    with ExitStack() as closing:
        streams = {name: closing.enter_context(replacing(path)) for name, path in targets.items()}
        for name, stream in streams.items():
            header = {"descr": "|u1", "fortran_order": False, "shape": wanted[name].shape}
            np.lib.format.write_array_header_1_0(stream, header)
        left = {name: wanted[name].shape[0] for name in targets}
        for name, row in rows(frozenset(targets)):
            streams[name].write(np.ascontiguousarray(row).data)
            left[name] -= 1
        if any(left.values()):
            raise DataError(
                f"{sum(left.values())} images fewer than before were read; did the files change during the reading?"
            )


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Let one process at a time decode into `folder`, and remove the incomplete files of killed ones.

    On a file system without locks several processes decode at once; each replaces the file by an equal one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / "decoding.lock") as is_alone:
        if is_alone:
            for left in folder.glob(f"images-*{PART}"):
                left.unlink(missing_ok=True)
        yield


def _refuse_full(folder: Path, size: int) -> None:
    free = shutil.disk_usage(folder).free
    if size > free:
        raise DataError(
            f"{folder}: the decoded images take {size / 1e9:.2f} GB, the disk has {free / 1e9:.2f} GB left; "
            "make room, or set a smaller data.image_size"
        )
