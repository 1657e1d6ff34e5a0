"""Locks that one process holds at a time, in files that say who holds them.

The kernel releases a lock when the process that holds it ends, however it ends. A file system without locks keeps
nobody out.
"""

import contextlib
import errno
import fcntl
import getpass
import json
import os
import socket
import time
from typing import IO, Any, Callable, Iterator, NamedTuple, Optional, Set

from vitsearch_agent.base.system import user_cache_folder

STATE = "lock"
"""The file in an agent's state folder that a running agent holds."""

_HELD = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)
_FULL = (errno.ENOSPC, errno.EDQUOT)
_POLL_S = 0.2


class Holder(NamedTuple):
    """The process that holds a lock, since when (local time), and what it does."""

    pid: int
    user: str
    host: str
    since: str
    work: str


def try_lock(path: str, work: str = "") -> Optional[IO[Any]]:
    """Take the lock of a file and return the open file, which releases it when it is closed; None if it is held.

    Creates the file, in a folder that must exist. `work` is for those who find the lock held. Raises OSError if the
    file cannot be written.
    """
    return _locked(path, fcntl.LOCK_EX, work)


def share_lock(path: str, work: str = "") -> Optional[IO[Any]]:
    """Take the lock of a file as `try_lock` does, together with others that share it; None if one process holds
    it alone."""
    return _locked(path, fcntl.LOCK_SH, work)


def _locked(path: str, operation: int, work: str) -> Optional[IO[Any]]:
    """The open file of a lock of this kind, `LOCK_EX` or `LOCK_SH`; None if it cannot be had now."""
    stream = open(path, "a+")  # noqa: SIM115 - stays open as long as the lock is held
    try:
        fcntl.flock(stream, operation | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _HELD:
            stream.close()
            return None
    return _signed(stream, work)


def _signed(stream: IO[Any], work: str) -> IO[Any]:
    """Write who holds a lock into its file. On a full disk it is held without a name: deleting needs the lock too."""
    try:
        stream.truncate(0)
        os.write(stream.fileno(), json.dumps(_this_process(work)._asdict()).encode())
    except OSError as error:
        if error.errno not in _FULL:
            stream.close()
            raise
    return stream


def holder(path: str) -> Optional[Holder]:
    """Return who holds the lock of a file, or has shared it last; None if nobody does, or if the holder has not written
    its name yet."""
    try:
        with open(path) as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                return Holder(**json.load(stream)) if error.errno in _HELD else None
    except (OSError, ValueError, TypeError):
        pass
    return None


def measuring_lock_path() -> str:
    """Return the lock that this user's measurements on this machine hold, in the user's cache folder.

    Its name contains the host, because several machines may share a home folder.
    """
    return os.path.join(user_cache_folder(), f"measuring-{socket.gethostname()}.lock")


@contextlib.contextmanager
def measuring_alone(
    path: str,
    work: str,
    is_stopped: Callable[[], bool] = lambda: False,
    on_wait: Callable[[Holder], None] = lambda holder: None,
) -> Iterator[None]:
    """Hold the lock `path` for the block; wait for those who hold it and call `on_wait` once with each of them.

    Those who want the lock take turns. The block runs without the lock once `is_stopped()`, and where the file cannot
    be written.
    """
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        lock = _take_turn(path, work, is_stopped, on_wait)
    except OSError:
        lock = None
    try:
        yield
    finally:
        if lock is not None:
            lock.close()


def _take_turn(
    path: str, work: str, is_stopped: Callable[[], bool], on_wait: Callable[[Holder], None]
) -> Optional[IO[Any]]:
    """Return the lock, None once stopped.

    Only the holder of a second lock waits for the first one. A process that has just measured and wants to measure
    again waits for that second lock, so it cannot overtake.
    """
    reported: Set[int] = set()

    def wait_for(wanted: str) -> Optional[IO[Any]]:
        while True:
            lock = try_lock(wanted, work)
            if lock is not None or is_stopped():
                return lock
            current = holder(path)
            if current is not None and current.pid not in reported:
                reported.add(current.pid)
                on_wait(current)
            time.sleep(_POLL_S)

    next_one = wait_for(path + ".next")
    if next_one is None:
        return None
    with next_one:
        return wait_for(path)


def user_name() -> str:
    """Return the name of this process's user, its number for an account without a name, as in some containers."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def _this_process(work: str) -> Holder:
    return Holder(os.getpid(), user_name(), socket.gethostname(), time.strftime("%Y-%m-%d %H:%M:%S"), work)
