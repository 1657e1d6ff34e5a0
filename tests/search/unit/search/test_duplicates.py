"""Which trials repeat another one, and what they have of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from support.schedulers import KEYS, candidate, metrics, scheduler_of
from vitsearch.core.limits import Bound
from vitsearch.core.record import Record


def test_the_first_of_its_kind_is_not_a_duplicate(plan):
    scheduler = scheduler_of()
    assert scheduler.duplicate_of(0, plan, KEYS) is None
    assert scheduler.duplicate_of(0, plan, KEYS) is None  # the same trial, resumed


def test_the_same_plan_as_a_running_trial_is_a_duplicate(plan):
    scheduler = scheduler_of()
    scheduler.duplicate_of(0, plan, KEYS)
    record = scheduler.duplicate_of(1, plan, KEYS)
    assert (record.outcome, record.duplicate_of) == ("duplicate", 0)
    assert record.reason == "trial 0 resolves to the same plan and is still running"


@pytest.mark.parametrize("outcome", ["confirmed", "failed"])
def test_the_same_plan_as_a_finished_trial_has_its_record(plan, outcome):
    finished = Record(outcome, plan, keys=KEYS, metrics=metrics(accuracy=0.9))
    scheduler = scheduler_of({4: finished})
    other = replace(plan, backbone="x")
    record = scheduler.duplicate_of(5, other, KEYS)
    assert record == replace(finished, plan=other, duplicate_of=4, reason="resolves to the same plan as trial 4")
    assert not record.was_trained


@pytest.mark.parametrize(("most_ms", "is_known"), [(1.3, True), (2.5, False)])
def test_an_infeasible_plan_is_known_while_it_breaks_a_limit(plan, most_ms, is_known):
    limits = (Bound("cpu_ms_p50", "<=", most_ms),)
    record = Record(
        "infeasible", plan, keys=KEYS, metrics=metrics(cpu_ms_p50=2.0), constraints={"cpu_ms_p50<=1.3": 0.5}
    )
    scheduler = scheduler_of({4: record}, bounds=limits)
    assert (scheduler.duplicate_of(5, plan, KEYS) is not None) == is_known


@pytest.mark.parametrize("outcome", ["dominated", "not_promoted", "does_not_fit"])
def test_what_was_put_aside_may_be_tried_again(plan, outcome):
    scheduler = scheduler_of({4: Record(outcome, plan, keys=KEYS)})
    assert scheduler.duplicate_of(5, plan, KEYS) is None
    assert scheduler.duplicate_of(6, plan, KEYS).duplicate_of == 5


def test_another_graph_is_not_a_duplicate(plan):
    scheduler = scheduler_of({4: Record("confirmed", plan, keys=KEYS)})
    assert scheduler.duplicate_of(5, plan, replace(KEYS, graph_key="h" * 64)) is None


def test_the_plan_of_a_trial_that_was_lost_is_no_duplicate(plan):
    scheduler, keys = scheduler_of(), candidate(1, 0.9, 2.0).keys
    assert scheduler.duplicate_of(1, plan, keys) is None
    assert scheduler.duplicate_of(2, plan, keys).outcome == "duplicate"
    scheduler.lose(1)
    assert scheduler.duplicate_of(3, plan, keys) is None
