"""Looks through a whole database for what is not as it was written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields

from sqlalchemy import Connection, Table, select

from vitsearch.errors import StudyError
from vitsearch.storage.ledger import tables
from vitsearch.storage.ledger.columns import require_results, require_trials
from vitsearch.storage.ledger.engine import connect_to_read, explained, shown
from vitsearch.storage.ledger.inventory import files_of
from vitsearch.storage.ledger.schema import require_tables
from vitsearch.storage.ledger.seals import MADE_AGAIN, SEALED, is_whole, key_of
from vitsearch.storage.ledger.trial_rows import TrialRow, is_as_written


@dataclass(frozen=True)
class Damage:
    """Something that is not as it was written."""

    place: str
    """The table, `files`, or `database` for what is of no single row."""
    key: str
    """Names the row or the file."""
    what: str
    """What is wrong."""
    made_again: bool
    """Whether the next run makes it again; else only a copy of the database has it."""


ANOTHER = "its digest is another: it was damaged or edited"


def damage_of(url: str, files: set[str]) -> Iterator[Damage]:
    """The damage of a database, which stays as it is. The digests of the files that its sound rows name are added to
    `files`, in place."""
    engine = connect_to_read(url)
    with explained(engine):
        require_tables(engine)
    try:
        for require in (require_results, require_trials):
            try:
                require(engine)
            except StudyError as error:
                yield Damage("database", "", str(error), False)
        for table in (*SEALED, tables.trial):
            try:
                with engine.connect() as connection:
                    yield from _of_table(connection, table, files, shown(engine))
            except StudyError as error:
                yield Damage(table.name, "", str(error), False)
    finally:
        engine.dispose()


def _of_table(connection: Connection, table: Table, files: set[str], storage: str) -> Iterator[Damage]:
    for row in connection.execute(select(table)).mappings():
        if table is tables.trial:
            trial = TrialRow(**{field.name: row[field.name] for field in fields(TrialRow)})
            if not is_as_written(trial, row["asked_digest"], row["told_digest"]):
                yield Damage(table.name, str(row["number"]), f"{ANOTHER}; the study goes on without it", False)
        elif is_whole(table, row):
            files.update(files_of(table, row, storage))
        else:
            yield Damage(table.name, key_of(table, row), ANOTHER, table in MADE_AGAIN)
