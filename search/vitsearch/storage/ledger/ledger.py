"""Reading and writing the ledger's tables as frozen values."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Engine, Table, UniqueConstraint, and_, delete, insert, or_, select, update
from sqlalchemy.exc import DBAPIError, IntegrityError

from vitsearch.errors import StudyError
from vitsearch.storage.ledger import tables
from vitsearch.storage.ledger.engine import connect, database_now
from vitsearch.storage.ledger.migrate import upgrade
from vitsearch.storage.stage_cost import StageCost


@dataclass(frozen=True)
class BlockStructureRow:
    key: str
    weights_sha256: str
    resolution: int
    calibration: str
    block_structure: dict[str, Any]
    scores: dict[str, Any]
    statistics_sha256: str


@dataclass(frozen=True)
class TrainingRow:
    """``accuracy`` and ``kl`` (nats, to the unpruned model) are torch's, on ``n`` validation images."""

    weights_key: str
    rung: int
    accuracy: float
    kl: float | None
    n: int
    checkpoint_sha256: str | None


@dataclass(frozen=True)
class ArtifactRow:
    artifact_key: str
    kind: str
    sha256: str
    size_bytes: int
    location: str
    detail: dict[str, Any]


@dataclass(frozen=True)
class AccuracyRow:
    """``batch``: images in one run."""

    artifact_key: str
    split: str
    n: int
    evaluated_on: str
    correct: int
    batch: int


@dataclass(frozen=True)
class MeasurementRow:
    """``result`` is the JSON form of :class:`vitsearch_evaluators.wire.protocol.Measurement`."""

    graph_key: str
    artifact_sha256: str
    device_id: str
    environment_id: str
    protocol: str
    repeat: int
    result: dict[str, Any]


Row = TypeVar("Row", BlockStructureRow, TrainingRow, ArtifactRow, AccuracyRow, MeasurementRow)

_TABLES: dict[type[Any], Table] = {
    BlockStructureRow: tables.block_structure,
    TrainingRow: tables.training,
    ArtifactRow: tables.artifact,
    AccuracyRow: tables.accuracy,
    MeasurementRow: tables.measurement,
}


class Ledger:
    """Opened once per driver; workers have no database address."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @classmethod
    def open(cls, url: str) -> Ledger:
        engine = connect(url)
        try:
            upgrade(engine)
        except DBAPIError as error:
            engine.dispose()
            raise StudyError(f"storage {engine.url!r} cannot be opened: {error.orig}") from error
        return cls(engine)

    def close(self) -> None:
        self._engine.dispose()

    def add(self, row: Row, cost: StageCost) -> None:
        """Write a finished stage; a row with the same key is kept."""
        table = _TABLES[type(row)]
        values = {field.name: getattr(row, field.name) for field in fields(row)}
        values |= {"cpu_seconds": cost.cpu_seconds, "versions": cost.versions, "created_at": database_now()}
        try:
            with self._engine.begin() as connection:
                connection.execute(insert(table).values(values))
        except IntegrityError:
            if not self._holds(table, values):  # another driver was first; its row is equally valid
                raise

    def block_structure(self, key: str) -> BlockStructureRow | None:
        return self._one(BlockStructureRow, tables.block_structure.c.key == key)

    def training(self, weights_key: str, rung: int) -> TrainingRow | None:
        t = tables.training.c
        return self._one(TrainingRow, and_(t.weights_key == weights_key, t.rung == rung))

    def artifact(self, artifact_key: str) -> ArtifactRow | None:
        return self._one(ArtifactRow, tables.artifact.c.artifact_key == artifact_key)

    def accuracy(self, artifact_key: str, split: str, evaluated_on: str = "worker") -> AccuracyRow | None:
        """The result on the most images when there are several; ``evaluated_on`` may be a device's id."""
        a = tables.accuracy.c
        where = and_(a.artifact_key == artifact_key, a.split == split, a.evaluated_on == evaluated_on)
        rows = self._all(AccuracyRow, where)
        return max(rows, key=lambda row: row.n, default=None)

    def measurements(self, graph_key: str, device_id: str, protocol: str | None = None) -> list[MeasurementRow]:
        """Oldest first, over all environments of the device."""
        m = tables.measurement.c
        where = and_(m.graph_key == graph_key, m.device_id == device_id)
        if protocol is not None:
            where = and_(where, m.protocol == protocol)
        return self._all(MeasurementRow, where)

    def cpu_seconds(self) -> dict[str, float]:
        """CPU-seconds spent so far, by table; of all studies in the database."""
        with self._engine.connect() as connection:
            return {
                table.name.removeprefix("vs_"): sum(connection.execute(select(table.c.cpu_seconds)).scalars())
                for table in _TABLES.values()
            }

    def claim(self, key: str, token: str, seconds: float) -> bool:
        """Take or renew the right to make ``key`` for ``seconds`` (database time); False: another holds it."""
        c = tables.claim
        expires = database_now() + seconds
        mine_or_expired = and_(c.c.key == key, or_(c.c.token == token, c.c.expires_at < database_now()))
        with self._engine.begin() as connection:
            taken = connection.execute(update(c).where(mine_or_expired).values(token=token, expires_at=expires))
            if taken.rowcount:
                return True
        try:
            with self._engine.begin() as connection:
                connection.execute(insert(c).values(key=key, token=token, expires_at=expires))
        except IntegrityError:
            return False
        return True

    def release(self, key: str, token: str) -> None:
        c = tables.claim.c
        with self._engine.begin() as connection:
            connection.execute(delete(tables.claim).where(and_(c.key == key, c.token == token)))

    def claims(self) -> dict[str, str]:
        """The token of each claim's holder, by key."""
        with self._engine.connect() as connection:
            rows = connection.execute(select(tables.claim.c.key, tables.claim.c.token))
            return {row.key: row.token for row in rows}

    def _holds(self, table: Table, values: dict[str, Any]) -> bool:
        """Whether a row with the key of ``values`` exists; the unique constraint is the key where rows are numbered."""
        natural = [c for c in table.constraints if isinstance(c, UniqueConstraint)]
        columns = (natural[0] if natural else table.primary_key).columns
        same = and_(*(column == values[column.name] for column in columns))
        with self._engine.connect() as connection:
            return connection.execute(select(columns[0]).where(same)).first() is not None

    def _one(self, kind: type[Row], where: ColumnElement[bool]) -> Row | None:
        rows = self._all(kind, where)
        return rows[0] if rows else None

    def _all(self, kind: type[Row], where: ColumnElement[bool]) -> list[Row]:
        table = _TABLES[kind]
        names = [field.name for field in fields(kind)]
        query = select(*(table.c[name] for name in names)).where(where).order_by(table.c.created_at, *table.primary_key)
        with self._engine.connect() as connection:
            return [kind(**dict(zip(names, row, strict=True))) for row in connection.execute(query)]
