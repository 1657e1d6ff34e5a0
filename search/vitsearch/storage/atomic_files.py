"""Replace a file in one step: a reader finds the old content or the new content, never a part of either."""

from __future__ import annotations

import errno
import os
import secrets
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

    The content is on the disk before the replacement, so a crash leaves the old file. `mode`, without what the umask
    takes away, holds from the first byte on. Makes the folder where it is missing. An error in the block removes the
    new file; a killed process leaves it behind, under a name that ends in `PART`. Raises OSError when the file cannot
    be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.stem}-{secrets.token_hex(8)}{PART}")
    handle = os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode)  # mkstemp would keep other users' workers out
    try:
        with os.fdopen(handle, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def no_room(error: BaseException) -> str | None:
    """Why the disk takes nothing, when that is what `error` says: it is full or read-only. None for other errors."""
    if isinstance(error, OSError) and error.errno in UNWRITABLE:
        return f"{error.strerror}: {error.filename}" if error.filename else str(error.strerror)
    full = os.strerror(errno.ENOSPC)
    return full if full in str(error) else None  # safetensors has an error of its own
