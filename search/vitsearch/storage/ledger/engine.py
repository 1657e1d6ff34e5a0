"""Database connections: how SQLite and PostgreSQL are opened, and time as the database sees it."""

from __future__ import annotations

import os
import re
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import (
    Engine,
    ExceptionContext,
    Float,
    NullPool,
    create_engine,
    event,
    inspect,
    make_url,
)
from sqlalchemy.exc import ArgumentError, DBAPIError, InvalidatePoolError, NoSuchModuleError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.expression import FunctionElement

from vitsearch.errors import StoreError, StudyError
from vitsearch.storage.addresses import masked
from vitsearch.storage.ledger.json_text import from_database, to_database
from vitsearch.storage.ledger.read_only import as_text, is_there, open_reader, require_readable, watch

SQLITE_TIMEOUT_S = 60
IDLE_S = 5.0
"""A connection to a server that was not used for longer is tried first: the server may have closed it."""
NETWORK = {
    "connect_timeout": 10,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}
"""PostgreSQL's settings by which a machine that is gone is noticed within a minute; Linux waits a quarter of an hour.
In seconds, but the last one in milliseconds. A URL may have others."""
DAMAGED_STATES = ("XX001", "XX002", "42P01", "42703", "22021")
"""PostgreSQL's codes for a damaged page or index, a table or a column that is missing, and bytes that are no text."""
UNWRITABLE = ("database or disk is full", "readonly database", "disk I/O error", "could not extend file")
"""SQLite's and PostgreSQL's words for a full disk and a read-only one."""
NO_DATABASE = "file is not a database"
PASSING = ("locked", "busy", "interrupted", "unable to open")
"""SQLite's words for what is no fault of the file; all others, and types and texts that it cannot read, are damage."""


def connect(url: str) -> Engine:
    """An engine for `url`; makes the folder of a SQLite file. One clear `StudyError` otherwise."""
    if file := sqlite_file(url):
        make_folder(file.parent, url)
        _require_writable(file, url)
    engine = make_engine(url)
    tune(engine)
    return engine


def connect_to_read(url: str) -> Engine:
    """An engine for `url` that changes nothing: see `vitsearch.storage.ledger.read_only`. One clear
    `StudyError` where there is no database."""
    if file := sqlite_file(url):
        require_readable(file)
    engine = make_engine(url, to_read=True)
    tune_to_read(engine)
    return engine


def make_folder(folder: Path, url: str) -> None:
    """Make a folder for a database. Raises `StoreError` where it cannot be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"storage {masked(url)} cannot be written: {folder}: {error.strerror}") from None


def _require_writable(file: Path, url: str) -> None:
    """SQLite says of a folder without write permission only that it cannot open the file."""
    for path in (file.parent, file):
        if path.exists() and not os.access(path, os.W_OK):
            raise StoreError(f"storage {masked(url)} cannot be written: no permission to write {path}")


def make_engine(url: str, to_read: bool = False, **options: Any) -> Engine:
    """An engine that has opened nothing yet. One clear `StudyError` for what names no database."""
    if file := sqlite_file(url):
        is_there(file)  # refuses what is no file
    opening = read_options(url) if to_read else engine_options(url)
    try:
        return create_engine(url, json_serializer=to_database, json_deserializer=from_database, **opening, **options)
    except (ArgumentError, NoSuchModuleError, ImportError) as error:
        raise StudyError(
            f"storage {masked(url)}: no driver for this database ({error}); "
            "allowed: sqlite:///FILE, postgresql+psycopg://... (pip install 'vitsearch[postgresql]')"
        ) from None


@contextmanager
def explained(engine: Engine) -> Iterator[None]:
    """Raise what goes wrong in the block as one clear `StoreError`, and close the connections."""
    try:
        yield
    except DBAPIError as error:
        engine.dispose()
        raise StoreError(f"storage {shown(engine)} cannot be opened: {error.orig}") from error
    except (StoreError, StudyError):
        engine.dispose()
        raise


def shown(engine: Engine) -> str:
    """The URL of a database without its passwords."""
    return masked(engine.url.render_as_string(hide_password=True))


def sqlite_file(url: str) -> Path | None:
    """The file behind a SQLite URL; None for a database server."""
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise StudyError(
            f"storage {masked(url)!r} is not a database URL; allowed: sqlite:///FILE, postgresql+psycopg://..."
        ) from None
    return Path(parsed.database) if parsed.get_backend_name() == "sqlite" and parsed.database else None


def database_files(path: Path) -> list[Path]:
    """A SQLite file with its log and index."""
    return [file for file in (path, Path(f"{path}-wal"), Path(f"{path}-shm")) if file.exists()]


def files_folder(url: str) -> Path:
    """The folder of the files that a database names: `x.files` beside a SQLite file `x.db`, for a server
    `studies/HOST-DATABASE.files` below the current folder."""
    if file := sqlite_file(url):
        return file.with_suffix(".files")
    parsed = make_url(url)
    name = "-".join(part for part in (parsed.host, parsed.database) if part)
    return Path("studies") / f"{re.sub(r'[^A-Za-z0-9._-]', '_', name)}.files"


def engine_options(url: str) -> dict[str, Any]:
    """Keyword arguments for `create_engine`."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        return {"connect_args": {"timeout": SQLITE_TIMEOUT_S}}
    own = {name: value for name, value in NETWORK.items() if name not in parsed.query}
    return {"connect_args": own}


def read_options(url: str) -> dict[str, Any]:
    """The same for an engine that only reads; `tune_to_read` completes it."""
    file = sqlite_file(url)
    return engine_options(url) if file is None else {"creator": partial(open_reader, file)}


def at_once(engine: Engine) -> Engine:
    """The connections of `engine` for reads and single statements. A server ends each of them by itself, where a
    transaction takes two more messages."""
    if engine.dialect.name == "sqlite":
        return engine
    return engine.execution_options(isolation_level="AUTOCOMMIT")


def tune(engine: Engine) -> None:
    """SQLite: write-ahead log, and one sync per checkpoint instead of three per commit (about 5 times faster).
    A server: what was cut while nobody used it is replaced unseen.

    A database that takes nothing any more raises `StoreError`, and one whose tables are
    not ours `StudyError`.
    """
    _explain_errors(engine)
    if engine.dialect.name == "sqlite":
        _tune_sqlite(engine)
    else:
        _try_what_was_idle(engine)


def tune_to_read(engine: Engine) -> None:
    """The same for an engine that only reads."""
    _explain_errors(engine)
    file = sqlite_file(engine.url.render_as_string(hide_password=False))
    if file is None:
        _try_what_was_idle(engine)
    else:
        watch(engine, file)


def _explain_errors(engine: Engine) -> None:
    @event.listens_for(engine, "handle_error")
    def _explain(context: ExceptionContext) -> None:
        error = context.original_exception
        reason = str(error)
        if any(unwritable in reason for unwritable in UNWRITABLE):
            reason += " (is the disk full?)" if "I/O" in reason else ""
            reason += "; make room there, then run the same command again" if _is_full(reason) else ""
            raise StoreError(f"storage {shown(engine)} cannot be written: {reason}") from error
        if _is_damage(error):
            raise StudyError(f"storage {shown(engine)} {not_ours(reason)}") from error


def _is_full(reason: str) -> bool:
    return "disk is full" in reason or "extend file" in reason


def _is_damage(error: BaseException) -> bool:
    """Whether an error of a driver says that the database is not as it was written."""
    if isinstance(error, sqlite3.Error):
        is_of_file = isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.IntegrityError)
        return is_of_file and not any(word in str(error) for word in PASSING)
    if isinstance(error, UnicodeError):  # the name of a column in SQLite's own message is none any more
        return True
    return getattr(error, "sqlstate", None) in DAMAGED_STATES


def not_ours(reason: str) -> str:
    """The end of a sentence about a database that is not as this program has written it."""
    if NO_DATABASE in reason:
        return f"cannot be opened: {NO_DATABASE}"
    reason = " ".join(reason.split())[:300]
    return f"was damaged or edited: {reason}; restore a copy of it ('vitsearch db copy' makes one)"


def _tune_sqlite(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def _pragmas(connection: Any, _record: Any) -> None:
        connection.text_factory = as_text
        cursor = connection.cursor()
        _write_ahead(cursor)
        cursor.execute("PRAGMA synchronous=NORMAL")
        cursor.close()

    engine.dispose()


def _try_what_was_idle(engine: Engine) -> None:
    """SQLAlchemy's own `pool_pre_ping` tries each connection each time, which costs as much as a statement."""

    @event.listens_for(engine, "checkin")
    def _left(_connection: Any, record: Any) -> None:
        record.info["left_at"] = time.monotonic()

    @event.listens_for(engine, "checkout")
    def _try(connection: Any, record: Any, _proxy: Any) -> None:
        now = time.monotonic()
        if now - record.info.get("left_at", now) <= IDLE_S:
            return
        try:
            engine.dialect.do_ping(connection)
        except engine.dialect.loaded_dbapi.Error as error:
            raise InvalidatePoolError from error  # SQLAlchemy makes a new connection


def has_tables(url: str, *names: str) -> bool:
    """Whether a database has all of these tables. Nothing is written to it."""
    engine = make_engine(url, to_read=True, poolclass=NullPool)
    tune_to_read(engine)
    with explained(engine), engine.connect() as connection:
        inspected = inspect(connection)
        return all(inspected.has_table(name) for name in names)


def _write_ahead(cursor: sqlite3.Cursor) -> None:
    """Change to the write-ahead log. SQLite does not wait for others where it changes that, so this does."""
    deadline = time.monotonic() + SQLITE_TIMEOUT_S
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.05)


class database_now(FunctionElement[float]):
    """Seconds since 1970 by the database's clock: claims of several machines share one time."""

    type = Float()
    inherit_cache = True


@compiles(database_now, "sqlite")
def _sqlite_now(_element: Any, _compiler: Any, **_options: Any) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(database_now, "postgresql")
def _postgresql_now(_element: Any, _compiler: Any, **_options: Any) -> str:
    return "extract(epoch from clock_timestamp())"
