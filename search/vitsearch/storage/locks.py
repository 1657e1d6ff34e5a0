"""Let one process at a time into a block."""

from __future__ import annotations

import errno
import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)


@contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Wait for the lock on the file `path`, hold it for the block, and give True.

    Creates the file where it is missing; its folder must exist. Gives False on a file system without locks, where
    no process waits for another. The lock is released at the latest when the process ends. Raises OSError when the
    file cannot be opened.
    """
    with path.open("ab") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            yield False
        else:
            yield True
