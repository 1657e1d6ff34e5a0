"""Brings the ledger's tables to this version. Optuna owns the default version table; ours has its own.

Opening a database makes the tables where there are none. An older database is upgraded on request only: programs of
the older version no longer open it afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, inspect, text

from vitsearch.core.decoding import damaged
from vitsearch.core.decoding import shown as shown_value
from vitsearch.errors import StudyError
from vitsearch.storage.ledger.engine import connect, explained, shown

VERSION_TABLE = "vitsearch_version"
MIGRATIONS = Path(__file__).parent / "migrations"
_LOCK = 5_283_117_090
"""The number of PostgreSQL's advisory lock: two programs that start on an empty database make its tables in turn."""


@dataclass(frozen=True)
class Versions:
    """The version of some tables before and after an upgrade."""

    before: str | None
    """Version that was found; null where there were no tables."""
    after: str
    """Version now."""

    @property
    def is_change(self) -> bool:
        return self.before != self.after


@dataclass(frozen=True)
class Schema:
    """The version of some `tables` of a database (None: there are no tables), and the versions that this program
    knows, the newest first."""

    tables: str
    found: str | None
    known: tuple[str, ...]

    @property
    def newest(self) -> str:
        return self.known[0]

    def refuse_unknown(self, storage: str) -> None:
        """Raise `StudyError` for a database that a newer program made, or one too old to be upgraded."""
        if self.found is None or self.found in self.known:
            return
        where = f"storage {storage}: its tables of {self.tables} have version {self.found}, and this program"
        if self.found < self.known[-1]:
            raise StudyError(f"{where} reads none before {self.known[-1]}: run the study anew, in another database")
        raise StudyError(f"{where} knows versions up to {self.newest}: install a newer vitsearch")

    def refuse_older(self, storage: str) -> None:
        """Raise `StudyError`, with the command to run, for a database that an older program made."""
        if self.found not in (None, self.newest):
            raise StudyError(
                f"storage {storage}: its tables of {self.tables} have version {self.found}, and this program needs "
                f"version {self.newest}. Upgrade it, after which older programs cannot open it: "
                f"vitsearch db upgrade {storage}"
            )


class SchemaOfResults:
    """The version of the ledger's tables."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @classmethod
    def open(cls, url: str) -> SchemaOfResults:
        engine = connect(url)
        with explained(engine):
            engine.connect().close()
        return cls(engine)

    def close(self) -> None:
        self._engine.dispose()

    def now(self) -> Schema:
        with self._engine.connect() as connection:
            return _schema(connection)

    def has_trials(self) -> bool:
        """Whether the database has Optuna's tables."""
        return inspect(self._engine).has_table("alembic_version")

    def prepare(self) -> None:
        """Make the tables in a database that has none. One of another version is refused."""
        found = self.now()
        found.refuse_unknown(shown(self._engine))
        found.refuse_older(shown(self._engine))
        if found.found is None:
            self.upgrade()

    def require(self) -> None:
        """Raise `StudyError` unless the database has the tables of this version."""
        found, storage = self.now(), shown(self._engine)
        found.refuse_unknown(storage)
        found.refuse_older(storage)
        if found.found is None:
            raise StudyError(f"storage {storage} has no tables of results; start a study with 'vitsearch run SPACE'")

    def upgrade(self) -> Versions:
        """Make the tables, or bring them to this version. A database that a newer program made is refused."""
        with _alone(self._engine) as connection:
            found = _schema(connection)
            found.refuse_unknown(shown(self._engine))
            if found.found != found.newest:
                _run(connection)
            return Versions(found.found, found.newest)


def version_of_trials(engine: Engine) -> str | None:
    """The version of Optuna's tables; None where there are none. Optuna's own question leaves a connection open."""
    with engine.connect() as connection:
        return _version(connection, "alembic_version")


@contextmanager
def _alone(engine: Engine) -> Iterator[Connection]:
    """A transaction during which no other program makes or upgrades tables."""
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": _LOCK})
        else:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        yield connection


def _config(folder: Path) -> Config:
    config = Config()
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    return config


def _schema(connection: Connection) -> Schema:
    return Schema("results", _version(connection, VERSION_TABLE), _known(MIGRATIONS))


def _version(connection: Connection, table: str) -> str | None:
    """The only row of a table of versions; None where there is no table, or no row in it. Raises
    `Damaged` for anything else."""
    heads = MigrationContext.configure(connection, opts={"version_table": table}).get_current_heads()
    if len(heads) > 1 or not all(isinstance(one, str) for one in heads):
        found = ", ".join(map(shown_value, heads))
        raise damaged(f"storage {shown(connection.engine)}: {table}", f"it has {found}, allowed: one version")
    return heads[0] if heads else None


@cache
def _known(folder: Path) -> tuple[str, ...]:
    """The versions for which `folder` has scripts, the newest first."""
    revisions = ScriptDirectory.from_config(_config(folder)).walk_revisions()
    return tuple(revision.revision for revision in revisions)


def _run(connection: Connection) -> None:
    config = _config(MIGRATIONS)
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
