"""Whether a SQLite file is sound, and its columns without a digest have values of their types. SQLite takes any value
in any column, and its sums count a text as 0; a server keeps its pages, indexes and types itself. Each table is looked
through once, when a database is opened.
"""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import JSON, Column, Connection, Engine, Float, Integer, Table

from vitsearch.core.decoding import damaged, parsed, shown
from vitsearch.core.stage import Stage
from vitsearch.storage.ledger import engine as engine_module
from vitsearch.storage.ledger import tables
from vitsearch.storage.ledger.seals import SEALED

LARGEST = 1e300
LAST_SECOND = 253_402_300_799
"""The end of the year 9999, in seconds since 1970: later times are no dates."""
WORDS = {
    ("vs_stage_cost", "stage"): tuple(stage.value for stage in Stage),
    ("vs_trial", "state"): ("RUNNING", "WAITING", "COMPLETE", "PRUNED", "FAIL"),
}
GAPS = "SELECT max(number), count(*) FROM vs_trial GROUP BY study HAVING count(*) <> max(number) + 1 LIMIT 1"


def require_results(engine: Engine) -> None:
    """Raise `Damaged` for pages and indexes that do not fit together, and for a value that the ledger never wrote into
    its tables."""
    if engine.dialect.name == "sqlite":
        with engine.connect() as connection:
            if (found := connection.exec_driver_sql("PRAGMA integrity_check(1)").scalar()) != "ok":
                raise damaged(f"storage {engine_module.shown(engine)}", str(found))
    _require(engine, [table for table in tables.metadata.sorted_tables if table not in (*SEALED, tables.trial)])


def require_trials(engine: Engine) -> None:
    """The same for the tables of studies. The trials of a study are numbered from 0."""
    _require(engine, [tables.trial])
    if engine.dialect.name == "sqlite":
        with engine.connect() as connection:
            if (gap := connection.exec_driver_sql(GAPS).first()) is not None:
                where = f"storage {engine_module.shown(engine)}: {tables.trial.name}"
                raise damaged(where, f"the last number is {shown(gap[0])}, and there are {shown(gap[1])}")


def _require(engine: Engine, stored: Iterable[Table]) -> None:
    if engine.dialect.name != "sqlite":
        return
    with engine.connect() as connection:
        for table in stored:
            _look_through(connection, table, f"storage {engine_module.shown(engine)}: {table.name}")


def _look_through(connection: Connection, table: Table, where: str) -> None:
    wrong = {column.name: _is_wrong(table, column) for column in table.columns}
    cases = " ".join(f"WHEN {condition} THEN '{name}'" for name, condition in wrong.items())
    query = f"SELECT rowid, CASE {cases} END FROM {table.name} WHERE {' OR '.join(wrong.values())} LIMIT 1"
    if (row := connection.exec_driver_sql(query).first()) is not None:
        number, name = row
        value = connection.exec_driver_sql(f'SELECT "{name}" FROM {table.name} WHERE rowid = {number}').scalar()
        raise damaged(f"{where} row {number}", f"{name} is {shown(value)}, allowed: {_allowed(table, table.c[name])}")
    for column in (column for column in table.columns if isinstance(column.type, JSON)):
        # SQLite's JSON is stricter than Python's, which has written it: NaN, and more than 1,000 levels
        doubtful = f'SELECT rowid, "{column.name}" FROM {table.name} WHERE NOT json_valid("{column.name}")'
        for number, text in connection.exec_driver_sql(doubtful):
            parsed(text, f"{where} row {number}: {column.name}")


def _is_wrong(table: Table, column: Column[object]) -> str:
    """The condition in SQL under which a value is none of its column."""
    name = f'{table.name}."{column.name}"'  # without the table, SQLite reads the name of a missing column as a text
    kinds = {"integer": "'integer'", "real": "'integer', 'real'"}.get(_kind(column), "'text'")
    wrong = f"typeof({name}) NOT IN ({kinds})"
    if isinstance(column.type, Integer):
        wrong += f" OR {name} < 0"
    elif column.name.endswith("_at"):
        wrong += f" OR {name} NOT BETWEEN 0 AND {LAST_SECOND}"
    elif isinstance(column.type, Float):
        wrong += f" OR abs({name}) > {LARGEST:g}"
    elif words := _words(table, column):
        wrong += f" OR {name} NOT IN ({', '.join(repr(word) for word in words)})"
    return f"({name} IS NOT NULL AND ({wrong}))" if column.nullable else f"({wrong})"


def _kind(column: Column[object]) -> str:
    return "integer" if isinstance(column.type, Integer) else "real" if isinstance(column.type, Float) else "text"


def _words(table: Table, column: Column[object]) -> tuple[str, ...]:
    return WORDS.get((table.name, column.name), ())


def _allowed(table: Table, column: Column[object]) -> str:
    if words := _words(table, column):
        return f"one of {', '.join(words)}"
    if column.name.endswith("_at"):
        return "seconds since 1970"
    return {"integer": "a whole number from 0", "real": "a finite number"}.get(_kind(column), "a text")
