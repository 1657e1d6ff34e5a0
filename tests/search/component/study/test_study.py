"""Asking and telling, and what is asked next."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import replace

import optuna
import pytest
from optuna.trial import TrialState

from support.studies import ME, METRICS, only, trials
from vitsearch.core.figures import Figure, Metrics
from vitsearch.core.image_size import ImageSize
from vitsearch.core.metrics import METRICS as METRICS_BY_NAME
from vitsearch.core.metrics import quality
from vitsearch.core.record import Record
from vitsearch.errors import StudyError
from vitsearch.storage.ledger import Claim, Ledger
from vitsearch.study.places import Places
from vitsearch.study.plan_pool import PlanParameters
from vitsearch.study.sampling import Unpruned
from vitsearch.study.study import Study
from vitsearch.study.suggest import make_sampler
from vitsearch.tasks import Divergence
from vitsearch.tasks.recorded import TaskFacts

VALUES = {"accuracy": 0.875, "cpu_ms_p50": 1.25}


# ---- the main path, on both databases


def test_a_trial_is_asked_run_and_told(open_study, storage):
    study, plans = open_study(storage)
    open_trial = study.ask(plans, ME)
    assert open_trial.record is None
    assert plans.contains(open_trial.plan)
    study.tell(open_trial, Record("confirmed", open_trial.plan, metrics=METRICS, constraints={"accuracy>=0.86": -0.01}))
    trial = only(study)
    assert (trial.state, trial.values) == (TrialState.COMPLETE, [0.875, 1.25])
    assert trial.constraints == {"accuracy>=0.86": -0.01}
    assert study.records()[open_trial.number].metrics == METRICS


def test_only_what_the_sampler_has_drawn_is_a_proposal(open_study, storage):
    study, plans = open_study(storage)
    drawn = study.ask(plans, ME)
    assert drawn.is_proposal
    study.release(drawn)
    assert not study.ask(plans, ME).is_proposal, "it was left open by a run before"
    study.enqueue(plans.parameters(plans.baseline()), "to see")
    assert not study.ask(plans, ME).is_proposal


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_a_plan_in_a_runtime_that_lowers_slowly_is_asked_and_never_proposed(open_study, tmp_path, sampler):
    study, plans = open_study(f"sqlite:///{tmp_path}/slow.db", space__backend=["onnxruntime", "executorch"])
    study.sample_with(make_sampler(sampler, seed=0))
    slow = plans.unpruned(Unpruned(plans.backbones()[0], "executorch", "cpu", "fp32"))
    study.enqueue(plans.parameters(slow), "to see")
    assert study.ask(plans, ME).plan == slow
    assert {study.ask(plans, ME).plan.deployment.runtime for _ in range(12)} == {"onnxruntime"}


@pytest.mark.parametrize("sampler", ["random", "tpe", "nsga2"])
def test_a_plan_that_runs_is_not_proposed_again(open_study, storage, sampler):
    study, plans = open_study(storage)
    study.sample_with(make_sampler(sampler, seed=0))
    parameters = PlanParameters(plans)
    every = {parameters.plan(each) for each in parameters.all()}
    left = min(every, key=str)
    assert study.ask(plans, ME, every - {left}).plan == left


def test_a_plan_that_another_driver_runs_is_known(open_study, storage):
    (mine, plans), (other, _) = open_study(storage), open_study(storage)
    open_trial = other.ask(plans, ME)
    mine.ask(plans, ME)  # reads the study
    assert mine.plans_elsewhere(plans) == {open_trial.plan}
    assert mine.runs_elsewhere()


def test_a_second_run_sees_what_the_first_told(open_study, storage):
    first, plans = open_study(storage)
    open_trial = first.ask(plans, ME)
    first.tell(open_trial, Record("confirmed", open_trial.plan, metrics=METRICS))
    second, _ = open_study(storage)
    assert second.records() == first.records()
    assert second.space().objectives == {"accuracy": "maximize", "cpu_ms_p50": "minimize"}


def test_records_are_the_same_before_and_after_the_trials_were_read(open_study, storage):
    first, plans = open_study(storage)
    open_trials = [first.ask(plans, ME) for _ in range(3)]
    first.tell(open_trials[1], Record("confirmed", open_trials[1].plan, metrics=METRICS))
    reader = Study.change_existing(storage, first.name)
    assert list(reader.records()) == [open_trials[1].number]
    assert reader.unfinished() == 2
    first.tell(open_trials[0], Record("confirmed", open_trials[0].plan, metrics=METRICS))
    assert list(reader.records()) == [open_trials[0].number, open_trials[1].number]
    assert reader.times().keys() == reader.records().keys()  # this reads the trials
    first.tell(open_trials[2], Record("confirmed", open_trials[2].plan, metrics=METRICS))
    assert reader.records() == first.records()
    reader.close()


def test_each_run_of_a_study_draws_plans_of_its_own(open_study, tmp_path):
    first, plans = open_study()
    second, _ = open_study()
    drawn, others = ([study.ask(plans, ME).plan for _ in range(3)] for study in (first, second))
    assert drawn != others
    afresh, _ = open_study(f"sqlite:///{tmp_path / 'afresh.db'}")
    assert [afresh.ask(plans, ME).plan for _ in range(3)] == drawn


def test_a_study_and_a_ledger_share_a_database(open_study, storage):
    Ledger.open(storage).close()
    study, plans = open_study(storage)
    study.ask(plans, ME)
    ledger = Ledger.open(storage)
    assert ledger.claim(Claim("x", "me"), 60)
    ledger.close()


def test_a_trial_that_was_asked_for_elsewhere_is_added_as_if_it_was_told(open_study, storage, plan):
    first, plans = open_study(storage)
    second, _ = open_study(storage)
    fast, slow = (replace(plan, resolution=ImageSize.square(size)) for size in (24, 28))
    record = Record("confirmed", fast, metrics=METRICS, constraints={"accuracy>=0.86": -0.01})
    assert [first.add(plans, record), second.add(plans, Record("infeasible", slow, "too slow"))] == [0, 1]
    added, put_aside = trials(first).values()
    assert (added.state, added.values, added.params) == (TrialState.COMPLETE, [0.875, 1.25], plans.parameters(fast))
    assert (put_aside.state, put_aside.constraints) == (TrialState.PRUNED, {})
    assert second.records() == first.records() == {0: record, 1: Record("infeasible", slow, "too slow")}
    assert first.ask(plans, ME).number == 2


def test_an_added_trial_has_the_words_that_the_file_dropped_among_its_choices(open_study, storage, plan):
    study, plans = open_study(storage)
    study.add(plans, Record("confirmed", plan, metrics=METRICS))
    narrow, plans = open_study(storage, space__quantization=["fp32"])
    narrow.add(plans, Record("confirmed", plan, metrics=METRICS))
    first, second = trials(narrow).values()
    assert first.params["quantization@onnxruntime"] == second.params["quantization@onnxruntime"] == "fp32"
    assert first.distributions == second.distributions


def test_optuna_knows_all_that_is_stored_of_a_trial(open_study, storage):
    study, plans = open_study(storage)
    study.enqueue(plans.parameters(plans.baseline()), "to see")
    open_trial = study.ask(plans, ME)
    record = Record("confirmed", open_trial.plan, metrics=METRICS)
    study.tell(open_trial, record)
    other, _ = open_study(storage)
    (trial,) = other.as_optuna()
    assert trial == only(study)
    assert trial.params == plans.parameters(plans.baseline()) == trial.system_attrs["fixed_params"]
    assert trial.user_attrs == {"driver": ME.to_json(), "enqueued": "to see", "record": record.to_json()}


def test_a_stopped_trial_goes_on_with_its_number_and_parameters(open_study, storage):
    study, plans = open_study(storage)
    open_trial = study.ask(plans, ME)
    study.release(open_trial)
    assert only(study).state == TrialState.WAITING
    again, _ = open_study(storage)
    resumed = again.ask(plans, ME)
    assert (resumed.number, resumed.plan) == (open_trial.number, open_trial.plan)
    assert resumed.trial.params == open_trial.trial.params


# ---- reading


def test_a_study_that_is_not_there_is_told_with_those_that_are(open_study, space):
    open_study()
    with pytest.raises(StudyError, match="no study 'other' in this database; it holds: fake"):
        Study.change_existing(space.storage, "other")


# ---- what Optuna is told


BROKEN, MET = {"cpu_ms_p50<=1": 0.25}, {"cpu_ms_p50<=2": -0.375}


@pytest.mark.parametrize(
    ("outcome", "more", "state", "values"),
    [
        ("confirmed", {"metrics": METRICS, "constraints": MET}, "COMPLETE", [0.875, 1.25]),
        ("confirmed", {"metrics": METRICS, "constraints": MET, "duplicate_of": 0}, "COMPLETE", [0.875, 1.25]),
        ("confirmed", {"metrics": Metrics.of(VALUES | {"cpu_ms_p50": None}), "constraints": MET}, "PRUNED", None),
        ("confirmed", {"metrics": Metrics.of({"accuracy": 0.875})}, "PRUNED", None),
        ("duplicate", {"duplicate_of": 0}, "PRUNED", None),
        ("infeasible", {"constraints": BROKEN}, "PRUNED", None),
        ("dominated", {"constraints": MET}, "PRUNED", None),
        ("not_promoted", {"constraints": MET}, "PRUNED", None),
        ("does_not_fit", {"constraints": {"fits": 1.0}}, "PRUNED", None),
        ("off_space", {"constraints": {"in_space": 1.0}}, "PRUNED", None),
        ("failed", {"failure": {"stage": "train", "kind": "crash", "message": "x"}}, "FAIL", None),
    ],
)
def test_each_outcome_is_told_as_its_state(open_study, outcome, more, state, values):
    study, plans = open_study()
    open_trial = study.ask(plans, ME)
    record = Record(outcome, open_trial.plan, "why", **more)
    study.tell(open_trial, record)
    trial = only(study)
    assert (trial.state.name, trial.values) == (state, values)
    assert trial.constraints == record.constraints
    assert study.records() == {0: record}
    assert study.unfinished() == 0


def test_the_revision_changes_when_a_trial_is_asked_and_when_it_is_told(open_study):
    study, plans = open_study()
    seen = [study.revision()]
    open_trial = study.ask(plans, ME)
    seen.append(study.revision())
    study.tell(open_trial, Record("infeasible", open_trial.plan))
    seen.append(study.revision())
    assert len(set(seen)) == 3
    assert study.revision() == seen[-1]


def test_the_times_of_a_trial_are_those_of_the_clock(open_study):
    study, plans = open_study()
    before = time.time()
    open_trial = study.ask(plans, ME)
    assert study.times() == {}
    study.tell(open_trial, Record("infeasible", open_trial.plan))
    ((start, end),) = study.times().values()
    assert before - 1 <= start <= end <= time.time() + 1


def test_what_is_told_after_it_ended_is_ignored(open_study):
    study, plans = open_study()
    open_trial = study.ask(plans, ME)
    first = Record("infeasible", open_trial.plan, "first")
    study.tell(open_trial, first)
    study.tell(open_trial, Record("confirmed", open_trial.plan, metrics=METRICS))
    assert (only(study).state, study.records()) == (TrialState.PRUNED, {0: first})


def test_a_trial_can_be_told_after_a_stop(open_study):
    study, plans = open_study()
    open_trial = study.ask(plans, ME)
    study.release(open_trial)
    again = study.ask(plans, ME)
    study.tell(again, Record("does_not_fit", again.plan, constraints={"fits": 1.0}))
    assert only(study).state == TrialState.PRUNED


def test_a_record_whose_answer_was_lost_is_told_once(open_study):
    study, plans = open_study()
    open_trial = study.ask(plans, ME)
    record = Record("infeasible", open_trial.plan, "first")
    assert study.tell(open_trial, record)
    ended = study.times()
    assert study.tell(open_trial, record), "a second try, where the first one's commit arrived"
    assert study.times() == ended


# ---- what is asked next


def test_what_was_enqueued_is_asked_first_and_says_why(open_study):
    study, plans = open_study()
    wanted = plans.unpruned(Unpruned("fake_vit", "onnxruntime", "cpu", "int8_dynamic"))
    study.enqueue(plans.parameters(wanted), "leaderboard")
    assert study.ask(plans, ME).plan == wanted
    assert only(study).user_attrs["enqueued"] == "leaderboard"


def test_what_waits_is_not_enqueued_twice(open_study):
    study, plans = open_study()
    baseline = plans.baseline()
    study.enqueue(plans.parameters(baseline), "the limits have changed")
    study.enqueue(plans.parameters(baseline), "the limits have changed")
    study.enqueue_untried(Places(plans), baseline, "leaderboard")
    assert len(trials(study)) == 1


def test_what_runs_is_not_enqueued_as_untried(open_study):
    study, plans = open_study()
    study.enqueue_untried(Places(plans), study.ask(plans, ME).plan, "leaderboard")
    assert study.unfinished() == 1


def test_what_has_ended_is_enqueued_but_not_as_untried(open_study):
    study, plans = open_study()
    open_trial = study.ask(plans, ME)
    study.tell(open_trial, Record("infeasible", open_trial.plan))
    study.enqueue_untried(Places(plans), open_trial.plan, "leaderboard")
    assert study.unfinished() == 0
    study.enqueue(plans.parameters(open_trial.plan), "the limits have changed")
    assert study.ask(plans, ME).plan == open_trial.plan


def test_what_the_sampler_expected_of_a_trial_is_told_once(open_study):
    study, plans = open_study()

    class Noting(optuna.samplers.RandomSampler):
        def before_trial(self, study, trial):
            study._storage.set_trial_system_attr(trial._trial_id, "noted", 1)

    study.sample_with(Noting())
    open_trial = study.ask(plans, ME)
    assert open_trial.notes["noted"] == 1
    study.release(open_trial)
    assert study.ask(plans, ME).notes == {}


def test_records_of_a_task_that_this_process_does_not_know_are_read(open_study, storage, monkeypatch):
    """`show` and `status` called the database damaged: they read records first."""
    metric = quality("mean_cost", worst=0.5, best=0.0)
    facts = TaskFacts("costs", "needed", False, "logits", False, "none", Divergence("nats", 0.005, 0.2), (metric,))
    changes = {"task__kind": "costs:Costs", "task__(facts)": facts.to_json(), "limits": {}}
    study, plans = open_study(storage, objectives={"mean_cost": "minimize", "cpu_ms_p50": "minimize"}, **changes)
    trial = study.ask(plans, ME)
    values = {"mean_cost": 0.1, "cpu_ms_p50": 1.0}
    study.tell(trial, Record("confirmed", trial.plan, metrics=Metrics({n: Figure(v) for n, v in values.items()})))
    monkeypatch.delitem(METRICS_BY_NAME, "mean_cost")
    with closing(Study.read(storage, study.name)) as reader:
        assert reader.records()[0].metrics.value("mean_cost") == 0.1
