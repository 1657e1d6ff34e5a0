"""One trial, from a plan to its record."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from vitsearch.core.limits import Bound
from vitsearch.core.pareto import loss
from vitsearch.core.plan import Compression
from vitsearch.core.stage import Stage
from vitsearch.errors import StageError
from vitsearch.search.goals import Goals
from vitsearch.search.posterior import Posterior
from vitsearch.search.scheduler import Rules, TrialScheduler
from vitsearch.search.trial import failure, run_trial
from vitsearch.stages import BaseJob, BlockStructureJob, ExportJob, LogitsJob, ProxyJob, ScreenJob, TrainJob
from vitsearch.storage.ledger import Ledger
from vitsearch_agent.errors import DeviceUnreachable
from vitsearch_agent.wire.protocol import SCREEN

OBJECTIVES = ("accuracy", "cpu_ms_p50")
REFERENCE = loss(OBJECTIVES, {"accuracy": 0.8, "cpu_ms_p50": 4.0})


@pytest.fixture
def ledger(fake_study):
    ledger = Ledger.open(fake_study.space.storage)
    yield ledger
    ledger.close()


@pytest.fixture
def run(fake_study, ledger):
    """Runs trials of these plans, one scheduler and one pipeline for all."""
    pipeline = fake_study.pipeline(ledger)

    def run_(*plans, bounds=(), candidates=1):
        posterior = Posterior(Goals(OBJECTIVES, bounds, REFERENCE, 0.01), {}, pipeline.bases)
        scheduler = TrialScheduler(Rules(candidates, 9, 99), posterior)

        async def all_():
            return await asyncio.gather(
                *(run_trial(number, plan, pipeline, scheduler) for number, plan in enumerate(plans))
            )

        return asyncio.run(all_())

    return run_


@pytest.fixture
def cut(plan):
    return replace(plan, compression=Compression(0.5, 0.5))


def test_a_plan_that_keeps_all_limits_is_confirmed(run, cut):
    (record,) = run(cut)
    assert (record.outcome, record.rung, record.was_trained) == ("confirmed", 1, True)
    assert record.keys.artifact_key is not None
    assert record.proxy.figures["accuracy"].value < record.metrics.value("accuracy")
    assert record.metrics.value("cpu_ms_p50") == pytest.approx(2.0)


def test_what_is_infeasible_at_the_screen_is_never_trained(run, cut, fake_study):
    (record,) = run(cut, bounds=(Bound("cpu_ms_p50", "<=", 1.0),))
    assert (record.outcome, record.reason) == ("infeasible", "its screening measurement breaks cpu_ms_p50<=1")
    assert record.metrics.value("cpu_ms_p50") > 1
    stages = fake_study.runner.runs
    assert (stages["screen"], stages["proxy"], stages["train"], stages["export"]) == (1, 0, 0, 0)
    assert fake_study.device.measured == {SCREEN.id: 1}


def test_what_breaks_a_limit_only_when_confirmed_is_trained_and_infeasible(run, cut):
    (record,) = run(cut, bounds=(Bound("latency_ms_p95", "<=", 1.0),))
    assert (record.outcome, record.was_trained, record.feasible) == ("confirmed", True, False)


def test_two_plans_with_one_effect_are_one(run, cut):
    nearly = replace(cut, compression=replace(cut.compression, ffn_pruning_ratio=0.5001))
    first, second = run(cut, nearly)
    assert first.outcome == "confirmed"
    assert (second.outcome, second.duplicate_of, second.plan) == ("duplicate", 0, nearly)


JOBS = {
    "base": BaseJob, "block_structure": BlockStructureJob, "screen": ScreenJob, "logits": LogitsJob, "proxy": ProxyJob,
    "train": TrainJob, "export": ExportJob,
}  # fmt: skip


@pytest.mark.parametrize("stage", JOBS)
def test_a_stage_that_fails_is_told_with_stage_kind_and_message(run, cut, fake_study, stage):
    def fail(job):
        if isinstance(job, JOBS[stage]):
            raise StageError(stage, "crash", "what happened")

    fake_study.runner.before = fail
    (record,) = run(cut)
    assert (record.outcome, record.reason) == ("failed", f"{Stage(stage).words} failed (crash): what happened")
    assert record.failure == {"stage": stage, "kind": "crash", "message": "what happened"}
    assert (record.keys is None) == (stage in ("base", "block_structure"))


def test_a_measurement_that_fails_is_told(run, cut, fake_study):
    def fail(path):
        raise StageError("measure", "wrong_output", "nan")

    fake_study.device.before = fail
    (record,) = run(cut)
    assert record.failure == {"stage": "measure", "kind": "wrong_output", "message": "nan"}


@pytest.mark.parametrize("kind", ["out_of_memory", "incompatible_artifact"])
def test_what_the_device_cannot_hold_does_not_fit(run, cut, fake_study, kind):
    def fail(path):
        raise StageError("measure", kind, "512 MB are not enough")

    fake_study.device.before = fail
    (record,) = run(cut)
    assert (record.outcome, record.reason) == ("does_not_fit", "512 MB are not enough")
    assert record.constraints == {"fits": 1.0}
    assert fake_study.runner.runs["train"] == 0


def test_a_worker_without_memory_is_a_failure(plan):
    assert failure(plan, StageError("train", "out_of_memory", "x")).outcome == "failed"


def test_a_device_that_is_gone_is_no_verdict_on_the_plan(run, cut, fake_study):
    def gone(path):
        raise DeviceUnreachable("gone")

    fake_study.device.before = gone
    with pytest.raises(DeviceUnreachable):
        run(cut)


def test_each_rung_starts_from_the_one_before(run, cut, fake_study):
    starts = []
    fake_study.runner.before = lambda job: starts.append((job.start, job.end)) if isinstance(job, TrainJob) else None
    (record,) = run(replace(cut, recipe=replace(cut.recipe, rungs=(0, 1, 3))))
    assert (record.rung, starts) == (3, [(0, 1), (1, 3)])


def test_a_plan_whose_interval_decides_is_measured_again_before_anything_is_trained(run, fake_study, cut, monkeypatch):
    trainings = []

    def decides(scheduler, trial):
        trainings.append(fake_study.runner.runs["train"])
        return len(trainings) == 1

    monkeypatch.setattr(TrialScheduler, "interval_decides", decides)
    (record,) = run(cut)
    assert record.was_trained
    assert fake_study.device.measured[SCREEN.id] == 2
    assert trainings == [0, 0]
