"""One process at a time."""

from __future__ import annotations

import errno
import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)


@contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Wait until nobody else holds the lock file ``path``, which is made where it is missing; its folder must be
    there. Gives False on a file system that has no locks: then nobody waits for anybody.

    The lock ends with the process at the latest. Raises OSError when the file cannot be opened.
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
