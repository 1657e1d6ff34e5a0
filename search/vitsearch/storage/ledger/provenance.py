"""When the results of a trial were made, by which versions of the libraries, and what that cost."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Engine, Table, and_, select

from vitsearch.core.decoding import expect
from vitsearch.core.record import Keys
from vitsearch.core.stage import Stage
from vitsearch.storage.ledger import tables
from vitsearch.storage.ledger.engine import at_once, shown
from vitsearch.storage.ledger.outage import again_when_cut
from vitsearch.storage.ledger.seals import whole
from vitsearch.storage.stage_cost import StageCost

_C = tables.stage_cost.c
_OF_RUN = ("cpu_seconds", "started_at", "wall_seconds", "ran_on", "run_id")


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
        self._storage = shown(engine)

    def of_trial(self, keys: Keys, devices: Collection[str]) -> list[StageResult]:
        """The stages that made the results under `keys` on these `devices`, in the order of time. Results that a
        trial shares with others, such as its base, are left out."""
        artifacts, trainings, measurements = tables.artifact.c, tables.training.c, tables.measurement.c
        of_graph = and_(measurements.graph_key == keys.graph_key, measurements.device_id.in_(devices))
        screened = select(measurements.artifact_sha256).where(of_graph)
        is_screen = artifacts.kind == Stage.SCREEN.value
        results = [
            *self._runs(Stage.SCREEN, tables.artifact, and_(is_screen, artifacts.sha256.in_(screened))),
            *self._runs(Stage.MEASURE, tables.measurement, of_graph),
            *self._runs(
                Stage.PROXY, tables.training, and_(trainings.weights_key == keys.weights_key, trainings.rung == 0)
            ),
            *self._runs(
                Stage.TRAIN, tables.training, and_(trainings.weights_key == keys.weights_key, trainings.rung > 0)
            ),
            *self._runs(Stage.EXPORT, tables.artifact, artifacts.artifact_key == (keys.artifact_key or "")),
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

    def _runs(self, stage: Stage, table: Table, where: ColumnElement[bool]) -> list[StageResult]:
        joined = table.outerjoin(tables.stage_cost, table.c.made_by == _C.run_id)
        query = select(*table.c, *(_C[name] for name in _OF_RUN)).select_from(joined).where(where)
        with self._at_once.connect() as connection:
            return [_result(stage, row) for row in whole(connection, query, table, self._storage)]


def _result(stage: Stage, row: Mapping[str, Any]) -> StageResult:
    words = {Stage.TRAIN: f"rung {row.get('rung')}", Stage.MEASURE: str(row.get("protocol"))}.get(stage, "")
    cost = None if row["cpu_seconds"] is None else StageCost(versions={}, **{name: row[name] for name in _OF_RUN})
    versions = row["versions"].value(f"versions of {stage.value}")
    expect(dict[str, str], versions, f"versions of {stage.value}")
    return StageResult(stage, words, row["created_at"], versions, cost)
