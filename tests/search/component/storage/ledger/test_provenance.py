"""When the results of a trial were made, and what that cost."""

from __future__ import annotations

import time

import pytest

from vitsearch.core.record import Keys
from vitsearch.core.stage import Stage
from vitsearch.storage.ledger import ArtifactRow, Ledger, MeasurementRow, TrainingRow
from vitsearch.storage.stage_cost import StageCost

KEYS = Keys("w", "g", "a", "d")


def cost(seconds_ago=0.5, wall=0.5, name="worker here/1"):
    return StageCost(0.25, {"torch": "2.13"}, time.time() - seconds_ago, wall, name)


@pytest.fixture
def made(ledger):
    """The results of a trial, each written just after its stage has ended."""

    def write(stage, row, *costs):
        for one in costs:
            ledger.costs.note(stage, one)
        ledger.add(row, StageCost(0.0, {"torch": "2.13"}))

    write(Stage.SCREEN, ArtifactRow("s", "screen", "graph", 1, "here", {}), cost())
    write(Stage.MEASURE, MeasurementRow("g", "graph", "d", "e", "screen-1", 0, {}), cost(name="device local"))
    write(Stage.PROXY, TrainingRow("w", 0, 0.8, 0.1, 100, None), cost())
    write(Stage.TRAIN, TrainingRow("w", 1, 0.9, 0.1, 100, "c"), cost(), cost())
    write(Stage.EXPORT, ArtifactRow("a", "model", "file", 1, "here", {}))
    write(Stage.MEASURE, MeasurementRow("g", "file", "other", "e", "screen-1", 0, {}), cost())
    return ledger


def test_each_result_has_its_stage_in_the_order_of_time(made: Ledger):
    found = made.provenance.of_trial(KEYS)
    assert [(run.stage, run.detail) for run in found] == [
        ("screen", ""),
        ("measure", "screen-1"),
        ("proxy", ""),
        ("train", "rung 1"),
        ("export", ""),
    ]
    assert all(run.versions == {"torch": "2.13"} for run in found)
    assert all(abs(run.made_at - time.time()) < 60 for run in found)


def test_the_cost_is_that_of_the_stage_that_ended_just_before(made: Ledger):
    by_stage = {run.stage: run.cost for run in made.provenance.of_trial(KEYS)}
    assert by_stage["proxy"].cpu_seconds == 0.25
    assert by_stage["screen"].ran_on == "worker here/1"


def test_two_stages_that_ended_together_are_not_told_apart(made: Ledger):
    by_stage = {run.stage: run.cost for run in made.provenance.of_trial(KEYS)}
    assert by_stage["train"] is None


def test_a_result_whose_stage_was_not_noted_has_no_cost(made: Ledger):
    by_stage = {run.stage: run.cost for run in made.provenance.of_trial(KEYS)}
    assert by_stage["export"] is None


def test_a_stage_that_ended_long_before_is_not_taken(ledger: Ledger):
    ledger.costs.note(Stage.EXPORT, cost(seconds_ago=60.0))
    ledger.add(ArtifactRow("a", "model", "file", 1, "here", {}), StageCost(0.0))
    assert [run.cost for run in ledger.provenance.of_trial(KEYS)] == [None]


def test_the_means_of_stages_are_by_name_and_protocol(ledger: Ledger):
    for wall in (1.0, 3.0):
        ledger.costs.note(Stage.EXPORT, cost(wall=wall))
        ledger.costs.note(Stage.MEASURE, cost(wall=2 * wall), "screen-1")
    ledger.costs.write()
    assert ledger.costs.means() == {"export": pytest.approx(2.0), "measure screen-1": pytest.approx(4.0)}
