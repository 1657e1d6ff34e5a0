"""A trial of Tune between the two fakes: rungs, ends, and what a second process repeats."""

from __future__ import annotations

import asyncio
import math
from contextlib import contextmanager
from dataclasses import dataclass, replace

import pytest

from vitsearch.core.stage import Stage
from vitsearch.errors import StageError
from vitsearch.search.session import Session
from vitsearch.stages import ExportJob, ScreenJob, TrainJob
from vitsearch.storage.driver_id import DriverId
from vitsearch.storage.ledger import Ledger
from vitsearch.study.identity import adopt_data, adopt_judge
from vitsearch.study.study import Study
from vitsearch.testing.fakes import DATA, FakeRunner, fake_accuracy, fake_judged
from vitsearch.tune import knobs, rungs
from vitsearch.tune.rungs import RungTrial, ThreadRunner

CUT = {
    "resolution@fake_vit": 28.0,
    "head_pruning_ratio": 0.5,
    "ffn_pruning_ratio": 0.5,
    "pruning_scope": "uniform",
    "quantization@onnxruntime": "fp32",
}


@pytest.fixture(autouse=True)
def _fake_backbone(fake_study, monkeypatch):
    for module in (knobs, rungs):
        monkeypatch.setattr(module, "plan_space", lambda *arguments: fake_study.plans())
    monkeypatch.setattr(rungs, "deployable_on", lambda devices: lambda deployment: None)


@pytest.fixture
def trial_of(fake_study):
    """A trial of Tune in a process of its own: with its own connections, and nothing that it remembers."""

    @contextmanager
    def opened(config, study=fake_study):
        ledger, opened_study = Ledger.open(study.space.storage), Study.open(study.space)
        adopt_data(opened_study, DATA)
        adopt_judge(opened_study, DATA["fingerprint"])
        driver = DriverId.current()
        session = Session(study.space, opened_study, ledger, study.runner, study.device, driver, 1, study.progress)
        yield RungTrial(config, session, study.pipeline(ledger, driver))
        opened_study.close()
        ledger.close()

    return opened


def steps(trial, *numbers):
    async def all_():
        return [await trial.step(number) for number in numbers]

    return asyncio.run(all_())


def test_each_step_is_a_rung_and_the_last_one_confirms(fake_study, trial_of):
    with trial_of(CUT) as trial:
        refitted, trained, confirmed = steps(trial, 0, 1, 2)
    assert [result["done"] for result in (refitted, trained, confirmed)] == [False, False, True]
    assert [result["rung"] for result in (refitted, trained, confirmed)] == [0, 1, 1]
    assert refitted["accuracy"] < trained["accuracy"]
    assert refitted["predicted_accuracy"] != refitted["accuracy"]
    assert all(result["cpu_ms_p50"] == confirmed["cpu_ms_p50"] > 0.0 for result in (refitted, trained))
    assert confirmed["outcome"] == "confirmed"
    assert refitted.keys() <= confirmed.keys()
    record = fake_study.records()[confirmed["trial"]]
    assert (record.outcome, record.metrics.value("accuracy")) == ("confirmed", confirmed["accuracy"])
    with fake_study.opened() as (study, _):
        (optuna_trial,) = study.as_optuna()
    assert optuna_trial.params == CUT
    assert optuna_trial.values == [confirmed["accuracy"], confirmed["cpu_ms_p50"]]


def test_a_second_process_goes_on_at_its_rung_and_repeats_nothing(fake_study, trial_of):
    with trial_of(CUT) as trial:
        steps(trial, 0, 1)
    stages, measured = fake_study.runner.runs.copy(), fake_study.device.measured.copy()
    with trial_of(CUT) as trial:
        (again,) = steps(trial, 1)
        assert (fake_study.runner.runs, fake_study.device.measured) == (stages, measured)
        (confirmed,) = steps(trial, 2)
    assert again["rung"] == 1
    assert fake_study.runner.runs - stages == {Stage.EXPORT: 1}
    with trial_of(CUT) as trial:
        assert steps(trial, 2) == [confirmed]
    assert len(fake_study.records()) == 1


def test_a_plan_that_needs_no_training_is_confirmed_at_once(fake_study, trial_of):
    with trial_of(CUT | {"head_pruning_ratio": 0.0, "ffn_pruning_ratio": 0.0}) as trial:
        _, confirmed = steps(trial, 0, 1)
    assert (confirmed["done"], confirmed["outcome"], confirmed["rung"]) == (True, "confirmed", 0)
    assert fake_study.runner.runs[Stage.TRAIN] == 0


def test_a_plan_that_breaks_a_limit_ends_with_the_reason(fake_study, trial_of):
    tight = fake_study.with_space(limits={"cpu_ms_p50": {"max": 0.5}})
    with trial_of(CUT, tight) as trial:
        (ended,) = steps(trial, 0)
    assert (ended["done"], ended["outcome"]) == (True, "infeasible")
    assert "breaks cpu_ms_p50<=0.5" in ended["reason"]
    assert math.isnan(ended["accuracy"])
    assert tight.records()[ended["trial"]].outcome == "infeasible"
    assert tight.runner.runs[Stage.TRAIN] == 0


def test_a_plan_that_the_device_cannot_hold_ends_with_the_reason(fake_study, trial_of):
    def refuse(path):
        if '"cost_ms": 2.0' in path.read_text():  # that of CUT
            raise StageError("measure", "out_of_memory", "it needs 3 GB")

    fake_study.device.before = refuse
    with trial_of(CUT) as trial:
        (ended,) = steps(trial, 0)
    assert (ended["done"], ended["outcome"], ended["reason"]) == (True, "does_not_fit", "it needs 3 GB")
    assert fake_study.records()[ended["trial"]].constraints == {"fits": 1.0}


def test_what_the_device_has_no_runtime_for_ends_with_the_reason_and_is_not_in_the_study(
    fake_study, trial_of, monkeypatch
):
    monkeypatch.setattr(rungs, "deployable_on", lambda devices: lambda deployment: "it has no such kernel")
    monkeypatch.setattr(type(fake_study.plans()), "contains", lambda plans, plan: False)
    with trial_of(CUT) as trial:
        (ended,) = steps(trial, 0)
    assert (ended["outcome"], ended["reason"], ended["trial"]) == ("does_not_fit", "it has no such kernel", None)


def test_a_stage_that_fails_is_an_error_of_the_trial_and_recorded_once(fake_study, trial_of):
    def fail(job):
        if isinstance(job, TrainJob):
            raise StageError("train", "not_finite", "the loss is NaN at step 3")

    fake_study.runner.before = fail
    for _ in range(2):  # Tune may try it again
        with trial_of(CUT) as trial, pytest.raises(StageError, match="NaN at step 3"):
            steps(trial, 0, 1)
    assert [record.outcome for record in fake_study.records().values()] == ["failed"]


def test_stages_run_beside_the_event_loop_and_fail_as_stages(monkeypatch):
    def broken(job):
        raise RuntimeError("CUDA error")

    monkeypatch.setattr(rungs, "run_task", broken)
    job = object.__new__(ScreenJob)
    with pytest.raises(StageError, match=r"RuntimeError.*CUDA error"):
        asyncio.run(ThreadRunner().run(job))


@dataclass
class LossyRunner(FakeRunner):
    """Files in int8 classify 5 % of the images worse than the weights do."""

    def _answer(self, job):
        answer = super()._answer(job)
        if isinstance(job, ExportJob) and job.deployment.precision != "fp32":
            accuracy = fake_accuracy(job.spec.resolved, trained=job.checkpoint_sha256 is not None)
            return replace(answer, judged=fake_judged(accuracy - 0.05))
        return answer


def test_rungs_count_what_the_unpruned_model_loses_in_the_deployment(fake_study, trial_of):
    fake_study.runner = LossyRunner()
    with trial_of(CUT) as trial:
        whole = steps(trial, 0, 1)
    with trial_of(CUT | {"quantization@onnxruntime": "int8_dynamic"}) as trial:
        rounded = steps(trial, 0, 1)
    for name in ("accuracy", "predicted_accuracy"):
        lost = [fp32[name] - int8[name] for fp32, int8 in zip(whole, rounded, strict=True)]
        assert lost == pytest.approx([0.05, 0.05])
    assert fake_study.runner.runs[Stage.TRAIN] == 1


@pytest.mark.parametrize(("limit", "times"), [(2.0, 2), (3.0, 1)])
def test_a_plan_of_which_only_the_interval_breaks_a_limit_is_measured_again(fake_study, trial_of, limit, times):
    """CUT takes 2.0 ms, and 2.0002 at the worse end."""
    screened = []
    fake_study.device.before = lambda path: screened.append(path) if '"cost_ms": 2.0' in path.read_text() else None
    with trial_of(CUT, fake_study.with_space(limits={"cpu_ms_p50": {"max": limit}})) as trial:
        steps(trial, 0)
    assert len(screened) == times
