"""When the results of a trial were made, by which versions of the libraries, and what that cost."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Engine, and_, literal, select

from vitsearch.core.decoding import expect
from vitsearch.core.record import Keys
from vitsearch.core.stage import Stage
from vitsearch.storage.ledger import tables
from vitsearch.storage.ledger.engine import at_once
from vitsearch.storage.ledger.outage import again_when_cut
from vitsearch.storage.stage_cost import StageCost

_C = tables.stage_cost.c


@dataclass(frozen=True)
class StageResult:
    """A stage that made a result of a trial. `made_at`: when the result was written (seconds since 1970, clock of the
    database). `cost` is None where the result of an equal file was used."""

    stage: Stage
    detail: str
    made_at: float
    versions: dict[str, str]
    cost: StageCost | None


@dataclass(frozen=True)
class ResultRuns:
    """Which runs of stages have made the results of a database, by their keys."""

    _by_key: Mapping[tuple[str, ...], Sequence[str]]

    def of(self, keys: Keys, devices: Collection[str]) -> list[str]:
        """The runs that made the results of a trial on these `devices`. Those that it shares with others,
        such as its base, are left out."""
        named = ("weights", keys.weights_key), ("artifact", keys.artifact_key or ""), ("graph", keys.graph_key)
        runs = [run for key in named for run in self._by_key.get(key, ())]
        return [*runs, *(run for device in devices for run in self._by_key.get(("graph", keys.graph_key, device), ()))]


@again_when_cut
class Provenance:
    """Reads when and by what results were made. Part of a ledger."""

    def __init__(self, engine: Engine) -> None:
        self._at_once = at_once(engine)

    def of_trial(self, keys: Keys, devices: Collection[str]) -> list[StageResult]:
        """The stages that made the results under `keys` on these `devices`, in the order of time. Results that a
        trial shares with others, such as its base, are left out."""
        artifacts, trainings, measurements = tables.artifact.c, tables.training.c, tables.measurement.c
        of_graph = and_(measurements.graph_key == keys.graph_key, measurements.device_id.in_(devices))
        screened = select(measurements.artifact_sha256).where(of_graph)
        is_screen = artifacts.kind == Stage.SCREEN.value
        results = [
            *self._runs(Stage.SCREEN, artifacts, and_(is_screen, artifacts.sha256.in_(screened))),
            *self._runs(Stage.MEASURE, measurements, of_graph),
            *self._runs(Stage.PROXY, trainings, and_(trainings.weights_key == keys.weights_key, trainings.rung == 0)),
            *self._runs(Stage.TRAIN, trainings, and_(trainings.weights_key == keys.weights_key, trainings.rung > 0)),
            *self._runs(Stage.EXPORT, artifacts, artifacts.artifact_key == (keys.artifact_key or "")),
        ]
        return sorted(results, key=lambda run: run.made_at)  # those of one millisecond stay in the order of a trial

    def result_runs(self) -> ResultRuns:
        """What made the results of all trials, in four statements."""
        artifacts, trainings, measurements = tables.artifact.c, tables.training.c, tables.measurement.c
        screened = select(measurements.graph_key, artifacts.made_by).distinct()
        screened = screened.join(tables.artifact, artifacts.sha256 == measurements.artifact_sha256)
        on_device = select(measurements.graph_key, measurements.device_id, measurements.made_by)
        queries = {
            "weights": [select(trainings.weights_key, trainings.made_by)],
            "artifact": [select(artifacts.artifact_key, artifacts.made_by)],
            "graph": [screened.where(artifacts.kind == Stage.SCREEN.value), on_device],
        }
        results: dict[tuple[str, ...], list[str]] = defaultdict(list)
        with self._at_once.connect() as connection:
            for name, selects in queries.items():
                for query in selects:
                    for *key, made_by in connection.execute(query):
                        results[(name, *key)].append(made_by)
        return ResultRuns(results)

    def _runs(self, stage: Stage, columns: Any, where: ColumnElement[bool]) -> list[StageResult]:
        detail = {Stage.TRAIN: columns.get("rung"), Stage.MEASURE: columns.get("protocol")}.get(stage)
        of_run = (_C.cpu_seconds, _C.started_at, _C.wall_seconds, _C.ran_on, _C.run_id)
        joined = columns.created_at.table.outerjoin(tables.stage_cost, columns.made_by == _C.run_id)
        query = select(columns.created_at, columns.versions, literal("") if detail is None else detail, *of_run)
        with self._at_once.connect() as connection:
            return [_result(stage, *row) for row in connection.execute(query.select_from(joined).where(where))]


def _result(
    stage: Stage, made_at: float, versions: dict[str, str], detail: str | int, cpu_seconds: float | None, *of_run: Any
) -> StageResult:
    words = f"rung {detail}" if stage == Stage.TRAIN else str(detail)
    cost = None if cpu_seconds is None else StageCost(cpu_seconds, {}, *of_run)
    expect(dict[str, str], versions, f"versions of {stage.value}")
    return StageResult(stage, words, made_at, dict(versions), cost)
