"""A space file gains and loses choices between the runs of a study."""

from __future__ import annotations

from dataclasses import replace

import optuna
import pytest
from optuna.trial import TrialState

from support.studies import ME, METRICS, trials
from vitsearch.core.record import Record
from vitsearch.study.sampling import Unpruned


def test_words_that_come_and_go_keep_the_trials(open_study, storage):
    study, plans = open_study(storage, space__quantization=["fp32", "int8_dynamic"], space__pruning_scope=["uniform"])
    study.enqueue(plans.parameters(plans.unpruned(Unpruned("fake_vit", "onnxruntime", "cpu", "int8_dynamic"))), "test")
    open_trial = study.ask(plans, ME)
    study.tell(open_trial, Record("confirmed", open_trial.plan, metrics=METRICS))
    grown, plans = open_study(
        storage, space__backbone=[{"name": n, "weights": "builtin"} for n in ("fake_vit", "new_vit")]
    )
    new = plans.unpruned(Unpruned("new_vit", "onnxruntime", "cpu", "fp32"))
    grown.enqueue(plans.parameters(new), "test")
    second = grown.ask(plans, ME)
    assert second.plan == new
    grown.tell(second, Record("confirmed", new, metrics=METRICS))
    again, plans = open_study(
        storage, space__backbone=[{"name": n, "weights": "builtin"} for n in ("new_vit", "third", "fake_vit")]
    )
    third = plans.unpruned(Unpruned("third", "onnxruntime", "cpu", "int8_dynamic"))
    again.enqueue(plans.parameters(third), "test")
    assert again.ask(plans, ME).plan == third
    params = [trial.params for trial in trials(again).values()]
    assert [p.get("backbone") for p in params] == [None, "new_vit", "third"]
    assert [p["quantization@onnxruntime"] for p in params] == ["int8_dynamic", "fp32", "int8_dynamic"]
    assert again.attributes["choices"]["backbone"] == ["fake_vit", "new_vit", "third"]


def test_optuna_alone_refuses_a_list_that_grew():
    study = optuna.create_study()
    study.ask().suggest_categorical("w", ("a", "b"))
    with pytest.raises(ValueError, match="does not support dynamic value space"):
        study.ask().suggest_categorical("w", ("a", "b", "c"))


def test_two_drivers_go_on_while_one_of_them_lengthens_a_list(open_study, storage):
    names = lambda *words: [{"name": word, "weights": "builtin"} for word in words]  # noqa: E731
    first, plans = open_study(storage, space__backbone=names("a", "b"))
    early, done = first.ask(plans, ME), first.ask(plans, ME)
    first.tell(done, Record("confirmed", done.plan, metrics=METRICS))
    second, wider = open_study(storage, space__backbone=names("a", "b", "c"))
    second.ask(wider, ME)
    late = first.ask(plans, ME)
    assert plans.contains(late.plan) or late.record
    for open_trial in (early, late):
        first.tell(open_trial, Record("confirmed", open_trial.plan, metrics=METRICS))
    assert second.ask(wider, ME).number == 4


def in_training(open_study, quantization):
    """A trial of a run that was stopped while it trained, with its parameters."""
    study, plans = open_study()
    plan = plans.unpruned(Unpruned("fake_vit", "onnxruntime", "cpu", quantization))
    study.enqueue(plans.parameters(plan), "test")
    open_trial = study.ask(plans, ME)
    assert open_trial.plan == plan
    assert study.claim_training(open_trial.number, "weights", 1)
    study.release(open_trial)
    return plans.parameters(plan)


def test_a_trial_in_training_whose_word_was_dropped_is_told_at_once(open_study):
    in_training(open_study, "int8_dynamic")
    smaller, plans = open_study(space__quantization=["fp32"])
    assert smaller.queue(plans)
    open_trial = smaller.ask(plans, ME)
    assert open_trial.record.outcome == "off_space"
    assert open_trial.record.reason == "the space file no longer has quantization@onnxruntime=int8_dynamic"
    smaller.tell(open_trial, open_trial.record)
    trial = trials(smaller)[open_trial.number]
    assert (trial.state, trial.constraints) == (TrialState.PRUNED, {"in_space": 1.0})


def test_a_list_that_an_added_trial_has_lengthened_is_drawn_from(open_study):
    study, plans = open_study(space__quantization=["fp32", "int8_dynamic"])
    drawn = study.ask(plans, ME)
    other, wider = open_study(space__quantization=["fp32", "int8_dynamic", "int8_ptq"])
    other.ask(plans, ME)
    added = wider.unpruned(Unpruned("fake_vit", "onnxruntime", "cpu", "int8_ptq"))
    number = other.add(wider, Record("confirmed", added, metrics=METRICS))
    assert other.ask(wider, ME).number == study.ask(plans, ME).number - 1 == number + 1
    assert trials(study)[drawn.number].distributions == trials(other)[drawn.number].distributions


def test_a_trial_that_ended_because_its_word_is_gone_may_be_asked_again(open_study):
    parameters = in_training(open_study, "int8_dynamic")
    smaller, plans = open_study(space__quantization=["fp32"])
    open_trial = smaller.ask(plans, ME)
    smaller.tell(open_trial, open_trial.record)
    again, plans = open_study()
    again.enqueue(parameters, "test")
    assert plans.parameters(again.ask(plans, ME).plan) == parameters


def test_a_number_between_two_choices_becomes_the_nearest(open_study):
    study, plans = open_study()
    study.enqueue(plans.parameters(cut_plan(plans, 0.25)) | {"ffn_pruning_ratio": 0.31}, "test")
    assert study.ask(plans, ME).plan == cut_plan(plans, 0.25)


def cut_plan(plans, ratio):
    plan = plans.unpruned(Unpruned("fake_vit", "onnxruntime", "cpu", "fp32"))
    return replace(plan, compression=replace(plan.compression, ffn_pruning_ratio=ratio))


def int8_plan(plans):
    return plans.unpruned(Unpruned("fake_vit", "onnxruntime", "cpu", "int8_dynamic"))


@pytest.mark.parametrize(
    ("waiting", "changes", "lacks"),
    [
        (int8_plan, {"space__quantization": ["fp32"]}, "quantization@onnxruntime=int8_dynamic"),
        (int8_plan, {"space__quantization": ["fp32", "int8_ptq"]}, "quantization@onnxruntime=int8_dynamic"),
        (lambda plans: cut_plan(plans, 0.75), {"space__ffn_pruning_ratio": [0.0, 0.5]}, "ffn_pruning_ratio=0.75"),
        (lambda plans: cut_plan(plans, 0.75), {"space__ffn_pruning_ratio": [0.5]}, "ffn_pruning_ratio=0.75"),
    ],
)
def test_a_trial_that_a_space_file_lacks_waits_for_a_run_that_has_it(open_study, storage, waiting, changes, lacks):
    first, wider = open_study(storage, space__quantization=["fp32", "int8_dynamic"])
    plan = waiting(wider)
    first.enqueue(wider.parameters(plan), "leaderboard")
    second, smaller = open_study(storage, **changes)
    assert not second.queue(smaller)
    assert second.waiting_outside(smaller) == {0: lacks}
    other = second.ask(smaller, ME)
    assert (other.number, other.record) == (1, None)
    assert first.queue(wider)
    taken = first.ask(wider, ME)
    assert (taken.number, taken.plan) == (0, plan)
    assert second.ask(smaller, ME).number == 2


def test_a_trial_of_another_space_file_keeps_no_other_trial_from_being_asked(open_study, storage):
    first, wider = open_study(storage)
    own = [cut_plan(wider, ratio) for ratio in (0.25, 0.5)]
    for plan in (*own, cut_plan(wider, 0.75)):
        first.enqueue(wider.parameters(plan), "leaderboard")
    second, smaller = open_study(storage, space__ffn_pruning_ratio=[0.0, 0.25, 0.5])
    asked = [second.ask(smaller, ME) for _ in range(3)]
    assert [trial.number for trial in asked] == [0, 1, 3]
    assert [trial.plan for trial in asked[:2]] == own
    assert first.ask(wider, ME).plan == cut_plan(wider, 0.75)


def test_a_list_that_was_lengthened_while_a_trial_was_drawn_breaks_nothing(open_study, storage):
    names = lambda *words: [{"name": word, "weights": "builtin"} for word in words]  # noqa: E731
    first, plans = open_study(storage, space__backbone=names("a", "b"))
    first.ask(plans, ME)
    second, wider = open_study(storage, space__backbone=names("a", "b", "c"))

    class Meanwhile(optuna.samplers.RandomSampler):
        def before_trial(self, *_):
            second.ask(wider, ME)
            first.sample_with(optuna.samplers.RandomSampler(seed=1))

    first.sample_with(Meanwhile())
    late = first.ask(plans, ME)
    third, _ = open_study(storage, space__backbone=names("a", "b", "c"))
    for driver, choices in ((second, wider), (third, wider), (first, plans), (second, wider)):
        assert driver.ask(choices, ME).number > late.number
    fresh, _ = open_study(storage, space__backbone=names("a", "b", "c"))
    assert {trial.distributions["backbone"].choices for trial in trials(fresh).values()} == {("a", "b", "c")}
