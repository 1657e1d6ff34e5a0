"""Reading and writing the ledger's tables as the frozen values of `vitsearch.storage.ledger.rows`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, fields
from functools import cache, cached_property
from pathlib import Path
from typing import Any, cast

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Engine,
    Float,
    Insert,
    Select,
    Table,
    UniqueConstraint,
    and_,
    bindparam,
    delete,
    func,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.exc import IntegrityError

from vitsearch.core.decoding import expect
from vitsearch.storage.ledger import tables
from vitsearch.storage.ledger.columns import require_results
from vitsearch.storage.ledger.costs import StageCosts
from vitsearch.storage.ledger.engine import at_once, database_now, files_folder, shown
from vitsearch.storage.ledger.inventory import Inventory
from vitsearch.storage.ledger.json_text import JsonText
from vitsearch.storage.ledger.outage import again_when_cut
from vitsearch.storage.ledger.provenance import Provenance
from vitsearch.storage.ledger.rows import (
    ArtifactRow,
    BlockStructureRow,
    Claim,
    Detail,
    EvaluationRow,
    MeasurementRow,
    R,
    ReferenceKey,
    Row,
    StoredTimes,
    TrainingRow,
)
from vitsearch.storage.ledger.schema import open_database, open_database_to_read
from vitsearch.storage.ledger.seals import PLACE, StoredRow, broken, is_whole, key_of, place_in, sealed
from vitsearch.storage.stage_cost import StageCost

_TABLES: dict[type[Any], Table] = {
    BlockStructureRow: tables.block_structure,
    TrainingRow: tables.training,
    ArtifactRow: tables.artifact,
    EvaluationRow: tables.evaluation,
    MeasurementRow: tables.measurement,
}


_READ_ONCE = (BlockStructureRow, TrainingRow, ArtifactRow)
"""Rows that are found by the columns of their primary key, in this order, and do not change."""

logger = logging.getLogger(__name__)


@again_when_cut
class Ledger:
    """Opened once per driver; workers have no database address.

    A row that is not as it was written is never a value: who only reads gets `Damaged`; who may write drops it with a
    warning, and its stage runs again.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._on_damage: Callable[[Table, StoredRow], None] = self._drop_damaged
        self._at_once = at_once(engine)
        self._cache: dict[tuple[Any, ...], Row] = {}
        self.costs = StageCosts(engine)
        self.provenance = Provenance(engine)
        self.inventory = Inventory(engine)

    @classmethod
    def open(cls, url: str) -> Ledger:
        return cls(open_database(url, require_results))

    @classmethod
    def to_read(cls, url: str) -> Ledger:
        """Open the ledger of a database that stays as it is. Raises `StudyError` where it has
        none."""
        ledger = cls(open_database_to_read(url, require_results))
        ledger._on_damage = ledger._refuse_damaged
        return ledger

    @property
    def files(self) -> Path:
        """The folder of the files that this ledger names."""
        return files_folder(self._engine.url.render_as_string(hide_password=False)).resolve()

    @cached_property
    def shown(self) -> str:
        """The URL of the database without its passwords."""
        return shown(self._engine)

    def close(self) -> None:
        self.costs.end_run()
        self._engine.dispose()

    def add(self, row: Row, cost: StageCost, claim: Claim | None = None) -> bool:
        """Write a result of a finished stage and the costs that were noted, and give the claim up. False where a row
        with the same key was there, which is kept, and so is the claim."""
        table, values = _TABLES[type(row)], _values(row)
        try:
            with self._engine.begin() as connection:
                now = self._release_in(connection, claim)
                made = {"made_by": cost.run_id, "versions": cost.versions, "created_at": now}
                connection.execute(_adding(table), sealed(table, values | made))
                noted = self.costs.write_to(connection)
        except IntegrityError:
            if not self._holds(table, values):  # another driver was first; its row is equally valid
                raise
            return False
        self.costs.forget(noted)
        if isinstance(row, _READ_ONCE):
            self._cache[(type(row), *(values[column.name] for column in table.primary_key))] = row
        return True

    def forget(self) -> None:
        """Look rows up in the database again: another driver may have replaced one whose file is gone."""
        self._cache.clear()

    def drop(self, row: Row) -> None:
        """Delete a row whose file is gone, and the evaluations of that file: its stage runs again."""
        self.forget()
        table, values = _TABLES[type(row)], _values(row)
        with self._engine.begin() as connection:
            connection.execute(delete(table).where(_same(table, values)))
            if isinstance(row, ArtifactRow):
                evaluations = tables.evaluation.c.artifact_key == row.artifact_key
                connection.execute(delete(tables.evaluation).where(evaluations))

    def block_structure(self, key: str) -> BlockStructureRow | None:
        return self._row(BlockStructureRow, key=key)

    def training(self, weights_key: str, rung: int) -> TrainingRow | None:
        return self._row(TrainingRow, weights_key=weights_key, rung=rung)

    def artifact(self, artifact_key: str) -> ArtifactRow | None:
        return self._row(ArtifactRow, artifact_key=artifact_key)

    def made_at(self) -> dict[str, float]:
        """When the first gradient steps of a training, a file and the first measurement of a graph were written,
        by weights_key, artifact_key and graph_key (database time)."""
        training, artifact, measurement = tables.training.c, tables.artifact.c, tables.measurement.c
        queries = (
            _first_made(training.weights_key, training.created_at).where(training.rung > 0),
            _first_made(artifact.artifact_key, artifact.created_at),
            _first_made(measurement.graph_key, measurement.created_at),
        )
        with self._at_once.connect() as connection:
            made_at = {key: at for query in queries for key, at in connection.execute(query)}
        expect(dict[str, float], made_at, f"storage {self.shown}: created_at of a result")
        return made_at

    def revision(self) -> object:
        """Differs from an earlier one if a stage or a measurement was added since."""
        counted = [select(func.max(table.c.id)) for table in (tables.stage_cost, tables.measurement)]
        with self._at_once.connect() as connection:
            return tuple(connection.execute(query).scalar() for query in counted)

    def artifact_versions(self) -> dict[str, dict[str, str]]:
        """The versions of the libraries that made each artifact, by its key."""
        rows = self._whole(tables.artifact)
        return {row["artifact_key"]: self._versions(row) for row in rows}

    def versions(self, row: ArtifactRow) -> dict[str, str]:
        """The versions of the libraries that made an artifact."""
        (stored,) = self._whole(tables.artifact, artifact_key=row.artifact_key)
        return self._versions(stored)

    def _versions(self, row: StoredRow) -> dict[str, str]:
        where = f"storage {self.shown}: versions in {tables.artifact.name}"
        versions: dict[str, str] = row["versions"].value(where)
        expect(dict[str, str], versions, where)
        return versions

    def evaluation(self, artifact_key: str, split: str, evaluated_on: str = "worker") -> EvaluationRow | None:
        """The result on the most images when there are several; `evaluated_on` may be a device's id."""
        rows = self._all(EvaluationRow, artifact_key=artifact_key, split=split, evaluated_on=evaluated_on)
        return max(rows, key=lambda row: row.n, default=None)

    def measurements(self, graph_key: str, device_id: str, protocol: str | None = None) -> list[MeasurementRow]:
        """Oldest first, over all environments of the device."""
        where = {"graph_key": graph_key, "device_id": device_id}
        return self._all(MeasurementRow, **where | ({} if protocol is None else {"protocol": protocol}))

    def measurements_of_device(self, device_id: str) -> list[MeasurementRow]:
        """Of all graphs, oldest first, over all environments of the device."""
        return self._all(MeasurementRow, device_id=device_id)

    def measurements_of_graphs(self, graph_keys: Sequence[str], device_id: str) -> list[MeasurementRow]:
        """Of each of these graphs oldest first, over all environments of the device."""
        measurements: list[MeasurementRow] = []
        table = tables.measurement
        query = _reading(table, self._engine.dialect.name, ("device_id",))
        for start in range(0, len(graph_keys), tables.KEYS_AT_ONCE):
            some = table.c.graph_key.in_(graph_keys[start : start + tables.KEYS_AT_ONCE])
            measurements += self._values(MeasurementRow, self._read(table, query.where(some), device_id=device_id))
        return measurements

    def measurements_of_structure(self, structure: str, device_id: str, protocol: str) -> list[MeasurementRow]:
        """Of all graphs whose files have this structure, oldest first."""
        return self._all(MeasurementRow, structure=structure, device_id=device_id, protocol=protocol)

    def repeats(self, graph_key: str, device_id: str, protocol: str, environment_id: str | None = None) -> list[int]:
        """The numbers of the measurements of a graph by a protocol, in one environment or in all."""
        where = {"graph_key": graph_key, "device_id": device_id, "protocol": protocol}
        where |= {} if environment_id is None else {"environment_id": environment_id}
        return sorted(row["repeat"] for row in self._whole(tables.measurement, **where))

    def reference_times(self, device_id: str) -> dict[ReferenceKey, StoredTimes]:
        """The times of the reference models on a device that were stored last."""
        where = f"storage {self.shown}: times in {tables.reference_times.name}"
        return {
            ReferenceKey(*(row[field.name] for field in fields(ReferenceKey))): StoredTimes(
                row["times"].value(where), row["started_at"]
            )
            for row in self._whole(tables.reference_times, device_id=device_id)
        }

    def set_reference_times(self, key: ReferenceKey, times: StoredTimes) -> None:
        """Replace the times of the reference models; all measurements of this key are shown by them from now on."""
        table, values = tables.reference_times, asdict(key)
        same = and_(*(table.c[name] == value for name, value in values.items()))
        row = sealed(table, values | asdict(times))
        with self._engine.begin() as connection:
            if connection.execute(update(table).where(same).values(row)).rowcount:
                return
        try:
            with self._engine.begin() as connection:
                connection.execute(insert(table).values(row))
        except IntegrityError:
            pass  # another driver was first, with times of the same minute

    def claim(self, claim: Claim, seconds: float) -> bool:
        """Take or renew a claim for `seconds` (database time); False: another holds it, or held it and it has run out
        (`take_over`)."""
        values = {"key": claim.key, "token": claim.token, "seconds": seconds}
        try:
            with self._at_once.begin() as connection:
                connection.execute(_CLAIM, values)
        except IntegrityError:
            return self.renew(claim, seconds)
        return True

    def renew(self, claim: Claim, seconds: float) -> bool:
        """Prolong a claim; False: another holds it, or nobody does."""
        with self._at_once.begin() as connection:
            return bool(connection.execute(_RENEW, _named(claim) | {"seconds": seconds}).rowcount)

    def expired_claims(self) -> dict[str, float]:
        """The claims that have run out, by key: when they did, in database time."""
        with self._at_once.connect() as connection:
            rows = connection.execute(select(_C.key, _C.expires_at).where(_C.expires_at < database_now()))
            return {row.key: row.expires_at for row in rows}

    def take_over(self, claim: Claim, seconds: float) -> bool:
        """Take a claim that has run out; False: it has not, or another was first."""
        with self._at_once.begin() as connection:
            return bool(connection.execute(_TAKE_OVER, _named(claim) | {"seconds": seconds}).rowcount)

    def release(self, claim: Claim) -> None:
        with self._at_once.begin() as connection:
            connection.execute(_RELEASE, _named(claim))

    def _release_in(self, connection: Connection, claim: Claim | None) -> float:
        """Give a claim up, where there is one; the time by the database's clock."""
        now: float | None = None
        if claim is not None and connection.dialect.delete_returning:
            now = connection.scalar(_RELEASE_NOW, _named(claim))  # none where another has taken the claim over
        elif claim is not None:  # SQLite before 3.35
            connection.execute(_RELEASE, _named(claim))
        return connection.execute(_NOW).scalar_one() if now is None else now

    def claims(self) -> dict[str, str]:
        """The token of each claim's holder, by key."""
        with self._at_once.connect() as connection:
            rows = connection.execute(select(tables.claim.c.key, tables.claim.c.token))
            return {row.key: row.token for row in rows}

    def _holds(self, table: Table, values: dict[str, Any]) -> bool:
        """Whether a row with the key of `values` exists."""
        with self._at_once.connect() as connection:
            return connection.execute(select(table).where(_same(table, values))).first() is not None

    def _row(self, kind: type[R], **key: object) -> R | None:
        """The row with a key. It is read once: a row does not change."""
        if cached := self._cache.get((kind, *key.values())):
            return cast(R, cached)
        rows = self._all(kind, **key)
        if not rows:
            return None
        self._cache[(kind, *key.values())] = rows[0]
        return rows[0]

    def _all(self, kind: type[R], **where: object) -> list[R]:
        return self._values(kind, self._whole(_TABLES[kind], **where))

    def _whole(self, table: Table, **where: object) -> list[StoredRow]:
        """The rows with certain values, oldest first, without those that are not as they were written."""
        return self._read(table, _reading(table, self._engine.dialect.name, tuple(where)), **where)

    def _read(self, table: Table, query: Select[Any], **where: object) -> list[StoredRow]:
        with self._at_once.connect() as connection:
            rows: list[StoredRow] = list(connection.execute(query, where).mappings())
        for row in (damaged := [row for row in rows if not is_whole(table, row)]):
            self._on_damage(table, row)
        return [row for row in rows if row not in damaged] if damaged else rows

    def _refuse_damaged(self, table: Table, row: StoredRow) -> None:
        raise broken(table, row, self.shown)

    def _drop_damaged(self, table: Table, row: StoredRow) -> None:
        """Delete a row that says what nobody has written. Of an accuracy the file goes too: one stage makes both."""
        logger.warning("%s; it was dropped", broken(table, row, self.shown))
        place = text("rowid = :place" if self._engine.dialect.name == "sqlite" else "ctid = CAST(:place AS tid)")
        with self._engine.begin() as connection:
            connection.execute(delete(table).where(place), {"place": row[PLACE]})
            if table is tables.evaluation:
                connection.execute(delete(tables.artifact).where(tables.artifact.c.artifact_key == row["artifact_key"]))
        self.forget()

    def _values(self, kind: type[R], rows: Iterable[StoredRow]) -> list[R]:
        """Rows as values. A person who edits a database may write digests too. Raises `Damaged`."""
        table, names = _TABLES[kind], [field.name for field in fields(kind)]
        values = []
        for stored in rows:
            where = f"storage {self.shown}: {table.name} of {key_of(table, stored)}"
            parts = ((name, stored[name]) for name in names)
            row = kind(
                **{name: part.value(f"{where}: {name}") if isinstance(part, JsonText) else part for name, part in parts}
            )
            expect(kind, row, where)
            if isinstance(row, ArtifactRow):
                expect(Detail, row.detail, f"{where}: detail")
            values.append(row)
        return values


# Statements are made once: to put one together takes longer than to run it.


@cache
def _reading(table: Table, dialect: str, where: tuple[str, ...]) -> Select[Any]:
    """The rows with certain values of some columns, oldest first."""
    query = select(*table.c, place_in(dialect)).where(*(table.c[name] == bindparam(name) for name in where))
    order = [table.c.created_at] if "created_at" in table.c else []
    return query.order_by(*order, *table.primary_key)


@cache
def _adding(table: Table) -> Insert:
    return insert(table)


_NOW = select(database_now())
_C = tables.claim.c
_EXPIRES = database_now() + bindparam("seconds", type_=Float())
_CLAIM = insert(tables.claim).values(key=bindparam("key"), token=bindparam("token"), expires_at=_EXPIRES)
_RENEW = (
    update(tables.claim)
    .where(and_(_C.key == bindparam("of_key"), _C.token == bindparam("by_token")))
    .values(expires_at=_EXPIRES)
)
_TAKE_OVER = (
    update(tables.claim)
    .where(and_(_C.key == bindparam("of_key"), _C.expires_at < database_now()))
    .values(token=bindparam("by_token"), expires_at=_EXPIRES)
)
_RELEASE = delete(tables.claim).where(and_(_C.key == bindparam("of_key"), _C.token == bindparam("by_token")))
_RELEASE_NOW = _RELEASE.returning(database_now())


def _named(claim: Claim) -> dict[str, Any]:
    """The values of a statement that looks for a claim; names of columns are those of values that it writes."""
    return {"of_key": claim.key, "by_token": claim.token}


def _first_made(key: Column[Any], created_at: Column[Any]) -> Select[Any]:
    return select(key, func.min(created_at)).group_by(key)


def _values(row: Row) -> dict[str, Any]:
    return {field.name: getattr(row, field.name) for field in fields(row)}


def _same(table: Table, values: dict[str, Any]) -> ColumnElement[bool]:
    """The row with the key of `values`; the unique constraint is the key where rows are numbered."""
    natural = [c for c in table.constraints if isinstance(c, UniqueConstraint)]
    columns = (natural[0] if natural else table.primary_key).columns
    return and_(*(column == values[column.name] for column in columns))
