"""The search from baseline to front, between two fakes."""

from __future__ import annotations

import asyncio
import shutil
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from sqlalchemy import make_url

from vitsearch.core.policy import POLICY
from vitsearch.core.priors import prior_of
from vitsearch.core.record import trainings
from vitsearch.core.stage import Stage
from vitsearch.errors import StageError, StudyError
from vitsearch.pipeline.measure import rounds_of
from vitsearch.pipeline.progress import Silent
from vitsearch.search.driver import SearchEnd
from vitsearch.search.earlier_studies import priors_of
from vitsearch.stages import ExportJob, ScreenJob, TrainJob
from vitsearch.storage.files import FileStore
from vitsearch.study.front import read_front
from vitsearch.tasks.classification.confusion import Confusion
from vitsearch.tasks.classification.task import judged_counts
from vitsearch.testing.fakes import FakeDevice, FakeRunner
from vitsearch_agent.wire.protocol import CONFIRM, SCREEN


@dataclass
class Notes(Silent):
    said: list[str] = field(default_factory=list)

    def note(self, text):
        self.said.append(text)


def test_a_run_trains_what_the_file_asks_for_and_ends_with_a_front(finished):
    with finished.opened() as (study, ledger):
        front = read_front(study, ledger)
        assert study.unfinished() == 0
    assert finished.ended == SearchEnd("8 plans trained", complete=True)
    assert finished.trained == 8
    assert len(front.points) >= 3
    assert all(point.feasible for point in front.points)


def test_a_second_run_makes_nothing_new(finished):
    before = Counter(finished.runner.runs), Counter(finished.device.measured), len(finished.records())
    assert finished.run().complete
    assert (finished.runner.runs, finished.device.measured, len(finished.records())) == before


@pytest.mark.long
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


@pytest.mark.long
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
    stages = finished.runner.runs
    assert stages["base"] == 1
    assert stages["block_structure"] == 2  # one for each resolution
    assert stages["logits"] == 2  # validation and training images
    assert stages["train"] == finished.trained
    assert stages["export"] == finished.artifacts


def test_trained_weights_are_asked_for_in_the_deployments_that_may_be_on_the_front(finished):
    """int8 costs less than half of fp32 in the fakes and loses nothing."""
    precisions = {}
    for record in finished.records().values():
        if record.was_trained:
            precisions.setdefault(record.keys.weights_key, set()).add(record.plan.deployment.precision)
    assert {"fp32", "int8_dynamic"} in precisions.values()
    with finished.opened() as (study, _):
        whys = [trial.user_attrs.get("enqueued") or "" for trial in study.as_optuna()]
    assert any(why.startswith("another deployment of trial") for why in whys)


def test_a_plan_next_to_its_base_is_confirmed_without_training(finished):
    near = [
        record
        for record in finished.records().values()
        if record.proxy and record.proxy.divergence < POLICY.rung_zero.small_kl
    ]
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
        attributes = study.attributes
        assert attributes["baseline"]["metrics"]["values"]["accuracy"] == 0.89
        assert attributes["reference_point"] == pytest.approx({"accuracy": 0.86, "cpu_ms_p50": 3.6 * 1.1})
        rows = [
            (row["plan"]["deployments"][0]["precision"], row["values"]["cpu_ms_p50"])
            for row in attributes["leaderboard"]
        ]
        assert rows == [("fp32", pytest.approx(3.6)), ("int8_dynamic", pytest.approx(3.6 * 0.42))]
        assert [row["shares"] for row in attributes["leaderboard"]] == [{"fp32": 1.0}, {"int8": 0.96, "fp32": 0.04}]


def test_a_larger_number_of_trials_goes_on(fake_study):
    for trials in (2, 4):
        assert fake_study.with_space(search__trials=trials).run().complete
        assert fake_study.trained == trials
        assert fake_study.runner.runs["train"] == fake_study.trained


def test_no_trials_are_the_baseline_and_the_leaderboard_alone(fake_study):
    none = fake_study.with_space(search__trials=0)
    assert none.run() == SearchEnd("0 plans trained", complete=True)
    assert {record.rung for record in none.records().values()} == {0}
    assert len(none.records()) == len(list(none.plans().leaderboard()))
    assert none.runner.runs.keys() == {"base", "block_structure", "export"}
    with none.opened() as (study, _):
        assert [row["values"]["accuracy"] for row in study.attributes["leaderboard"]] == [0.89, 0.89]


def test_two_places_train_no_plan_too_many(fake_study):
    few = fake_study.with_space(search__trials=4)
    assert replace(few, slots=3).run().complete
    assert few.trained == 4


def test_several_rungs_end_with_all_plans_trained(fake_study):
    fine_tune = fake_study.space.task.fine_tune.model_dump(mode="json") | {"rungs": [0, 1, 3]}
    assert fake_study.with_space(task__fine_tune=fine_tune, search__trials=4).run().complete
    records = [record for record in fake_study.records().values() if record.was_trained]
    assert {record.rung for record in records} == {3}
    assert len(trainings(dict(enumerate(records)))) == 4


def test_a_plan_that_fails_in_training_is_replaced_by_another(fake_study):
    few = fake_study.with_space(search__trials=3)

    def break_the_last(job):
        if isinstance(job, ExportJob) and few.runner.runs["export"] == 4:
            few.runner.before = lambda job: None
            raise StageError("export", "parity", "outputs differ")

    few.runner.before = break_the_last
    assert few.run().complete
    assert few.trained == 3
    (failed,) = [r for r in few.records().values() if r.outcome == "failed" and r.duplicate_of is None]
    assert failed.failure == {"stage": "export", "kind": "parity", "message": "outputs differ"}


def refuse_int8(job):
    if isinstance(job, ScreenJob | ExportJob) and job.deployment.precision != "fp32":
        raise StageError("screen", "export", "no such operator")


@pytest.mark.long
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
        counts = Confusion(tuple((label, 6, 100) for label in range(10)))
        return replace(answer, judged=judged_counts(counts, ["Shirt"] * 10)) if is_unpruned else answer


def test_a_base_that_predicts_one_class_only_is_named_wherever_it_is_kept(fake_study):
    notes = Notes()
    few = replace(fake_study.with_space(search__trials=0), progress=notes, runner=ConstantModels())
    assert few.run().complete
    reason = "the model predicts one class only, 'Shirt'"
    said = [line for line in notes.said if line.endswith(reason)]
    assert [line.partition(":")[0] for line in said] == ["baseline", "leaderboard", "leaderboard"]
    of_classes = [line for line in notes.said if line.startswith("the baseline")]
    assert of_classes == [
        "the baseline is no more accurate than always saying 'class 0': 0.100 (0.083 to 0.120), and 0.100 of the "
        "images are of that class; its mean recall is 0.10 instead of 0.10",
        "the baseline finds 0 of 100 'class 0', 0 of 100 'class 1', 0 of 100 'class 2' and too few of 6 more classes: "
        "less than half of the mean recall, 0.10",
    ]
    with few.opened() as (study, ledger):
        assert all(row["notes"] == {"accuracy": reason} for row in study.attributes["leaderboard"])
        assert read_front(study, ledger).baseline.metrics.notes == {"accuracy": reason}


def test_a_failed_plan_is_not_made_again_by_a_second_run(fake_study):
    few = fake_study.ending(trials_without_gain=8).with_space(
        space__head_pruning_ratio=[0.0], space__resolution=[28], search__trials=2
    )
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


@pytest.mark.long
def test_a_failed_plan_is_tried_again_when_that_is_asked_for(fake_study):
    few = fake_study.ending(trials_without_gain=8).with_space(
        space__head_pruning_ratio=[0.0], space__resolution=[28], search__trials=2
    )
    few.runner.before = refuse_int8
    few.run()
    failed = {record.plan for record in few.records().values() if record.outcome == "failed"}
    few.runner.before = lambda job: None
    few.with_space(search__trials=4).run(retry_failed=True)
    assert failed & {record.plan for record in few.records().values() if record.was_trained}


def test_the_leaderboard_is_complete_and_takes_no_training(finished):
    leaders = set(finished.plans().leaderboard())
    leaderboard = [record for record in finished.records().values() if record.plan in leaders]
    assert {record.plan for record in leaderboard} == leaders
    assert all(record.is_confirmed and not record.was_trained and record.rung == 0 for record in leaderboard)
    assert finished.runner.runs["train"] == finished.trained == finished.space.search.trials


def test_what_is_shown_is_confirmed_once_when_idle(finished):
    with finished.opened() as (study, ledger):
        points = read_front(study, ledger).points
        rounds = {p.trial: rounds_of(ledger.repeats(p.keys.graph_key, "fake", CONFIRM.id)) for p in points}
    assert set(rounds.values()) == {1}


def test_limits_that_are_relaxed_ask_again_for_what_now_fits(fake_study):
    small = fake_study.ending(trials_without_gain=8).with_space(
        space__head_pruning_ratio=[0.0, 0.5], space__ffn_pruning_ratio=[0.0, 0.5], space__resolution=[28],
        space__pruning_scope=["uniform"], limits={"cpu_ms_p50": {"max": 1.3}}, search__trials=2,
    )  # fmt: skip
    small.run()
    refused = [record.plan for record in small.records().values() if record.outcome == "infeasible"]
    assert refused
    relaxed = small.with_space(limits={}, search__trials=4)
    relaxed.run()
    with relaxed.opened() as (study, _):
        enqueued = {trial.number: trial.system_attrs["fixed_params"] for trial in study.as_optuna() if again(trial)}
    assert relaxed.plans().parameters(refused[0]) in enqueued.values()
    assert all(relaxed.records()[number].outcome != "infeasible" for number in enqueued)


def again(trial):
    return trial.user_attrs.get("enqueued") == "the limits or the front have changed"


def test_fakes_count_what_they_made():
    assert FakeRunner().runs == FakeDevice().measured == Counter()


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


def test_an_unpruned_model_is_confirmed_where_only_a_confirmation_measures_the_objective(fake_study):
    study = fake_study.with_space(
        objectives={"accuracy": "maximize", "energy_mj": "minimize"}, measure={"power": 20}, search__trials=0
    )
    study.device.info = study.device.info._replace(power_meter="fake")
    study.run()
    leaders = set(study.plans().leaderboard())
    records = {record.plan: record for record in study.records().values() if record.plan in leaders}
    assert records.keys() == leaders
    confirmed = [record for record in records.values() if record.is_confirmed]
    assert {record.plan.deployment.precision for record in confirmed} > {"fp32"}
    assert all(record.metrics.value("energy_mj") is not None for record in confirmed)


def test_an_objective_that_the_device_cannot_measure_is_refused_with_what_it_can(fake_study):
    energy = fake_study.with_space(objectives={"accuracy": "maximize", "energy_mj": "minimize"})
    with pytest.raises(StudyError, match="device local does not measure energy_mj.*the device measures .*cpu_ms_p50"):
        energy.run()


class EvaluatingDevice(FakeDevice):
    """Refuses to evaluate with the error `refused`."""

    refused: StageError | None = None

    async def outputs(self, artifact, images, deployment, reduction):
        assert Path(images).exists()
        if self.refused:
            raise self.refused
        return await super().outputs(artifact, images, deployment, reduction)


@pytest.mark.long
def test_the_device_evaluates_the_front_once(fake_study):
    notes = Notes()
    study = replace(fake_study, device=EvaluatingDevice(), progress=notes, device_images={"local": 100})
    study.run()
    with study.opened() as (opened, ledger):
        shown = read_front(opened, ledger).shown()
    assert all((point.on_device.value, point.on_device.n) == (0.9, 100) for point in shown)
    with study.opened() as (opened, ledger):
        there = [ledger.evaluation(point.keys.artifact_key, opened.judged_by, point.keys.device_id) for point in shown]
    expected = [[label, label, 10] for label in range(9)] + [[9, 0, 10]]
    assert [row.tally for row in there] == [expected] * len(shown)
    assert study.device.measured["outputs"] == len(shown)
    assert sum("has accuracy 0.9000 on 100 images on the device" in said for said in notes.said) == len(shown)
    study.run()
    assert study.device.measured["outputs"] == len(shown)


def test_a_device_that_cannot_evaluate_does_not_end_the_run(fake_study):
    notes = Notes()
    study = replace(fake_study, device=EvaluatingDevice(), progress=notes, device_images={"local": 100})
    study.device.refused = StageError(Stage.DEVICE_ACCURACY, "invalid_request", "trtexec gives no outputs")
    assert study.run().complete
    assert any("was not evaluated on the device" in said and "gives no outputs" in said for said in notes.said)


def test_this_machine_is_not_asked_again(finished):
    assert finished.device.measured["outputs"] == 0
    assert finished.runner.runs["subset"] == 0


# ---- a device that is slower than the trainers


HANGING_S = 60.0
"""Ends a wait for what never happens where a search does one thing after the other."""


@dataclass
class SlowConfirmations(FakeDevice):
    """Measures one model at a time. A confirmation takes 50 ms, or longer while `may_end` is cleared. `has_screened` is
    set after each screening measurement. `most_waiting` models waited at the same time."""

    may_end: asyncio.Event = field(default_factory=asyncio.Event)
    has_screened: asyncio.Event = field(default_factory=asyncio.Event)
    confirming: bool = False
    waiting: int = 0
    most_waiting: int = 0
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def measure(self, artifact, deployment, protocol, repeat):
        self.waiting += 1
        self.most_waiting = max(self.most_waiting, self.waiting)
        try:
            async with self.turn:
                self.confirming = protocol.id.startswith("confirm")
                if self.confirming:
                    await asyncio.sleep(0.05)
                    await in_time(self.may_end.wait())
                self.confirming = False
                measurement = await super().measure(artifact, deployment, protocol, repeat)
                self.has_screened.set()
                return measurement
        finally:
            self.waiting -= 1


async def in_time(awaitable):
    with suppress(TimeoutError):
        await asyncio.wait_for(awaitable, HANGING_S)


@pytest.fixture
def slow(fake_study):
    """A study whose objective needs a confirmation of every trained model; one plan is trained at a time."""
    objectives = {"accuracy": "maximize", "latency_ms_p95": "minimize"}
    study = fake_study.with_space(objectives=objectives, search__trials=6, search__candidates=2)
    device = SlowConfirmations()
    device.may_end.set()
    return replace(study, device=device)


@dataclass(kw_only=True)
class PatientTrainer(FakeRunner):
    """A training ends once a round of candidates was screened beside it. `during` says of each training whether the
    device confirmed a model when it began. From the first training on, confirmations wait for one for which it did."""

    device: SlowConfirmations
    during: list[bool] = field(default_factory=list)

    async def run(self, job):
        if isinstance(job, TrainJob):
            self.during.append(self.device.confirming)
            if any(self.during):
                self.device.may_end.set()
            else:
                self.device.may_end.clear()
                await in_time(self._screened(self.device.measured[SCREEN.id] + 2))
        return await super().run(job)

    async def _screened(self, count):
        while self.device.measured[SCREEN.id] < count:
            self.device.has_screened.clear()
            await self.device.has_screened.wait()


def test_trainings_go_on_while_the_device_confirms(slow):
    trainer = PatientTrainer(device=slow.device)
    assert replace(slow, runner=trainer).run().complete
    assert any(trainer.during), "each training waited for the confirmation of the one before"


@pytest.mark.long
def test_no_more_plans_are_asked_for_while_a_round_of_them_waits_for_the_device(slow):
    assert slow.run().complete
    assert slow.device.most_waiting <= 2 + slow.slots, "a round, and what has just been trained"


def test_batches_and_threads_are_searched_with_one_export_for_all_threads(fake_study):
    study = fake_study.with_space(space__threads=[1, 2], space__batch=["1", "8"], search__trials=3)
    assert study.run().complete
    records = [record for record in study.records().values() if record.is_confirmed]
    runs = {(record.plan.deployment.batch, record.plan.deployment.threads) for record in records}
    assert {(1, 1), (1, 2), (8, 1)} <= runs
    assert study.runner.runs["export"] == len({record.keys.artifact_key for record in records}) < len(records)


def test_a_study_begins_with_what_an_earlier_one_has_trained_and_keeps_it(fake_study, tmp_path):
    fake_study.with_space(search__trials=3).run()
    earlier = make_url(fake_study.space.storage).database
    later = fake_study.with_space(
        study="later", search__trials=1, search__prior=[f"{earlier}#{fake_study.space.study}"]
    )
    later.run()
    with later.opened() as (study, _):
        believed = priors_of(study, later.space)["accuracy"]
    assert believed.noise_degrees > prior_of("accuracy").noise_degrees
    with fake_study.opened() as (study, _):
        assert "priors" not in study.attributes, "nothing is learned where the file names no study"


def test_a_prior_that_has_trained_nothing_is_refused_by_name(fake_study):
    fake_study.with_space(search__trials=0).run()
    named = f"{make_url(fake_study.space.storage).database}#{fake_study.space.study}"
    later = fake_study.with_space(study="later", search__prior=[named])
    with pytest.raises(StudyError, match="search.prior: study .* has no training whose accuracy was forecast"):
        later.run()
    itself = fake_study.with_space(search__prior=[named])
    with pytest.raises(StudyError, match="search.prior: names the study itself; leave it out"):
        itself.run()
