"""Reading and writing the ledger's tables as frozen values. ``file`` of a row is its file in the store."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, TypeAlias, TypeVar

from sqlalchemy import ColumnElement, Engine, Table, UniqueConstraint, and_, delete, func, insert, or_, select, update
from sqlalchemy.exc import DBAPIError, IntegrityError

from vitsearch.core.stage import Stage
from vitsearch.errors import StoreError, StudyError
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

    @property
    def file(self) -> str:
        return self.statistics_sha256


@dataclass(frozen=True)
class TrainingRow:
    """``accuracy`` and ``kl`` (nats, to the unpruned model) are torch's, on ``n`` validation images."""

    weights_key: str
    rung: int
    accuracy: float
    kl: float | None
    n: int
    checkpoint_sha256: str | None

    @property
    def file(self) -> str | None:
        return self.checkpoint_sha256


@dataclass(frozen=True)
class ArtifactRow:
    artifact_key: str
    kind: str
    sha256: str
    size_bytes: int
    location: str
    detail: dict[str, Any]

    @property
    def file(self) -> str | None:
        """None for a screened graph, which is deleted after its measurement."""
        return None if self.kind == Stage.SCREEN else self.sha256


@dataclass(frozen=True)
class AccuracyRow:
    """``batch``: images in one run."""

    artifact_key: str
    split: str
    n: int
    evaluated_on: str
    correct: int
    batch: int

    file: ClassVar[None] = None


@dataclass(frozen=True)
class ReferenceKey:
    """What the times of the reference models depend on."""

    device_id: str
    environment_id: str
    reference: str
    runtime: str
    threads: int


@dataclass(frozen=True)
class MeasurementRow:
    """``result`` is the JSON form of :class:`vitsearch_evaluators.wire.protocol.Measurement`; ``structure`` names what
    the cost of the file depends on, if that is known."""

    graph_key: str
    artifact_sha256: str
    device_id: str
    environment_id: str
    protocol: str
    repeat: int
    result: dict[str, Any]
    structure: str | None = None

    file: ClassVar[None] = None


Row: TypeAlias = BlockStructureRow | TrainingRow | ArtifactRow | AccuracyRow | MeasurementRow
R = TypeVar("R", bound=Row)

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
        except StoreError as error:
            engine.dispose()
            raise StudyError(str(error)) from error
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

    def drop(self, row: Row) -> None:
        """Delete a row whose file is gone, and the accuracies of that file: its stage runs again."""
        table, values = _TABLES[type(row)], {field.name: getattr(row, field.name) for field in fields(row)}
        with self._engine.begin() as connection:
            connection.execute(delete(table).where(_same(table, values)))
            if isinstance(row, ArtifactRow):
                accuracies = tables.accuracy.c.artifact_key == row.artifact_key
                connection.execute(delete(tables.accuracy).where(accuracies))

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

    def measurements_of_structure(self, structure: str, device_id: str, protocol: str) -> list[MeasurementRow]:
        """Of all graphs whose files have this structure, oldest first."""
        m = tables.measurement.c
        return self._all(
            MeasurementRow, and_(m.structure == structure, m.device_id == device_id, m.protocol == protocol)
        )

    def reference_times(self, device_id: str) -> dict[ReferenceKey, dict[str, Any]]:
        """The times of the reference models on a device that were stored last."""
        table, names = tables.reference_times, [field.name for field in fields(ReferenceKey)]
        query = select(*(table.c[name] for name in names), table.c.times).where(table.c.device_id == device_id)
        with self._engine.connect() as connection:
            return {ReferenceKey(*row[:-1]): row[-1] for row in connection.execute(query)}

    def set_reference_times(self, key: ReferenceKey, times: dict[str, Any]) -> None:
        """Replace the times of the reference models; all measurements of this key are shown by them from now on."""
        table, values = tables.reference_times, asdict(key)
        same = and_(*(table.c[name] == value for name, value in values.items()))
        with self._engine.begin() as connection:
            if connection.execute(update(table).where(same).values(times=times)).rowcount:
                return
        try:
            with self._engine.begin() as connection:
                connection.execute(insert(table).values(values | {"times": times}))
        except IntegrityError:
            pass  # another driver was first, with times of the same minute

    def measuring_seconds(self, protocol: str) -> float | None:
        """The mean of what one measurement with this protocol took; None without one."""
        m = tables.measurement.c
        with self._engine.connect() as connection:
            mean = connection.execute(select(func.avg(m.cpu_seconds)).where(m.protocol == protocol)).scalar()
        return None if mean is None else float(mean)

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
        """Whether a row with the key of ``values`` exists."""
        with self._engine.connect() as connection:
            return connection.execute(select(table).where(_same(table, values))).first() is not None

    def _one(self, kind: type[R], where: ColumnElement[bool]) -> R | None:
        rows = self._all(kind, where)
        return rows[0] if rows else None

    def _all(self, kind: type[R], where: ColumnElement[bool]) -> list[R]:
        table = _TABLES[kind]
        names = [field.name for field in fields(kind)]
        query = select(*(table.c[name] for name in names)).where(where).order_by(table.c.created_at, *table.primary_key)
        with self._engine.connect() as connection:
            return [kind(**dict(zip(names, row, strict=True))) for row in connection.execute(query)]


def _same(table: Table, values: dict[str, Any]) -> ColumnElement[bool]:
    """The row with the key of ``values``; the unique constraint is the key where rows are numbered."""
    natural = [c for c in table.constraints if isinstance(c, UniqueConstraint)]
    columns = (natural[0] if natural else table.primary_key).columns
    return and_(*(column == values[column.name] for column in columns))
