"""Which trials count as those of a plan, when the space file had other choices as they ran."""

from __future__ import annotations

from dataclasses import replace

import pytest

from support.studies import ME, METRICS
from vitsearch.core.record import Record
from vitsearch.study.places import Places
from vitsearch.study.sampling import Unpruned


@pytest.fixture
def run(open_study, storage):
    """Run one unpruned plan to its end, under a file of two precisions."""

    def run(precision):
        study, plans = open_study(storage, space__quantization=["fp32", "int8_dynamic"])
        study.enqueue(plans.parameters(unpruned(plans, precision)), "test")
        open_trial = study.ask(plans, ME)
        assert open_trial.plan == unpruned(plans, precision)
        study.tell(open_trial, Record("confirmed", open_trial.plan, metrics=METRICS))

    return run


def unpruned(plans, precision):
    return plans.unpruned(Unpruned("fake_vit", "onnxruntime", "cpu", precision))


def test_a_plan_is_untried_where_only_its_other_precision_has_ended(run, open_study, storage):
    run("int8_dynamic")
    study, narrow = open_study(storage, space__quantization=["fp32"])
    study.enqueue_untried(Places(narrow), unpruned(narrow, "fp32"), "leaderboard")
    assert study.ask(narrow, ME).plan == unpruned(narrow, "fp32")


def test_a_plan_is_tried_though_its_parameters_are_fewer_now(run, open_study, storage):
    run("fp32")
    study, narrow = open_study(storage, space__quantization=["fp32"])
    study.enqueue_untried(Places(narrow), unpruned(narrow, "fp32"), "leaderboard")
    assert not study.queue(narrow)


def test_a_plan_is_tried_though_its_parameters_are_more_now(open_study, storage):
    study, narrow = open_study(storage, space__quantization=["fp32"])
    open_trial = study.ask(narrow, ME)
    study.tell(open_trial, Record("confirmed", open_trial.plan, metrics=METRICS))
    study, wider = open_study(storage, space__quantization=["fp32", "int8_dynamic"])
    study.enqueue_untried(Places(wider), open_trial.plan, "leaderboard")
    assert not study.queue(wider)


def test_a_trial_whose_choice_the_file_has_dropped_has_no_place(run, open_study, storage):
    run("int8_dynamic")
    study, narrow = open_study(storage, space__quantization=["fp32"])
    places, records = Places(narrow), study.records()
    assert [places.of(number, record) for number, record in records.items()] == [None]
    assert places.tried(records) == set()


def test_a_plan_that_another_file_runs_with_a_ratio_in_between_is_untried(open_study, storage):
    """Its numbers count as the choices of its own file, which are not known here."""
    other, finer = open_study(storage, space__ffn_pruning_ratio=[0.0, 0.1, 0.5])
    plan = unpruned(finer, "fp32")
    cut = replace(plan, compression=replace(plan.compression, ffn_pruning_ratio=0.1))
    other.enqueue(finer.parameters(cut), "test")
    assert other.ask(finer, ME).plan == cut
    study, coarser = open_study(storage, space__ffn_pruning_ratio=[0.0, 0.5])
    study.enqueue_untried(Places(coarser), plan, "leaderboard")
    assert study.ask(coarser, ME).plan == plan
