"""Files that somebody else may have put there: in the folder of a measured model, and in a bundle.

What has the name of a file may be a link to another file, a FIFO that blocks who opens it, or a device without an end.
"""

import contextlib
import errno
import os
import shutil
import stat
from typing import BinaryIO

_READ = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
_KINDS = (
    (stat.S_ISLNK, "a link"),
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)
_FICLONE = 0x40049409
"""Of ioctl_ficlone(2). Its number differs on some rare processors, where it is refused."""
_COPIED_AT_ONCE = 1 << 20


def open_plain(path: str, links: bool = False) -> BinaryIO:
    """Open a file for reading; OSError for everything else, also for a link unless `links` are followed."""
    status = os.stat(path) if links else os.lstat(path)
    _refuse_others(status, path)
    descriptor = os.open(path, _READ | (0 if links else _NO_LINK))
    try:
        _refuse_others(os.fstat(descriptor), path)  # another one may have come in between
    except OSError:
        os.close(descriptor)
        raise
    return open(descriptor, "rb")


def _refuse_others(status: os.stat_result, path: str) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = next((name for is_one, name in _KINDS if is_one(status.st_mode)), "no regular file")
        raise OSError(errno.EINVAL, f"it is {kind}", path)


def require_replaceable(path: str) -> None:
    """Raise OSError where an output cannot take the place of what is at `path`: a link, a FIFO, a device, a folder."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return
    _refuse_others(status, path)


def read_plain(path: str, most: int, links: bool = False) -> bytes:
    """Return the content of a file as `open_plain` opens it; OSError for one of more than `most` bytes."""
    with open_plain(path, links) as stream:
        content = stream.read(most + 1)
    if len(content) > most:
        raise OSError(errno.EFBIG, f"it has more than {most} bytes", path)
    return content


def create_plain(path: str) -> BinaryIO:
    """Create a file, for writing and reading, in the place of whatever has this name: a link is not followed."""
    clear(path)
    return open(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666), "w+b")


def copy_file(source: str, path: str) -> None:
    """Copy a file into the place of whatever is at `path`. Where the file system can, both share their blocks until one
    of them is written."""
    with open(source, "rb") as stream, create_plain(path) as copied:
        with contextlib.suppress(ImportError, OSError):  # most file systems cannot
            import fcntl

            fcntl.ioctl(copied.fileno(), _FICLONE, stream.fileno())
            return
        shutil.copyfileobj(stream, copied, _COPIED_AT_ONCE)


def clear(path: str) -> None:
    """Remove what is at `path`, if anything: a file, a link but not what it leads to, a folder with all in it."""
    if os.path.isdir(path) and not os.path.islink(path):
        remove_tree(path)
        return
    with contextlib.suppress(FileNotFoundError):
        os.remove(path)


def remove_tree(path: str) -> None:
    """Remove a folder with all in it, as far as this user can, however deep somebody has made it: in older Pythons
    `shutil.rmtree` ends with a RecursionError, and takes a file descriptor for each level. Follows no link."""
    with contextlib.suppress(RecursionError):
        shutil.rmtree(path, ignore_errors=True)
    if not os.path.lexists(path):
        return
    mark, waiting, moved = os.urandom(8).hex(), [path], 0
    while waiting:
        folder = waiting.pop()
        with contextlib.suppress(OSError):
            os.chmod(folder, 0o700)
            for entry in list(os.scandir(folder)):
                if entry.is_dir(follow_symlinks=False):
                    moved += 1
                    beside = os.path.join(path, f"{mark}-{moved}")
                    os.rename(entry.path, beside)
                    waiting.append(beside)
                else:
                    os.remove(entry.path)
            if folder != path:
                os.rmdir(folder)
    with contextlib.suppress(OSError):
        os.rmdir(path)
