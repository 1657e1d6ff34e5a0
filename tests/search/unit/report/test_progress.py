"""How the front grew, over what the study had spent."""

from __future__ import annotations

import math

import pytest

from vitsearch.report.progress import progress
from vitsearch.storage.ledger.costs import Run, StageRun

OBJECTIVES = ("accuracy", "cpu_ms_p50")
REFERENCE = {"accuracy": 0.8, "cpu_ms_p50": 4.0}
RUNS = [Run(1, "here", 2, 100.0, 200.0), Run(2, "here", 2, 1000.0, 1100.0)]
STAGES = [
    StageRun(1, "train", "", 100.0, 20.0, 15.0, "worker here/1"),
    StageRun(1, "measure", "screen-1", 130.0, 10.0, 3.0, "device local"),
    StageRun(2, "train", "", 1000.0, 50.0, 40.0, "worker here/1"),
]


def steps(*trials, trained=None, reference=REFERENCE, runs=RUNS):
    return progress(trials, trained or {}, OBJECTIVES, reference, runs, STAGES)


def test_the_hypervolume_grows_with_each_model_of_the_front(trial):
    first = trial(0, "front", accuracy=0.9, cpu_ms_p50=2.0, ended_s=150.0)
    better = trial(1, "front", accuracy=0.9, cpu_ms_p50=1.0, ended_s=1050.0)
    curve = steps(first, better)
    assert [step.hypervolume for step in curve] == pytest.approx(
        [0.1 * math.log(2), 0.1 * math.log(4), 0.1 * math.log(4)]
    )


def test_a_dominated_model_does_not_add(trial):
    curve = steps(
        trial(0, "front", accuracy=0.9, cpu_ms_p50=1.0, ended_s=150.0),
        trial(1, "dominated", accuracy=0.85, cpu_ms_p50=2.0, ended_s=160.0),
    )
    assert curve[0].hypervolume == curve[1].hypervolume


def test_trials_that_are_no_models_have_no_step(trial):
    over = trial(0, "over a limit", accuracy=0.9, cpu_ms_p50=1.0, ended_s=150.0)
    assert steps(over, trial(1, "not trained", cpu_ms_p50=1.0, ended_s=160.0)) == ()


def test_breaks_between_runs_cost_nothing(trial):
    curve = steps(trial(0, "front", accuracy=0.9, cpu_ms_p50=1.0, ended_s=1050.0))
    assert [step.run_s for step in curve] == [150.0, 200.0]


def test_spending_is_that_of_stages_that_had_ended(trial):
    curve = steps(
        trial(0, "front", accuracy=0.9, cpu_ms_p50=2.0, ended_s=125.0),
        trial(1, "front", accuracy=0.9, cpu_ms_p50=1.0, ended_s=1060.0),
    )
    assert [(step.worker_cpu_s, step.device_s) for step in curve] == [(15.0, 0.0), (55.0, 10.0), (55.0, 10.0)]


def test_a_training_counts_once(trial):
    trials = [
        trial(number, "front", accuracy=0.9, cpu_ms_p50=1.0 + number, ended_s=150.0 + number) for number in range(3)
    ]
    assert [step.trainings for step in steps(*trials, trained={"weights": 1})] == [0, 1, 1, 1]


@pytest.mark.parametrize("reference", [None, {}])
def test_without_a_reference_point_there_are_no_steps(trial, reference):
    assert steps(trial(0, "front", accuracy=0.9, cpu_ms_p50=1.0, ended_s=150.0), reference=reference) == ()


def test_a_study_without_runs_has_no_steps(trial):
    assert steps(trial(0, "front", accuracy=0.9, cpu_ms_p50=1.0, ended_s=150.0), runs=[]) == ()
