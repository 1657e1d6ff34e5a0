"""When the results of a trial were made, and what that cost."""

from __future__ import annotations

import time

import pytest

from vitsearch.core.record import Keys
from vitsearch.core.stage import Stage
from vitsearch.storage.ledger import ArtifactRow, Ledger, MeasurementRow, TrainingRow
from vitsearch.storage.stage_cost import StageCost

KEYS = Keys("w", "g", "a", "d")


NAMES = ("screen", "measure", "proxy", "train", "export")


def cost(cpu_seconds=0.25, wall=0.5):
    return StageCost(cpu_seconds, {"torch": "2.13"}, time.time(), wall, "worker here/1")


@pytest.fixture
def filled(ledger):
    """The results of a trial; the stage named at place n took n CPU-seconds."""

    def write(stage, row, cpu_seconds):
        spent = cost(cpu_seconds)
        ledger.costs.note(stage, spent)
        ledger.add(row, spent)

    write(Stage.SCREEN, ArtifactRow("s", "screen", "graph", 1, "here", {}), 0)
    write(Stage.MEASURE, MeasurementRow("g", "graph", "d", "e", "screen-1", 0, {}), 1)
    write(Stage.PROXY, TrainingRow("w", 0, {"accuracy": 0.8}, 0.1, 100, None), 2)
    write(Stage.TRAIN, TrainingRow("w", 1, {"accuracy": 0.9}, 0.1, 100, "c"), 3)
    write(Stage.EXPORT, ArtifactRow("a", "model", "file", 1, "here", {}), 4)
    write(Stage.MEASURE, MeasurementRow("g", "file", "other", "e", "screen-1", 0, {}), 5)
    return ledger


def test_each_result_has_its_stage_in_the_order_of_time(filled: Ledger):
    runs = filled.provenance.of_trial(KEYS, [KEYS.device_id])
    assert [run.stage for run in runs] == list(NAMES)
    assert [run.detail for run in runs] == ["", "screen-1", "", "rung 1", ""]
    assert all(run.versions == {"torch": "2.13"} for run in runs)
    assert all(abs(run.made_at - time.time()) < 60 for run in runs)


def test_each_result_has_the_cost_of_the_run_that_made_it(filled: Ledger):
    costs = {run.stage: run.cost for run in filled.provenance.of_trial(KEYS, [KEYS.device_id])}
    assert {stage.value: cost.cpu_seconds for stage, cost in costs.items()} == {
        name: place for place, name in enumerate(NAMES)
    }
    assert {(cost.wall_seconds, cost.ran_on) for cost in costs.values()} == {(0.5, "worker here/1")}


def test_the_result_of_an_equal_file_has_no_cost(ledger: Ledger):
    ledger.add(MeasurementRow("g", "graph", "d", "e", "screen-1", 0, {}), StageCost(0.0))
    assert [run.cost for run in ledger.provenance.of_trial(KEYS, [KEYS.device_id])] == [None]


def test_the_means_of_stages_are_by_name_and_protocol(ledger: Ledger):
    for wall in (1.0, 3.0):
        ledger.costs.note(Stage.EXPORT, cost(wall=wall))
        ledger.costs.note(Stage.MEASURE, cost(wall=2 * wall), "screen-1")
    ledger.costs.write()
    assert ledger.costs.means() == {"export": pytest.approx(2.0), "measure screen-1": pytest.approx(4.0)}
