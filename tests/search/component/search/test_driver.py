"""The search from baseline to front, between two fakes."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from optuna.trial import TrialState

from support import TESTS
from vitsearch.core.record import SMALL_KL, trainings
from vitsearch.core.stage import Stage
from vitsearch.errors import StageError, StudyError
from vitsearch.pipeline.jobs import ExportJob, ScreenJob, TrainJob
from vitsearch.pipeline.measure import rounds_of
from vitsearch.pipeline.progress import Silent
from vitsearch.search import driver
from vitsearch.search.driver import SearchEnd
from vitsearch.storage.files import FileStore
from vitsearch.study.front import read_front
from vitsearch.testing.fakes import FakeDevice, FakeRunner
from vitsearch_evaluators.errors import DeviceUnreachable
from vitsearch_evaluators.wire.protocol import CONFIRM


@dataclass
class Notes(Silent):
    said: list[str] = field(default_factory=list)

    def note(self, text):
        self.said.append(text)


def trained(study):
    """Weights are trained once for all their deployments."""
    return len(trainings(study.records()))


def artifacts(study):
    """The exported files: of the leaderboard, and of what was trained in all the deployments that were asked for."""
    return len({record.keys.artifact_key for record in study.records().values() if record.is_confirmed})


def numbers_by_state(study):
    with study.opened() as (opened, _):
        return Counter(trial.state for trial in opened._study.get_trials())


def test_a_run_trains_what_the_file_asks_for_and_ends_with_a_front(finished):
    with finished.opened() as (study, ledger):
        front = read_front(study, ledger)
        assert study.unfinished() == 0
    assert finished.ended == SearchEnd("8 plans are trained", complete=True)
    assert trained(finished) == 8
    assert len(front.points) >= 3
    assert all(point.feasible for point in front.points)


def test_a_second_run_makes_nothing_new(finished):
    before = Counter(finished.runner.made), Counter(finished.device.measured), len(finished.records())
    assert finished.run().complete
    assert (finished.runner.made, finished.device.measured, len(finished.records())) == before


def test_a_study_whose_files_are_gone_goes_on_and_makes_them_again(fake_study):
    fake_study.run()
    store = FileStore(fake_study.folder / "artifacts")
    shutil.rmtree(store.root)
    assert fake_study.with_space(search__trials=10).run().complete
    with fake_study.opened() as (study, ledger):
        records = study.records()
        assert len(trainings(records)) == 10
        keys = [record.keys for record in records.values() if record.was_trained]
        assert all(store.holds(ledger.artifact(key.artifact_key).sha256) for key in keys)


def test_a_model_that_cannot_be_made_again_does_not_end_the_run(fake_study):
    fake_study.run()
    shutil.rmtree(fake_study.folder / "artifacts")

    def fail(job):
        if isinstance(job, TrainJob):
            raise StageError("train", "crash", "no more")

    notes = Notes()
    again = replace(fake_study, runner=FakeRunner(before=fail), progress=notes)
    assert again.run().complete
    assert any(
        "its file is gone and cannot be made again: training failed (crash): no more" in said for said in notes.said
    )


def test_each_stage_is_made_once(finished):
    made = finished.runner.made
    assert made["base"] == 1
    assert made["block_structure"] == 2  # one for each resolution
    assert made["logits"] == 2  # validation and training images
    assert made["train"] == trained(finished)
    assert made["export"] == artifacts(finished)


def test_trained_weights_are_asked_for_in_the_deployments_that_may_be_on_the_front(finished):
    """int8 costs less than half of fp32 in the fakes and loses nothing."""
    precisions = {}
    for record in finished.records().values():
        if record.was_trained:
            precisions.setdefault(record.keys.weights_key, set()).add(record.plan.deployment.precision)
    assert {"fp32", "int8_dynamic"} in precisions.values()
    with finished.opened() as (study, _):
        whys = [trial.user_attrs.get("enqueued") or "" for trial in study._study.get_trials()]
    assert any(why.startswith("another deployment of trial") for why in whys)


def test_a_plan_next_to_its_base_is_confirmed_without_training(finished):
    near = [record for record in finished.records().values() if record.proxy and record.proxy.kl < SMALL_KL]
    assert all(record.rung == 0 or record.outcome != "confirmed" for record in near)


def test_every_trial_is_told_in_full(finished):
    for record in finished.records().values():
        assert record.keys is not None
        assert record.outcome == "confirmed" or record.reason
        if record.was_trained:
            assert {"accuracy", "cpu_ms_p50", "size_mb", "macs_m", "params_m"} <= record.metrics.values.keys()
            assert record.metrics.value("cpu_ms_p50") > 0
            assert record.metrics.intervals.keys() >= {"accuracy", "cpu_ms_p50"}
            assert (record.rung, record.keys.artifact_key is None) == (1, False)


def test_the_study_remembers_baseline_reference_and_leaderboard(finished):
    with finished.opened() as (study, _):
        known = study.attributes
        assert known["baseline"]["metrics"]["values"]["accuracy"] == 0.89
        assert known["reference_point"] == pytest.approx({"accuracy": 0.86, "cpu_ms_p50": 3.6 * 1.1})
        rows = [
            (row["plan"]["deployments"][0]["precision"], row["values"]["cpu_ms_p50"]) for row in known["leaderboard"]
        ]
        assert rows == [("fp32", pytest.approx(3.6)), ("int8_dynamic", pytest.approx(3.6 * 0.42))]
        assert [row["shares"] for row in known["leaderboard"]] == [{"fp32": 1.0}, {"int8": 0.96, "fp32": 0.04}]


def test_a_larger_number_of_trials_goes_on(fake_study):
    for trials in (2, 4):
        assert fake_study.with_space(search__trials=trials).run().complete
        assert trained(fake_study) == trials
        assert fake_study.runner.made["train"] == trained(fake_study)


def test_no_trials_are_the_baseline_and_the_leaderboard_alone(fake_study):
    none = fake_study.with_space(search__trials=0)
    assert none.run() == SearchEnd("0 plans are trained", complete=True)
    assert {record.rung for record in none.records().values()} == {0}
    assert len(none.records()) == len(list(none.plans().leaderboard()))
    assert none.runner.made.keys() == {"base", "block_structure", "export"}
    with none.opened() as (study, _):
        assert [row["values"]["accuracy"] for row in study.attributes["leaderboard"]] == [0.89, 0.89]


def test_two_places_train_no_plan_too_many(fake_study):
    few = fake_study.with_space(search__trials=4)
    assert replace(few, slots=3).run().complete
    assert trained(few) == 4


def test_several_rungs_end_with_all_plans_trained(fake_study):
    fine_tune = fake_study.space.task.fine_tune.model_dump(mode="json") | {"rungs": [0, 1, 3]}
    assert fake_study.with_space(task__fine_tune=fine_tune, search__trials=4).run().complete
    records = [record for record in fake_study.records().values() if record.was_trained]
    assert {record.rung for record in records} == {3}
    assert len(trainings(dict(enumerate(records)))) == 4


def test_a_plan_that_fails_in_training_is_replaced_by_another(fake_study):
    few = fake_study.with_space(search__trials=3)

    def break_the_last(job):
        if isinstance(job, ExportJob) and few.runner.made["export"] == 4:
            few.runner.before = lambda job: None
            raise StageError("export", "parity", "outputs differ")

    few.runner.before = break_the_last
    assert few.run().complete
    assert trained(few) == 3
    (failed,) = [r for r in few.records().values() if r.outcome == "failed" and r.duplicate_of is None]
    assert failed.failure == {"stage": "export", "kind": "parity", "message": "outputs differ"}


def refuse_int8(job):
    if isinstance(job, ScreenJob | ExportJob) and job.deployment.precision != "fp32":
        raise StageError("screen", "export", "no such operator")


def test_a_model_that_fails_on_the_leaderboard_stops_nothing(fake_study):
    notes = Notes()
    few = replace(fake_study.with_space(search__trials=2), progress=notes)
    few.runner.before = refuse_int8
    assert few.run().complete
    assert (
        "leaderboard: fake_vit@28 int8_dynamic  exporting an untrained model failed (export): no such operator"
        in notes.said
    )
    assert {record.plan.deployment.precision for record in few.records().values() if record.was_trained} == {"fp32"}


class ConstantModels(FakeRunner):
    """Every unpruned model predicts one class."""

    def _answer(self, job):
        answer = super()._answer(job)
        is_unpruned = isinstance(job, ExportJob) and job.checkpoint_sha256 is None
        return replace(answer, only_class="Shirt") if is_unpruned else answer


def test_a_base_that_predicts_one_class_only_is_named_wherever_it_is_kept(fake_study):
    notes = Notes()
    few = replace(fake_study.with_space(search__trials=0), progress=notes, runner=ConstantModels())
    assert few.run().complete
    reason = "the model predicts one class only, 'Shirt'"
    said = [line for line in notes.said if line.endswith(reason)]
    assert [line.partition(":")[0] for line in said] == ["baseline", "leaderboard", "leaderboard"]
    with few.opened() as (study, ledger):
        assert all(row["notes"] == {"accuracy": reason} for row in study.attributes["leaderboard"])
        assert read_front(study, ledger).baseline.metrics.notes == {"accuracy": reason}


def test_a_failed_plan_is_not_made_again_by_a_second_run(fake_study, monkeypatch):
    monkeypatch.setattr(driver, "PROPOSALS_WITHOUT_GAIN", 8)

    few = fake_study.with_space(space__head_pruning_ratio=[0.0], space__resolution=[28], search__trials=2)
    few.runner.before = refuse_int8
    few.run()
    failed = {
        (record.keys.weights_key, record.keys.graph_key)
        for record in few.records().values()
        if record.outcome == "failed"
    }
    few.runner.before = lambda job: None
    few.with_space(search__trials=4).run()
    assert failed
    assert not failed & {
        (record.keys.weights_key, record.keys.graph_key) for record in few.records().values() if record.was_trained
    }


def test_a_failed_plan_is_tried_again_when_that_is_asked_for(fake_study, monkeypatch):
    monkeypatch.setattr(driver, "PROPOSALS_WITHOUT_GAIN", 8)

    few = fake_study.with_space(space__head_pruning_ratio=[0.0], space__resolution=[28], search__trials=2)
    few.runner.before = refuse_int8
    few.run()
    failed = {record.plan for record in few.records().values() if record.outcome == "failed"}
    few.runner.before = lambda job: None
    few.with_space(search__trials=4).run(retry_failed=True)
    assert failed & {record.plan for record in few.records().values() if record.was_trained}


def test_the_leaderboard_is_complete_and_takes_no_training(finished):
    leaders = set(finished.plans().leaderboard())
    found = [record for record in finished.records().values() if record.plan in leaders]
    assert {record.plan for record in found} == leaders
    assert all(record.is_confirmed and not record.was_trained and record.rung == 0 for record in found)
    assert finished.runner.made["train"] == trained(finished) == finished.space.search.trials


def test_what_is_shown_is_confirmed_once_when_idle(finished):
    with finished.opened() as (study, ledger):
        points = read_front(study, ledger).points
        rounds = {p.trial: rounds_of(ledger.repeats(p.keys.graph_key, "fake", CONFIRM.id)) for p in points}
    assert set(rounds.values()) == {1}


def test_limits_that_are_relaxed_ask_again_for_what_now_fits(fake_study, monkeypatch):
    monkeypatch.setattr(driver, "PROPOSALS_WITHOUT_GAIN", 8)
    small = fake_study.with_space(
        space__head_pruning_ratio=[0.0, 0.5], space__ffn_pruning_ratio=[0.0, 0.5], space__resolution=[28],
        space__pruning_scope=["uniform"], limits={"cpu_ms_p50": {"max": 1.3}}, search__trials=2,
    )  # fmt: skip
    small.run()
    refused = [record.plan for record in small.records().values() if record.outcome == "infeasible"]
    assert refused
    relaxed = small.with_space(limits={}, search__trials=4)
    relaxed.run()
    with relaxed.opened() as (study, _):
        asked = [trial.system_attrs["fixed_params"] for trial in study._study.get_trials() if again(trial)]
    assert relaxed.plans().parameters(refused[0]) in asked


def again(trial):
    return trial.user_attrs.get("enqueued") == "the limits or the front have changed"


def test_a_spent_budget_ends_the_search(fake_study):
    ended = fake_study.with_space(search__budget=0.001).run()
    assert ended == SearchEnd("the budget of 0.001 s is spent", complete=False)
    with fake_study.opened() as (study, _):
        assert study.unfinished() == 2  # the leaderboard's, for the next run


def test_a_search_without_improvement_ends(fake_study, monkeypatch):
    monkeypatch.setattr(driver, "PROPOSALS_WITHOUT_GAIN", 6)
    small = fake_study.with_space(
        space__head_pruning_ratio=[0.0], space__ffn_pruning_ratio=[0.0], space__resolution=[28], search__trials=50
    )
    ended = small.run()
    assert ended == SearchEnd("6 trials in a row brought no improvement: the front has converged", complete=True)
    assert trained(small) <= 2


def test_a_search_ends_when_the_sampler_expects_no_gain(fake_study, monkeypatch):
    monkeypatch.setattr(driver, "LOW_GAIN", 0.5)
    ended = fake_study.with_space(search__trials=50).run()
    trains = trained(fake_study)
    assert ended == SearchEnd(
        f"{trains} plans are trained, and no plan of the space is expected to add 50.0% to the hypervolume: the front "
        "has converged",
        complete=True,
    )
    assert 0 < trains < 50
    with fake_study.opened() as (study, _):
        assert study.unfinished() == 0  # what was trained last is confirmed in its other deployments too


def test_a_search_that_has_converged_makes_nothing_new_until_its_space_changes(fake_study, monkeypatch):
    monkeypatch.setattr(driver, "LOW_GAIN", 0.5)
    small = fake_study.with_space(search__trials=50)
    first = small.run()
    records = small.records()
    assert small.run() == first
    assert small.records() == records
    small.with_space(search__trials=50, space__head_pruning_ratio=[0.0, 0.25, 0.5, 0.75]).run()
    assert len(small.records()) > len(records)


def test_a_sampler_that_repeats_itself_is_given_unseen_plans(fake_study, monkeypatch):
    monkeypatch.setattr("vitsearch.study.study.make_sampler", lambda name, seed: Stubborn())
    few = fake_study.with_space(search__duplicates_in_a_row=2, search__trials=5, search__sampler="random")
    assert few.run().complete
    with few.opened() as (study, _):
        whys = Counter(trial.user_attrs.get("enqueued") for trial in study._study.get_trials())
    assert whys["the sampler repeated itself"] > 0


class Stubborn(random.Random):
    """A sampler that draws the same plan for ever."""

    def infer_relative_search_space(self, study, trial):
        return {}

    def sample_relative(self, study, trial, space):
        return {}

    def sample_independent(self, study, trial, name, distribution):
        return getattr(distribution, "low", None) if hasattr(distribution, "low") else distribution.choices[0]

    def before_trial(self, study, trial):
        pass

    def after_trial(self, study, trial, state, values):
        pass


# ---- crashes


class Killed(BaseException):
    """Stands for whatever ends a process from within."""


STAGES = (
    "base", "block_structure", "screen",
    "proxy", "logits", "train", "export",
)  # fmt: skip


def crash_at(name, nth, error):
    seen = Counter()

    def before(job):
        seen[job.stage] += 1
        if job.stage == name and seen[name] == nth:
            raise error

    return before


@pytest.mark.parametrize(("stage", "nth"), [(stage, 1) for stage in STAGES] + [("train", 2), ("export", 3)])
def test_a_crash_in_a_stage_repeats_nothing_and_leaves_nothing_open(fake_study, stage, nth):
    study = fake_study.with_space(search__trials=2)
    study.runner.before = crash_at(stage, nth, Killed())
    with pytest.raises(Killed):
        study.run()
    assert TrialState.RUNNING not in numbers_by_state(study)
    study.runner.before = lambda job: None
    assert study.run().complete
    assert trained(study) == 2
    assert numbers_by_state(study).keys() <= {TrialState.COMPLETE, TrialState.PRUNED, TrialState.WAITING}
    made = study.runner.made
    assert (made["base"], made["logits"]) == (1, 2)
    assert made["train"] == trained(study)
    assert made["export"] == artifacts(study)
    with study.opened() as (_, ledger):
        assert ledger.claims() == {}
        assert made["proxy"] == len({r.keys.weights_key for r in study.records().values() if r.proxy})


@pytest.mark.parametrize(
    ("nth", "error"),
    [(1, Killed()), (3, DeviceUnreachable("gone")), (5, KeyboardInterrupt()), (7, Killed())],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else str(value),
)
def test_a_crash_while_measuring_repeats_nothing(fake_study, nth, error):
    study = fake_study.with_space(search__trials=2)
    calls = Counter()

    def before(path):
        calls["measure"] += 1
        if calls["measure"] == nth:
            raise error

    study.device.before = before
    with pytest.raises(type(error)):
        study.run()
    assert TrialState.RUNNING not in numbers_by_state(study)
    study.device.before = lambda path: None
    assert study.run().complete
    assert trained(study) == 2
    assert study.runner.made["train"] == trained(study)
    with study.opened() as (opened, ledger):
        keys = {record.keys.graph_key for record in opened.records().values()}
        rows = [row for key in keys for row in ledger.measurements(key, study.device.info.device_id)]
    base = 1 + 1  # the baseline's confirmation measurement, and the final one; its graph may be a trial's too
    assert len(rows) <= sum(study.device.measured.values()) <= len(rows) + base


KILLED = """
import importlib.util, json, os, pathlib, signal, sys
home, folder, space, stage, nth = sys.argv[1:]
spec = importlib.util.spec_from_file_location("conftest", home)
conftest = sys.modules["conftest"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(conftest)
study = conftest.FakeStudy(pathlib.Path(folder), conftest.SearchSpace.from_json(json.loads(space)))

def before(job):
    if job.stage == stage and study.runner.made[stage] == int(nth) - 1:
        os.kill(os.getpid(), signal.SIGKILL)

study.runner.before = before
study.run()
"""


@pytest.mark.parametrize(("stage", "nth"), [("train", 1), ("export", 3)])
def test_a_run_after_a_sigkill_goes_on_where_it_was(fake_study, stage, nth):
    study = fake_study.with_space(search__trials=2)
    home = Path(TESTS, "search", "conftest.py")
    arguments = [home, study.folder, json.dumps(study.space.to_json()), stage, str(nth)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.run([sys.executable, "-c", KILLED, *arguments], env=environment, capture_output=True, text=True)
    assert run.returncode == -signal.SIGKILL, run.stderr
    with study.opened() as (opened, ledger):
        open_then = [trial.number for trial in opened._study.get_trials() if trial.state == TrialState.RUNNING]
        assert ledger.claims() != {}
    assert study.run().complete
    assert trained(study) == 2
    made = study.runner.made
    assert made["base"] == 0  # found in the ledger
    assert made["train"] <= trained(study) - (nth > 1)
    with study.opened() as (opened, ledger):
        assert ledger.claims() == {}
        states = {trial.number: trial.state for trial in opened._study.get_trials()}
    assert TrialState.RUNNING not in states.values()
    assert TrialState.FAIL not in states.values()
    assert open_then
    assert set(open_then) <= study.records().keys()  # adopted by number, and ended


def test_fakes_count_what_they_made():
    assert FakeRunner().made == FakeDevice().measured == Counter()


def test_an_objective_decides_how_the_device_is_asked(fake_study):
    study = fake_study.with_space(
        objectives={"accuracy": "maximize", "energy_mj": "minimize"},
        limits={"latency_ms_sustained_p50": {"max": 100}},
        measure={"soak": 60, "power": 20},
        search__trials=2,
    )
    study.device.info = study.device.info._replace(power_meter="fake")
    study.run()
    assert set(study.device.measured) == {"screen-1", "confirm-1+soak60+power20-10"}
    with study.opened() as (opened, ledger):
        (first, *_) = read_front(opened, ledger).points
    assert first.metrics.value("energy_mj") == pytest.approx(4.0 * first.metrics.value("cpu_ms_p50"))
    assert first.metrics.value("latency_ms_sustained_p50") == pytest.approx(1.5 * first.metrics.value("cpu_ms_p50"))


def test_an_objective_that_the_device_cannot_measure_is_refused_with_what_it_can(fake_study):
    energy = fake_study.with_space(objectives={"accuracy": "maximize", "energy_mj": "minimize"})
    with pytest.raises(StudyError, match="device local does not measure energy_mj.*the device measures .*cpu_ms_p50"):
        energy.run()


class EvaluatingDevice(FakeDevice):
    """Refuses to evaluate with the error ``refused``."""

    refused: StageError | None = None

    async def accuracy(self, artifact, subset, deployment):
        assert Path(subset.images).exists()
        assert Path(subset.labels).exists()
        if self.refused:
            raise self.refused
        return await super().accuracy(artifact, subset, deployment)


def test_the_device_evaluates_the_front_once(fake_study):
    notes = Notes()
    study = replace(fake_study, device=EvaluatingDevice(), progress=notes, device_images=100)
    study.run()
    with study.opened() as (opened, ledger):
        shown = read_front(opened, ledger).shown()
    assert all((point.on_device.correct, point.on_device.n) == (9, 10) for point in shown)
    assert study.device.measured["accuracy"] == len(shown)
    assert sum("classifies 9 of 10 images correctly on the device" in said for said in notes.said) == len(shown)
    study.run()
    assert study.device.measured["accuracy"] == len(shown)


def test_a_device_that_cannot_evaluate_does_not_end_the_run(fake_study):
    notes = Notes()
    study = replace(fake_study, device=EvaluatingDevice(), progress=notes, device_images=100)
    study.device.refused = StageError(Stage.DEVICE_ACCURACY, "invalid_request", "trtexec gives no outputs")
    assert study.run().complete
    assert any("was not evaluated on the device" in said and "gives no outputs" in said for said in notes.said)


def test_this_machine_is_not_asked_again(finished):
    assert finished.device.measured["accuracy"] == 0
    assert finished.runner.made["subset"] == 0
