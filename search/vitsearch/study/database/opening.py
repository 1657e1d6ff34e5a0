"""The studies of a database: opening their tables, and what is asked about all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TypeVar

from vitsearch.errors import StudyError
from vitsearch.storage.addresses import masked
from vitsearch.storage.ledger import (
    VERSION,
    Engine,
    Ledger,
    StudyTable,
    connect,
    delete_rows,
    explained,
    has_tables,
    is_there,
    make_tables,
    open_database,
    open_database_to_read,
    require_trials,
    sqlite_file,
)

T = TypeVar("T")

GRACE_S = 300
"""A trial that has given no sign of life for so long is lost."""


def open_studies(url: str) -> Engine:
    """Open the tables of studies, and make them where there are none; `StudyError` where another version of this
    program made them."""
    return open_database(url, require_trials)


def open_studies_to_read(url: str) -> Engine:
    """Open the tables of a database that stays as it is; `StudyError` where another version made them."""
    return open_database_to_read(url, require_trials)


@contextmanager
def closed_on_error(engine: Engine) -> Iterator[None]:
    """Close the database connections where the block fails."""
    try:
        yield
    except BaseException:
        engine.dispose()
        raise


def holds_studies(url: str) -> bool:
    """Whether a database has tables of this program, which are not made here."""
    return has_tables(url, "vitsearch_version")


@dataclass(frozen=True)
class Prepared:
    """A database with all tables."""

    storage: str
    """The database, without its password."""
    version: str
    """Version of its tables."""
    is_new: bool
    """Whether it had none."""


def prepare(storage: str) -> Prepared:
    """Make all tables in a database that has none, for who may not make tables themselves.

    Raises `StudyError`, and changes nothing, for a SQLite file that does not exist and for a database of another
    version of this program.
    """
    file = sqlite_file(storage)
    if file is not None and not is_there(file):
        raise StudyError(f"storage {masked(storage)}: {file} does not exist")
    return Prepared(masked(storage), VERSION, _with(connect(storage), make_tables))


def study_names(url: str) -> list[str]:
    """The studies of a database, which stays as it is."""
    if not holds_studies(url):
        return []
    return _with(open_studies_to_read(url), lambda engine: StudyTable(engine).names())


def delete_study(url: str, name: str) -> None:
    """Delete the trials and the runs of a study in one transaction. The results of its stages stay in the database."""
    with closing(Ledger.open(url)):
        _with(open_studies(url), lambda engine: delete_rows(engine, name))


def _with(engine: Engine, work: Callable[[Engine], T]) -> T:
    """What `work` makes of a database, which is closed afterwards."""
    with explained(engine):
        try:
            return work(engine)
        finally:
            engine.dispose()
