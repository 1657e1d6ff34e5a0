"""Writes the rows of a snapshot into another database: results that it lacks, and studies, each in one transaction."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager

from sqlalchemy import Connection, Engine, Insert, Table, delete, func, insert, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError, IntegrityError

from vitsearch.errors import StoreError, StudyError
from vitsearch.storage.ledger import tables
from vitsearch.storage.ledger.engine import connect, shown
from vitsearch.storage.ledger.seals import MADE_AGAIN, RESULTS, sealed
from vitsearch.storage.ledger.snapshot import ResultRows, Row, StudyRows


class Destination:
    """A database that rows are written into. It has all tables."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @classmethod
    def open(cls, url: str) -> Destination:
        return cls(connect(url))

    def close(self) -> None:
        self._engine.dispose()

    def add_results(self, results: ResultRows, location: str) -> int:
        """Add the results that the database lacks, and return how many. One that it has under the same key stays.
        `location` is where their files are now."""
        moved = [sealed(tables.artifact, row | {"location": location}) for row in results.tables[tables.artifact.name]]
        with self._writing() as connection:
            before = _results(connection)
            for table in MADE_AGAIN:
                rows = moved if table is tables.artifact else results.tables[table.name]
                _add(connection, _if_missing(self._engine, table), rows)
            present = _known_costs(connection, {row["run_id"] for row in results.costs})
            costs = [row for row in results.costs if row["run_id"] not in present]
            _add(connection, insert(tables.stage_cost), costs)
            return _results(connection) - before

    def add_study(self, study: StudyRows) -> None:
        """Write a study, with the numbers of its trials. Raises `StudyError` where there is one of that name:
        another program has made it."""
        try:
            with self._writing() as connection:
                _add_trials(connection, study)
                _add_runs(connection, study)
        except IntegrityError:
            raise StudyError(
                f"study {study.name!r} was made in {shown(self._engine)} while it was copied there"
            ) from None

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        try:
            with self._engine.begin() as connection:
                yield connection
        except IntegrityError:
            raise
        except DBAPIError as error:
            raise StoreError(f"storage {shown(self._engine)} cannot be written: {error.orig}") from error


def _add_trials(connection: Connection, study: StudyRows) -> None:
    values = sealed(tables.study, {"name": study.name, "objectives": study.objectives})
    key = connection.execute(insert(tables.study).values(values)).inserted_primary_key
    assert key is not None
    owner = {"study": int(key[0])}
    for table, rows in ((tables.study_attribute, study.attributes), (tables.trial, study.trials)):
        _add(connection, insert(table), [row | owner for row in rows])


def _add_runs(connection: Connection, study: StudyRows) -> None:
    """Costs that came with the results of another study, without a run, are those of a run now."""
    ids = []
    for run in study.runs:
        run_key = connection.execute(insert(tables.run).values(run)).inserted_primary_key
        assert run_key is not None
        ids.append(int(run_key[0]))
    cost = tables.stage_cost.c
    for names in _batches(sorted({row["run_id"] for row in study.costs})):
        connection.execute(delete(tables.stage_cost).where(cost.run.is_(None), cost.run_id.in_(names)))
    _add(connection, insert(tables.stage_cost), [row | {"run": ids[row["run"]]} for row in study.costs])


def _add(connection: Connection, statement: Insert, rows: Sequence[Row]) -> None:
    if rows:
        connection.execute(statement, rows)


def _if_missing(engine: Engine, table: Table) -> Insert:
    if engine.dialect.name == "sqlite":
        return sqlite.insert(table).on_conflict_do_nothing()
    return postgresql.insert(table).on_conflict_do_nothing()


def _results(connection: Connection) -> int:
    counts = [select(func.count()).select_from(table) for table in RESULTS]
    return sum(connection.execute(count).scalar_one() for count in counts)


def _known_costs(connection: Connection, run_ids: Collection[str]) -> set[str]:
    present: set[str] = set()
    cost = tables.stage_cost.c
    for names in _batches(sorted(run_ids)):
        present.update(connection.execute(select(cost.run_id).where(cost.run_id.in_(names))).scalars())
    return present


def _batches(names: Sequence[str]) -> Iterator[Sequence[str]]:
    return (names[start : start + tables.KEYS_AT_ONCE] for start in range(0, len(names), tables.KEYS_AT_ONCE))
