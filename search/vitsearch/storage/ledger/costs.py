"""What the runs of a study have spent: each second of a stage once, and how long the runs took on how many cores."""

from __future__ import annotations

import json
import socket
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

from sqlalchemy import ColumnElement, Connection, Engine, and_, func, insert, or_, select, update

from vitsearch.core.stage import Stage
from vitsearch.errors import StudyDeleted
from vitsearch.storage.driver_id import DriverId
from vitsearch.storage.ledger import tables
from vitsearch.storage.ledger.engine import at_once, database_now
from vitsearch.storage.ledger.outage import again_when_cut
from vitsearch.storage.ledger.rows import RunState
from vitsearch.storage.stage_cost import DEVICE, LOCAL, StageCost, StageKind
from vitsearch_agent.wire.protocol import SCREEN

_R, _S = tables.run.c, tables.stage_cost.c


@dataclass(frozen=True)
class Spent:
    """CPU-seconds by stage; `here` are those of the machines of the runs, whose cores were there for
    `core_seconds`: a device of its own is none of them."""

    cpu_seconds: dict[str, float] = field(default_factory=dict)
    here: float = 0.0
    core_seconds: float = 0.0

    @property
    def busy_share(self) -> float | None:
        """The share of the cores that stages used; None before there was a run."""
        return self.here / self.core_seconds if self.core_seconds > 0.0 else None


@dataclass(frozen=True)
class Worked:
    """Wall seconds of stages on trainers and on devices."""

    trainers: float = 0.0
    devices: float = 0.0


@dataclass(frozen=True)
class Run:
    """One `vitsearch run` of a study: from when until when it was seen (seconds since 1970), on how many cores, with
    how many plans in training at a time."""

    id: int
    host: str
    cores: int
    started_at: float
    seen_at: float
    trainers: int = 1

    @property
    def seconds(self) -> float:
        return self.seen_at - self.started_at


Purpose = Literal["search", "afterwards"]
"""What a run was for: a search, or work with its models afterwards, such as shipping one."""


def _searches(study: str) -> ColumnElement[bool]:
    return and_(_R.study == study, _R.purpose == "search")


@dataclass(frozen=True)
class StageRun:
    """What one run of a stage took. `detail` is the protocol of a measurement; the other fields are those of
    `StageCost`."""

    run: int
    stage: str
    detail: str
    started_at: float
    wall_seconds: float
    cpu_seconds: float
    ran_on: str
    run_id: str = ""


@again_when_cut
class StageCosts:
    """Costs are noted where a stage ends, and written with its first result."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._at_once = at_once(engine)
        self._run: int | None = None
        self._noted: list[dict[str, Any]] = []

    def start_run(self, study: str, cores: int, trainers: int = 1, purpose: Purpose = "search") -> None:
        """From here on everything that is noted belongs to a run of `study` that has `cores` cores. The accounts of
        a study are those of its searches."""
        now, driver = database_now(), json.dumps(DriverId.current().to_json())
        values = {"study": study, "purpose": purpose, "cores": cores, "trainers": trainers}
        values |= {"host": socket.gethostname(), "driver": driver, "started_at": now, "seen_at": now}
        with self._at_once.begin() as connection:
            primary_key = connection.execute(insert(tables.run).values(values)).inserted_primary_key
            assert primary_key is not None
            self._run = int(primary_key[0])

    def record_heartbeat(self) -> None:
        """Record that the run is alive; called now and then, because a run may end without a word. Raises
        `StudyDeleted` where somebody has deleted its study, or has requested that the run stop before that."""
        if self._run is None:
            return
        with self._at_once.begin() as connection:
            connection.execute(update(tables.run).where(_R.id == self._run).values(seen_at=database_now()))
            row = connection.execute(select(_R.study, _R.told_to_end).where(_R.id == self._run)).first()
        if row is None:
            raise StudyDeleted("the study of this run was deleted: the run ends")
        if row.told_to_end is not None:
            raise StudyDeleted(f"study {row.study!r} is being deleted {row.told_to_end}; this run ends")

    def tell(self, state: RunState) -> None:
        """What the run does now, which is a sign of life too."""
        if self._run is not None:
            with self._at_once.begin() as connection:
                values = {"now": asdict(state), "seen_at": database_now()}
                connection.execute(update(tables.run).where(_R.id == self._run).values(values))

    def end_run(self) -> None:
        """Write what was noted and has no result, and that the run has ended."""
        self.write()
        if self._run is not None:
            now = database_now()
            with self._at_once.begin() as connection:
                ended = update(tables.run).where(_R.id == self._run).values(seen_at=now, ended_at=now)
                connection.execute(ended)

    def note(self, stage: Stage, cost: StageCost, detail: str = "") -> None:
        """A stage has run. `detail` is the protocol of a measurement."""
        self._noted.append(
            {
                "run_id": cost.run_id,
                "run": self._run,
                "stage": stage.value,
                "detail": detail,
                "started_at": cost.started_at,
                "wall_seconds": cost.wall_seconds,
                "cpu_seconds": cost.cpu_seconds,
                "ran_on": cost.ran_on,
                "backbone": cost.backbone,
                "peak_memory_mb": cost.peak_memory_mb,
            }
        )

    def write_to(self, connection: Connection) -> int:
        """Write what was noted, in the transaction of a result; return how many costs those are, to `forget` them
        once the transaction has ended well."""
        if self._noted:
            connection.execute(insert(tables.stage_cost), self._noted)
        return len(self._noted)

    def forget(self, noted: int) -> None:
        """The oldest costs that were noted are in the database."""
        del self._noted[:noted]

    def write(self) -> None:
        """Write what was noted and has no result."""
        if self._noted:
            with self._engine.begin() as connection:
                noted = self.write_to(connection)
            self.forget(noted)

    def measuring_seconds(self, protocol: str) -> float | None:
        """The mean of what one measurement with this protocol took, in all studies; None without one."""
        return self._mean_measuring(_S.detail == protocol)

    def screening_seconds(self) -> float | None:
        """The same of all screening protocols: their ids begin alike."""
        return self._mean_measuring(_S.detail.startswith(SCREEN.id, autoescape=True))

    def _mean_measuring(self, is_meant: ColumnElement[bool]) -> float | None:
        mean = select(func.avg(_S.wall_seconds)).where(and_(_S.stage == Stage.MEASURE.value, is_meant))
        with self._at_once.connect() as connection:
            seconds = connection.execute(mean).scalar()
        return None if seconds is None else float(seconds)

    def means(self) -> dict[str, float]:
        """The mean wall seconds of each kind of stage in all studies, by its name; of measurements by name and
        protocol: `measure screen-1`."""
        query = select(_S.stage, _S.detail, func.avg(_S.wall_seconds)).group_by(_S.stage, _S.detail)
        with self._at_once.connect() as connection:
            rows = connection.execute(query).all()
        return {f"{stage} {detail}" if detail else stage: float(seconds) for stage, detail, seconds in rows}

    def peak_memory_mb(self, study: str) -> dict[StageKind, float]:
        """The largest peak memory of each kind of stage, in 10^6 bytes: of this study, else of all studies."""
        peaks = select(_S.stage, _S.backbone, func.max(_S.peak_memory_mb)).where(_S.peak_memory_mb.is_not(None))
        of_study = _S.run.in_(select(_R.id).where(_R.study == study))
        peaks_mb: dict[StageKind, float] = {}
        with self._at_once.connect() as connection:
            for query in (peaks, peaks.where(of_study)):
                for stage, backbone, peak_mb in connection.execute(query.group_by(_S.stage, _S.backbone)):
                    peaks_mb[StageKind(Stage(stage), backbone)] = float(peak_mb)
        return peaks_mb

    def runs(self, study: str) -> list[Run]:
        """All runs of a study, oldest first."""
        query = select(*(_R[field.name] for field in fields(Run))).where(_searches(study)).order_by(_R.id)
        with self._at_once.connect() as connection:
            return [Run(*row) for row in connection.execute(query)]

    def stages(self, study: str) -> list[StageRun]:
        """What the stages of all runs of a study took, in the order in which they were written."""
        of_study = _S.run.in_(select(_R.id).where(_searches(study)))
        query = select(*(_S[field.name] for field in fields(StageRun))).where(of_study).order_by(_S.id)
        with self._at_once.connect() as connection:
            return [StageRun(*row) for row in connection.execute(query)]

    def worked(self, study: str) -> Worked:
        """How long the stages of all runs of a study took so far."""
        on_device = _S.ran_on.like(f"{DEVICE}%")
        of_study = _S.run.in_(select(_R.id).where(_searches(study)))
        sums = select(on_device, func.sum(_S.wall_seconds)).where(of_study).group_by(on_device)
        with self._at_once.connect() as connection:
            seconds_on_device = {bool(is_device): float(seconds) for is_device, seconds in connection.execute(sums)}
        return Worked(seconds_on_device.get(False, 0.0), seconds_on_device.get(True, 0.0))

    def by_id(self) -> dict[str, StageRun]:
        """What the runs of stages took, of all studies, by the ids that results name."""
        with self._at_once.connect() as connection:
            rows = connection.execute(select(*(_S[field.name] for field in fields(StageRun))))
            return {run.run_id: run for run in (StageRun(*row) for row in rows)}

    def spent(self, study: str) -> Spent:
        """What all runs of a study have spent so far. What its stages found in the ledger cost it nothing."""
        of_study = _S.run.in_(select(_R.id).where(_searches(study)))
        local = or_(_S.ran_on.not_like(f"{DEVICE}%"), _S.ran_on == LOCAL)
        sums = select(_S.stage, func.sum(_S.cpu_seconds)).where(of_study).group_by(_S.stage)
        core_seconds = select(func.sum(_R.cores * (_R.seen_at - _R.started_at))).where(_searches(study))
        with self._at_once.connect() as connection:
            by_stage = {stage: float(seconds) for stage, seconds in connection.execute(sums)}
            here = connection.execute(select(func.sum(_S.cpu_seconds)).where(and_(of_study, local))).scalar()
            return Spent(by_stage, float(here or 0.0), float(connection.execute(core_seconds).scalar() or 0.0))
