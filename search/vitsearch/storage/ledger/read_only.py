"""SQLite files that are only read: on a full disk, in a folder that cannot be written, of another user, during a run.

SQLite reads a database with a write-ahead log only where it may make the log's index (`-shm`) beside it, and leaves
that there. So how a file is opened depends on what lies beside it:

    log and index       a run is under way, or was killed: read with both, and the index is not written (readonly_shm)
    neither             nobody writes, and everything is in the file: read without locks (immutable)
    log without index   the file was copied with its log: both are read from a private copy

A run may begin at any time. So what lies beside the file is looked at again whenever a connection is used, and one that
has read the file itself refuses what it has read if the file has changed meanwhile.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import tempfile
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, event
from sqlalchemy.exc import InvalidatePoolError

from vitsearch.errors import StoreError, StudyError

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device file",
    stat.S_IFBLK: "a device file",
}
Stamp = tuple[int, int, int]
"""Of one state of a file: inode, bytes, time of the last change (ns)."""


def is_there(file: Path) -> bool:
    """Whether a database file exists. Raises `StudyError` where that cannot be seen, and for what is no file:
    to read a pipe never ends."""
    try:
        mode = os.stat(file).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "a path has no NUL character"
        raise StudyError(f"{_short(file)} cannot be opened: {reason}") from None
    if not stat.S_ISREG(mode):
        raise StudyError(f"{file} is {_KINDS.get(stat.S_IFMT(mode), 'no file')}, not a database")
    return True


def require_readable(file: Path) -> None:
    """Raise one clear `StudyError` unless a database can be read from `file`."""
    if not is_there(file):
        raise StudyError(f"{file} does not exist")
    if not os.access(file, os.R_OK):
        raise StudyError(f"{file} cannot be read: {os.strerror(13)}")
    if os.stat(file).st_size == 0:
        raise StudyError(f"{file} is empty, not a database; start a study with 'vitsearch run SPACE'")


class ReadOnlyConnection(sqlite3.Connection):
    """A connection that changes nothing, neither the file nor anything beside it."""

    seen: tuple[Any, ...] = ()
    read_from: Stamp | None = None
    """The state of the file where it is read without locks."""


def as_text(stored: bytes) -> str:
    """A text of a SQLite file. Bytes that are no text become another one: what is read is compared with its digest."""
    return str(stored, "utf-8", "replace")


def open_reader(file: Path) -> ReadOnlyConnection:
    """Open a SQLite file to read. Raises `StudyError` for what is none that can be read."""
    require_readable(file)
    file = file.resolve()
    seen = _seen(file)
    if seen[0] == "copied":
        reader = _of_copy(file)
    else:
        how = "immutable=1" if seen[0] == "whole" else "readonly_shm=1"
        reader = _connected(f"{file.as_uri()}?mode=ro&{how}")
    reader.seen = seen
    reader.read_from = None if seen[0] == "live" else seen[1]
    return reader


def watch(engine: Engine, file: Path) -> None:
    """Let the connections of `engine`, made by `open_reader`, follow what happens to the file."""
    file = file.resolve()

    @event.listens_for(engine, "checkout")
    def _follow(connection: ReadOnlyConnection, _record: Any, _proxy: Any) -> None:
        if connection.seen != _seen(file):
            raise InvalidatePoolError("the file has changed")  # SQLAlchemy opens it again

    @event.listens_for(engine, "checkin")
    def _compare(connection: ReadOnlyConnection | None, record: Any) -> None:
        if connection is None or connection.read_from in (None, _stamp(file)):
            return
        record.invalidate()
        raise StoreError(f"storage {engine.url} was written while it was read; run the same command again")


def _seen(file: Path) -> tuple[Any, ...]:
    """What lies beside a file, as far as it decides how to read it. The log is beside the file itself, not beside a
    link to it: `file` is no link."""
    log, index, database = _stamp(_beside(file, "-wal")), _stamp(_beside(file, "-shm")), _stamp(file)
    if log is not None and index is not None and database is not None:
        return "live", database[0], log[0], index[0]
    if log is not None and log[1]:
        return "copied", database, log
    return "whole", database


def _beside(file: Path, ending: str) -> Path:
    return Path(f"{file}{ending}")


def _stamp(file: Path) -> Stamp | None:
    try:
        stat = os.stat(file)
    except OSError:
        return None
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


def _connected(uri: str) -> ReadOnlyConnection:
    connection = sqlite3.connect(uri, uri=True, factory=ReadOnlyConnection, check_same_thread=False)
    connection.text_factory = as_text
    return connection


def _of_copy(file: Path) -> ReadOnlyConnection:
    """SQLite makes the index of the copy; the open connection needs no names of files."""
    try:
        with tempfile.TemporaryDirectory(prefix="vitsearch-") as folder:
            copy = Path(folder, "copy.db")
            shutil.copyfile(file, copy)
            shutil.copyfile(_beside(file, "-wal"), f"{copy}-wal")
            reader = _connected(copy.as_uri())
            reader.execute("SELECT count(*) FROM sqlite_master").fetchone()
            reader.execute("PRAGMA query_only=1")
            return reader
    except OSError as error:
        raise StoreError(
            f"{file} has a log (-wal) without its index, and can only be read from a copy in {tempfile.gettempdir()}: "
            f"{error.strerror}"
        ) from None


def _short(file: Path) -> str:
    text = str(file)
    return text if len(text) <= 80 else f"{text[:77]}..."
