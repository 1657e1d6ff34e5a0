"""What a study has spent, each second once."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from sqlalchemy import text

from support.evaluations import evaluation
from vitsearch.core.stage import Stage
from vitsearch.storage.ledger import ArtifactRow, Ledger
from vitsearch.storage.ledger.costs import Spent, StageRun
from vitsearch.storage.stage_cost import StageCost, StageKind

HERE, THERE, PI = "worker here/1", "device local", "device pi"


@pytest.fixture
def ledger(storage):
    ledger = Ledger.open(storage)
    yield ledger
    ledger.close()


def cost(cpu_seconds, ran_on=HERE, wall_seconds=2.0):
    return StageCost(cpu_seconds, {}, 1000.0, wall_seconds, ran_on)


def rows(ledger, query):
    with ledger._engine.connect() as connection:
        return [tuple(row) for row in connection.execute(text(query))]


def last(ledger, seconds):
    """Let the runs so far have taken this long."""
    with ledger._engine.begin() as connection:
        connection.execute(text(f"UPDATE vs_run SET started_at = 100, seen_at = 100 + {seconds}"))


def test_a_stage_with_two_results_is_counted_once(ledger):
    ledger.costs.start_run("study", 2)
    exported = cost(1.5)
    ledger.costs.note(Stage.EXPORT, exported)
    ledger.add(evaluation("k", "split", [[0, 0, 9], [0, 1, 1]]), exported)
    ledger.add(ArtifactRow("k", "model", "s", 1, "here", {}), exported)
    assert ledger.costs.spent("study").cpu_seconds == {"export": 1.5}


def test_each_cost_has_its_start_its_wall_time_and_where_it_ran(ledger):
    ledger.costs.start_run("study", 2)
    ledger.costs.note(Stage.MEASURE, cost(2.0, PI), "screen-1")
    ledger.costs.write()
    columns = "stage, detail, started_at, wall_seconds, cpu_seconds, ran_on"
    assert rows(ledger, f"SELECT {columns} FROM vs_stage_cost") == [("measure", "screen-1", 1000, 2, 2, PI)]


def test_what_another_study_has_spent_is_not_counted(ledger, storage):
    ledger.costs.start_run("one", 1)
    ledger.costs.note(Stage.TRAIN, cost(1.0))
    ledger.costs.write()
    other = Ledger.open(storage)
    other.costs.start_run("two", 1)
    other.costs.note(Stage.TRAIN, cost(3.0))
    other.close()
    assert ledger.costs.spent("one").cpu_seconds == {"train": 1.0}
    assert ledger.costs.spent("two").cpu_seconds == {"train": 3.0}


def test_work_after_the_search_is_not_counted_as_one(ledger):
    ledger.costs.start_run("one", 1)
    ledger.costs.note(Stage.TRAIN, cost(1.0))
    ledger.costs.write()
    ledger.costs.start_run("one", 1, purpose="afterwards")
    ledger.costs.note(Stage.TRAIN, cost(3.0))
    ledger.costs.write()
    assert ledger.costs.spent("one").cpu_seconds == {"train": 1.0}
    assert len(ledger.costs.runs("one")) == len(ledger.costs.stages("one")) == 1
    assert ledger.costs.worked("one").trainers == cost(1.0).wall_seconds


def took(peak_mb, backbone="vit"):
    return replace(cost(1.0), backbone=backbone, peak_memory_mb=peak_mb)


def test_the_largest_peak_memory_is_known_for_each_stage_and_backbone(ledger):
    ledger.costs.start_run("study", 1)
    for peak_mb in (500.0, 900.0, None):
        ledger.costs.note(Stage.TRAIN, took(peak_mb))
    ledger.costs.note(Stage.TRAIN, took(300.0, "swin"))
    ledger.costs.note(Stage.DATA, took(100.0, ""))
    ledger.costs.note(Stage.EXPORT, took(None))
    ledger.costs.write()
    train, swin, data = (Stage.TRAIN, "vit"), (Stage.TRAIN, "swin"), (Stage.DATA, "")
    expected = {train: 900.0, swin: 300.0, data: 100.0}
    assert ledger.costs.peak_memory_mb("study") == {StageKind(*kind): peak_mb for kind, peak_mb in expected.items()}


def test_the_peak_memory_of_a_study_counts_before_that_of_others(ledger):
    for study, peak_mb in (("small", 400.0), ("large", 9000.0)):
        ledger.costs.start_run(study, 1)
        ledger.costs.note(Stage.TRAIN, took(peak_mb))
        ledger.costs.write()
    kind = StageKind(Stage.TRAIN, "vit")
    assert [ledger.costs.peak_memory_mb(study)[kind] for study in ("small", "new")] == [400.0, 9000.0]


def test_the_busy_share_is_over_the_cores_and_the_time_of_all_runs(ledger):
    for seconds in (10.0, 14.0):
        ledger.costs.start_run("study", 2)
        ledger.costs.note(Stage.TRAIN, cost(seconds))
        ledger.costs.note(Stage.MEASURE, cost(6.0, THERE), "screen-1")
        ledger.costs.note(Stage.MEASURE, cost(100.0, PI), "screen-1")
        ledger.costs.write()
    last(ledger, seconds=20)
    spent = ledger.costs.spent("study")
    assert spent.core_seconds == 80.0
    assert spent.busy_share == pytest.approx(36.0 / 80.0), "a device of its own has cores of its own"


def test_before_a_run_there_is_no_share(ledger):
    assert ledger.costs.spent("study") == Spent()
    assert Spent().busy_share is None


def test_a_run_that_ends_without_a_word_has_lasted_until_it_was_seen_last(ledger, storage):
    began = time.monotonic()
    ledger.costs.start_run("study", 1)
    time.sleep(0.05)
    ledger.costs.record_heartbeat()
    seen, took = ledger.costs.spent("study").core_seconds, time.monotonic() - began
    time.sleep(0.02)
    assert 0.04 < seen < took + 0.02
    assert ledger.costs.spent("study").core_seconds == seen


def test_the_mean_of_what_a_measurement_takes_is_of_one_protocol(ledger):
    assert ledger.costs.measuring_seconds("screen-1") is None
    for protocol, seconds in (("screen-1", 2.0), ("screen-1", 4.0), ("confirm-1", 60.0)):
        ledger.costs.note(Stage.MEASURE, cost(1.0, PI, seconds), protocol)
    ledger.costs.write()
    assert ledger.costs.measuring_seconds("screen-1") == 3.0


def test_the_runs_of_a_study_are_listed_oldest_first(ledger):
    for study, cores in (("study", 2), ("another", 8), ("study", 4)):
        ledger.costs.start_run(study, cores)
    assert [run.cores for run in ledger.costs.runs("study")] == [2, 4]


def test_the_stages_of_a_study_are_listed_with_their_runs(ledger):
    for study in ("study", "another"):
        ledger.costs.start_run(study, 2)
        ledger.costs.note(Stage.MEASURE, cost(2.0, PI, wall_seconds=3.0), "screen-1")
        ledger.costs.write()
    (run,) = ledger.costs.runs("study")
    (stage,) = ledger.costs.stages("study")
    assert replace(stage, run_id="") == StageRun(run.id, "measure", "screen-1", 1000.0, 3.0, 2.0, PI)
