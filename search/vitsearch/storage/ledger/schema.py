"""Makes the tables, and refuses those of another version.

Until there is a release, a database is read by the program that made it and by no other: one number stands for all of
its tables, and whoever changes a table raises it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine, insert, inspect, select, text

from vitsearch.core.decoding import damaged
from vitsearch.core.decoding import shown as shown_value
from vitsearch.errors import StudyError
from vitsearch.storage.ledger import tables
from vitsearch.storage.ledger.engine import connect, connect_to_read, explained, shown
from vitsearch.storage.ledger.outage import wait_for

VERSION = "0009"
_LOCK = 5_283_117_090
"""The number of PostgreSQL's advisory lock: two programs that start on an empty database make its tables in turn."""


def open_database(url: str, require: Callable[[Engine], None]) -> Engine:
    """Open a database, and make its tables where there are none; `require` looks at what is stored. Raises
    `StudyError` where another version of this program made them."""
    engine = connect(url)
    with explained(engine):
        make_tables(engine)
        require(engine)
    wait_for(engine)
    return engine


def open_database_to_read(url: str, require: Callable[[Engine], None]) -> Engine:
    """Open a database that stays as it is. Raises `StudyError` where it has no tables of this version."""
    engine = connect_to_read(url)
    with explained(engine):
        require_tables(engine)
        require(engine)
    wait_for(engine)
    return engine


def version_of(engine: Engine) -> str | None:
    """The version of the tables of a database; None where there are none. Raises
    `Damaged` where that is not one text."""
    with engine.connect() as connection:
        return _version(connection)


def refuse_other_version(engine: Engine) -> str | None:
    """The version of the tables, None where there are none. Raises `StudyError` where another version of this
    program made them."""
    return _of_this_program(engine, version_of(engine))


def require_tables(engine: Engine) -> None:
    """Raise `StudyError` unless the database has the tables of this version."""
    if refuse_other_version(engine) is None:
        raise StudyError(f"storage {shown(engine)} has no tables of results; start a study with 'vitsearch run SPACE'")


def make_tables(engine: Engine) -> bool:
    """Make the tables in a database that has none, in one transaction; whether it had none. Raises
    `StudyError` where another version of this program made them."""
    if refuse_other_version(engine) is not None:
        return False
    with _alone(engine) as connection:
        if _of_this_program(engine, _version(connection)) is not None:
            return False
        tables.metadata.create_all(connection)
        connection.execute(insert(tables.version).values(version_num=VERSION))
    return True


def _of_this_program(engine: Engine, version: str | None) -> str | None:
    if version is not None and version != VERSION:
        made_by = "a newer" if version > VERSION else "an older"
        raise StudyError(
            f"storage {shown(engine)}: its tables have version {version}, of {made_by} vitsearch, and this one reads "
            f"version {VERSION} only: install that one, or run the study anew in another database"
        )
    return version


@contextmanager
def _alone(engine: Engine) -> Iterator[Connection]:
    """A transaction during which no other program makes tables."""
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": _LOCK})
        else:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        yield connection


def _version(connection: Connection) -> str | None:
    if not inspect(connection).has_table(tables.version.name):
        return None
    versions = connection.execute(select(tables.version.c.version_num)).scalars().all()
    if len(versions) > 1 or not all(isinstance(each, str) for each in versions):
        listed = ", ".join(map(shown_value, versions))
        raise damaged(
            f"storage {shown(connection.engine)}: {tables.version.name}", f"it has {listed}, allowed: one version"
        )
    return versions[0] if versions else None
