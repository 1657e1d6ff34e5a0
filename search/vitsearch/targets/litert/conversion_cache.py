"""The last files that a converter wrote: a conversion takes ten seconds to minutes, and all precisions of a model start
from the same one."""

from __future__ import annotations

import hashlib
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

from vitsearch.storage.atomic_files import replacing

KEPT = 16


def program_digest(program: Path) -> str:
    """The sha256 of what a torch.export program (a zip archive) holds; the archive itself differs each time."""
    digest = hashlib.sha256()
    with zipfile.ZipFile(program) as archive:
        for name in sorted(archive.namelist()):
            inner = name.partition("/")[2]  # the first part is the name of the file
            digest.update(f"{inner}\0{archive.getinfo(name).file_size}\0".encode())
            digest.update(archive.read(name))
    return digest.hexdigest()


def cached(folder: Path, key: str, path: Path, make: Callable[[], None]) -> None:
    """Put the file of `key` at `path`: from `folder`, or by `make`, and then keep it there.

    `folder` keeps the `KEPT` files that were used last. Several processes may use it at once.
    """
    kept = folder / key
    try:
        shutil.copyfile(kept, path)
        os.utime(kept)
        return
    except FileNotFoundError:
        make()
    with path.open("rb") as source, replacing(kept) as copy:
        shutil.copyfileobj(source, copy)
    for old in sorted(folder.iterdir(), key=_used, reverse=True)[KEPT:]:
        old.unlink(missing_ok=True)


def _used(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:  # another process has dropped it
        return 0.0
