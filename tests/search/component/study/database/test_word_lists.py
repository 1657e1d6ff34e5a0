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


def test_a_dropped_word_that_is_drawn_is_told_at_once(open_study):
    study, plans = open_study()
    study.ask(plans, ME)
    smaller, plans = open_study(space__quantization=["fp32"])
    smaller.enqueue({"quantization@onnxruntime": "int8_dynamic"}, "test")
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


def test_a_number_that_is_gone_becomes_the_nearest(open_study):
    study, plans = open_study()
    cut = plans.unpruned(Unpruned("fake_vit", "onnxruntime", "cpu", "fp32"))
    cut = replace(cut, compression=replace(cut.compression, ffn_pruning_ratio=0.75))
    study.enqueue(plans.parameters(cut), "test")
    smaller, plans = open_study(space__ffn_pruning_ratio=[0.0, 0.25, 0.5])
    assert smaller.ask(plans, ME).plan.compression.ffn_pruning_ratio == 0.5


@pytest.mark.parametrize("left", [["fp32"], ["fp32", "int8_ptq"]])
def test_a_word_that_was_dropped_while_its_trial_waited_is_told(open_study, left):
    study, plans = open_study(space__quantization=["fp32", "int8_ptq", "int8_dynamic"])
    waiting = plans.unpruned(Unpruned("fake_vit", "onnxruntime", "cpu", "int8_dynamic"))
    study.enqueue(plans.parameters(waiting), "test")
    smaller, plans = open_study(space__quantization=left)
    open_trial = smaller.ask(plans, ME)
    assert open_trial.record.outcome == "off_space"
    assert open_trial.record.reason == "the space file no longer has quantization@onnxruntime=int8_dynamic"


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
