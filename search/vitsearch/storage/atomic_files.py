"""Replace a file in one step: a reader finds the old content or the new content, never a part of either."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
PART = ".part"
"""Ending of the file that is written before it takes the place of the other one."""


@contextmanager
def replacing(path: Path, mode: int = 0o644) -> Iterator[BinaryIO]:
    """Open a new file beside `path`; when the block ends without an error, put it in the place of `path`.

    The content is on the disk before the replacement, so a crash leaves the old file. `mode` holds from the first
    byte on. Makes the folder where it is missing. An error in the block removes the new file; a killed process leaves
    it behind, under a name that ends in `PART`. Raises OSError when the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f"{path.stem}-", suffix=PART)
    try:
        with os.fdopen(handle, "wb") as stream:
            os.fchmod(stream.fileno(), mode)  # mkstemp gives 0600, which would keep other users' workers out
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def no_room(error: BaseException) -> str | None:
    """Why the disk takes nothing, when that is what `error` says: it is full or read-only. None for other errors."""
    if isinstance(error, OSError) and error.errno in UNWRITABLE:
        return f"{error.strerror}: {error.filename}" if error.filename else str(error.strerror)
    full = os.strerror(errno.ENOSPC)
    return full if full in str(error) else None  # safetensors has an error of its own
