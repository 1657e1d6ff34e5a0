"""When the results of a trial were made, by which versions of the libraries, and what that cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Engine, and_, select

from vitsearch.core.record import Keys
from vitsearch.core.stage import Stage
from vitsearch.storage.ledger import tables
from vitsearch.storage.stage_cost import StageCost

_C = tables.stage_cost.c
SECONDS_TO_WRITE = 2.0
"""A result is written at most this long after its stage has ended; the costs of stages do not name their results."""
SECONDS_APART = 0.25
"""Two stages of a kind that ended less apart are not told apart."""


@dataclass(frozen=True)
class StageResult:
    """A stage that made a result of a trial. ``made_at``: when the result was written (seconds since 1970, clock of the
    database). ``cost`` is None where it cannot be told: another stage of this kind ended at the same time, the
    result of an equal file was used, or the clocks of driver and database differ."""

    stage: Stage
    detail: str
    made_at: float
    versions: dict[str, str]
    cost: StageCost | None


class Provenance:
    """Reads when and by what results were made. Part of a ledger."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def of_trial(self, keys: Keys) -> list[StageResult]:
        """The stages that made the results under ``keys``, in the order of time. Results that a trial shares with
        others, such as its base, are left out."""
        artifacts, trainings, measurements = tables.artifact.c, tables.training.c, tables.measurement.c
        of_graph = and_(measurements.graph_key == keys.graph_key, measurements.device_id == keys.device_id)
        screened = select(measurements.artifact_sha256).where(of_graph)
        is_screen = artifacts.kind == Stage.SCREEN.value
        found = [
            *self._runs(Stage.SCREEN, artifacts, and_(is_screen, artifacts.sha256.in_(screened))),
            *self._runs(Stage.MEASURE, measurements, of_graph),
            *self._runs(Stage.PROXY, trainings, and_(trainings.weights_key == keys.weights_key, trainings.rung == 0)),
            *self._runs(Stage.TRAIN, trainings, and_(trainings.weights_key == keys.weights_key, trainings.rung > 0)),
            *self._runs(Stage.EXPORT, artifacts, artifacts.artifact_key == (keys.artifact_key or "")),
        ]
        return sorted(found, key=lambda run: run.made_at)  # those of one millisecond stay in the order of a trial

    def _runs(self, stage: Stage, columns: Any, where: ColumnElement[bool]) -> list[StageResult]:
        detail = {Stage.TRAIN: "rung", Stage.MEASURE: "protocol"}.get(stage)
        asked = [columns.created_at, columns.versions, *([columns[detail]] if detail else [])]
        with self._engine.connect() as connection:
            rows = connection.execute(select(*asked).where(where)).all()
            return [
                StageResult(
                    stage,
                    "" if detail is None else f"rung {row[2]}" if detail == "rung" else str(row[2]),
                    float(row[0]),
                    dict(row[1]),
                    self._cost(connection, stage, float(row[0])),
                )
                for row in rows
            ]

    def _cost(self, connection: Any, stage: Stage, made_at: float) -> StageCost | None:
        """The run of a stage that ended just before its result was written."""
        ended = _C.started_at + _C.wall_seconds
        asked = (
            select(_C.cpu_seconds, _C.started_at, _C.wall_seconds, _C.ran_on)
            .where(and_(_C.stage == stage.value, ended > made_at - SECONDS_TO_WRITE, ended < made_at + 0.1))
            .order_by(ended.desc())
        )
        rows = connection.execute(asked).all()
        ends = [started + wall for _, started, wall, _ in rows]
        if not rows or (len(rows) > 1 and ends[0] - ends[1] < SECONDS_APART):
            return None
        cpu, started, wall, ran_on = rows[0]
        return StageCost(float(cpu), {}, float(started), float(wall), str(ran_on))
