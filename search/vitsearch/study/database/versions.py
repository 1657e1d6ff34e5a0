"""The versions of the tables of a database: those of the results, and Optuna's beside them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from unittest.mock import patch

from optuna.storages import RDBStorage

from vitsearch.errors import StudyError
from vitsearch.storage.addresses import masked
from vitsearch.storage.ledger import (
    Schema,
    SchemaOfResults,
    Versions,
    engine_options,
    is_there,
    sqlite_file,
    version_of_trials,
)

_KNOWN: list[str] = []
"""The versions that this Optuna has scripts for, the newest first, once they were asked for."""


@dataclass(frozen=True)
class Upgraded:
    """What an upgrade has changed."""

    storage: str
    """The database, without its password."""
    results: Versions
    """The tables of results."""
    trials: Versions
    """Optuna's tables."""


def upgrade(storage: str) -> Upgraded:
    """Bring all tables of a database to the versions of this program; an empty database gets them.

    Raises `StudyError`, and changes nothing, for a SQLite file that does not exist and for a database that a
    newer program made.
    """
    file = sqlite_file(storage)
    if file is not None and not is_there(file):
        raise StudyError(f"storage {masked(storage)}: {file} does not exist")
    with closing(SchemaOfResults.open(storage)) as results:
        results.now().refuse_unknown(masked(storage))
        is_new = not results.has_trials()
        with _optuna(storage, is_new) as tables:
            found = schema_of(tables)
            found.refuse_unknown(masked(storage))
            if found.found != found.newest:
                with _without_logging_setup():
                    tables.upgrade()
        return Upgraded(masked(storage), results.upgrade(), Versions(None if is_new else found.found, found.newest))


def refuse_other_versions(tables: RDBStorage) -> None:
    """Raise `StudyError` where Optuna's tables are older or newer than this program."""
    found, storage = schema_of(tables), masked(tables.url)
    found.refuse_unknown(storage)
    found.refuse_older(storage)


def schema_of(tables: RDBStorage) -> Schema:
    """Which version Optuna's tables have."""
    return Schema("trials", version_of_trials(tables.engine), _known_to_optuna(tables))


def _known_to_optuna(tables: RDBStorage) -> tuple[str, ...]:
    """Optuna executes all of its scripts to tell, so it is asked once."""
    if not _KNOWN:
        _KNOWN.extend(tables.get_all_versions())
    return tuple(_KNOWN)


@contextmanager
def _without_logging_setup() -> Iterator[None]:
    """Keep Optuna's alembic from setting up logging: that disables every logger that exists in this process, and writes
    to standard error what it does."""
    with patch("logging.config.fileConfig"):
        yield


@contextmanager
def _optuna(storage: str, makes_tables: bool) -> Iterator[RDBStorage]:
    tables = RDBStorage(
        storage,
        engine_kwargs=engine_options(storage),
        skip_compatibility_check=True,
        skip_table_creation=not makes_tables,
    )
    try:
        yield tables
    finally:
        tables.remove_session()
        tables.engine.dispose()
