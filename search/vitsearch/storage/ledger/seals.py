"""The digest that a row has of its own columns: what a disk or a person has changed is named, and never used.

Rows of results, and what a study remembers, have it (`SEALED`). It is written and compared here alone. A trial has two:
of what was asked, and of how it ended (`trial_rows.py`). What runs and stages took has none: it is an account, and
decides no result.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, TypeAlias

from sqlalchemy import JSON, ColumnElement, Connection, Float, Select, Table, literal_column

from vitsearch.core.decoding import Damaged
from vitsearch.storage.ledger import tables
from vitsearch.storage.ledger.json_text import JsonText

RESULTS = (tables.block_structure, tables.training, tables.artifact, tables.evaluation, tables.measurement)
MADE_AGAIN = (*RESULTS, tables.reference_times)
"""What a run makes again where it is missing."""
SEALED = (*MADE_AGAIN, tables.study, tables.study_attribute)
DIGEST = "digest"
GIVEN = ("id", "study", DIGEST)
"""Columns that a database numbers by itself, which differ in a copy, and the digest."""
StoredRow: TypeAlias = Mapping[Any, Any]
"""A row by the names of its columns, as SQLAlchemy gives it."""
PLACE = "place"
"""Where a row is in its table, whatever its columns say: SQLite's number of it, PostgreSQL's address."""


def digest_of(*values: Any) -> str:
    """The SHA-256 of the values of some columns."""
    texts = (value if isinstance(value, str) else repr(value) for value in values)
    return hashlib.sha256("\x1f".join(texts).encode("utf-8", "replace")).hexdigest()


def sealed(table: Table, values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a row as they are stored, with its digest."""
    stored = {name: _stored(kind, values[name]) for name, kind in _kinds(table).items()}
    return {**values, **stored, DIGEST: row_digest(table, stored)}


def is_whole(table: Table, row: StoredRow) -> bool:
    """Whether a row that was read is as it was written."""
    return bool(row[DIGEST] == row_digest(table, row))


def broken(table: Table, row: StoredRow, storage: str) -> Damaged:
    """The error for a row that is not as it was written."""
    can_be_made = table in MADE_AGAIN
    advice = "the next 'vitsearch run' makes it again" if can_be_made else "restore a copy of the database"
    where = f"storage {storage}: {key_of(table, row)} in {table.name}"
    return Damaged(f"{where} was damaged or edited, for its digest is another; {advice}")


def key_of(table: Table, row: StoredRow) -> str:
    """Names a row within its table."""
    names = [column.name for column in table.primary_key if column.name not in GIVEN]
    names = names or ["graph_key" if table is tables.measurement else "name"]
    return " ".join(str(row[name])[: 40 if name == "name" else 12] for name in names)


def whole(connection: Connection, query: Select[Any], table: Table, storage: str) -> Iterator[StoredRow]:
    """The rows of a query that has all columns of a table. Raises `Damaged` at one that is not as it was written."""
    for row in connection.execute(query).mappings():
        if not is_whole(table, row):
            raise broken(table, row, storage)
        yield row


def place_in(dialect: str) -> ColumnElement[Any]:
    """The column `PLACE` of a table."""
    return literal_column("rowid" if dialect == "sqlite" else "ctid::text").label(PLACE)


@cache
def _kinds(table: Table) -> dict[str, type]:
    """The columns that a digest is made of, in order, and the type of each."""
    return {column.name: type(column.type) for column in table.c if column.name not in GIVEN}


def row_digest(table: Table, row: StoredRow) -> str:
    """The digest of a row as it is stored."""
    return digest_of(*(row[name] for name in _kinds(table)))


def _stored(kind: type, value: Any) -> Any:
    """A value as it is read again."""
    if kind is JSON:
        return value if isinstance(value, JsonText) else JsonText(json.dumps(value))
    if value is None:
        return None
    return float(value) if kind is Float else str(value) if isinstance(value, str) else value
