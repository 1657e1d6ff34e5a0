"""What a run does next, from one state."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitsearch.core.policy import POLICY
from vitsearch.core.record import Record
from vitsearch.search.ending import EndRules, SearchState, Step, Streaks, awaited

RULES = EndRules(wanted=4, listed=0, least_gain=0.001, policy=POLICY.ending)
SEARCHING = SearchState(
    trained=1, in_training=0, in_training_elsewhere=0, candidates=0, open=0, queued=0, queued_in_training=0,
    are_all_tried=False, runs_elsewhere=False,
)  # fmt: skip
LOW = Streaks(low_gains=(0.0004,) * POLICY.ending.low_proposals)
FAILING = Streaks(failures=POLICY.ending.failures, last_failure="boom")


@pytest.mark.parametrize(
    ("changes", "step"),
    [
        ({}, Step.SEARCH),
        ({"in_training": 3, "open": 3}, Step.QUEUE),  # whoever comes now finds no training
        ({"trained": 4}, Step.END),
        ({"trained": 4, "open": 2}, Step.LAST_ROUND),
        ({"trained": 4, "open": 2, "queued": 1}, Step.QUEUE),
        ({"streaks": LOW, "candidates": 1, "open": 1}, Step.LAST_ROUND),  # it may add enough at its best
        ({"streaks": LOW, "candidates": 1, "open": 1, "queued": 1}, Step.QUEUE),
        ({"streaks": LOW}, Step.END),
        ({"streaks": FAILING}, Step.END),
        ({"streaks": FAILING, "candidates": 1, "open": 1}, Step.LAST_ROUND),
        ({"budget_spent": "spent", "queued": 3}, Step.END),
        ({"budget_spent": "spent", "open": 1}, Step.CLOSE),
        ({"are_all_tried": True, "candidates": 1, "open": 1}, Step.LAST_ROUND),
        ({"are_all_tried": True, "candidates": 1, "open": 2}, Step.QUEUE),  # one is screened
        ({"are_all_tried": True, "runs_elsewhere": True}, Step.QUEUE),
        ({"are_all_tried": True}, Step.END),
    ],
)
def test_a_state_has_one_next_step(changes, step):
    assert RULES.next_step(replace(SEARCHING, **changes)) is step


@pytest.mark.parametrize(("rung", "low_gains"), [(3, ()), (0, LOW.low_gains)])
def test_a_training_lets_a_search_ask_again(plan, rung, low_gains):
    """It corrects what was expected of other plans."""
    assert LOW.told(Record("confirmed", plan, "", rung=rung), is_proposal=True).low_gains == low_gains


COUNTS = st.integers(0, 5)
STATES = st.builds(
    SearchState,
    trained=COUNTS,
    in_training=COUNTS,
    in_training_elsewhere=COUNTS,
    candidates=COUNTS,
    open=COUNTS,
    queued=COUNTS,
    queued_in_training=COUNTS,
    are_all_tried=st.booleans(),
    runs_elsewhere=st.booleans(),
    budget_spent=st.none() | st.just("spent"),
    converged_before=st.none() | st.just("converged"),
    streaks=st.sampled_from([Streaks(), FAILING, Streaks(without_gain=15), LOW]),
)


@given(STATES)
def test_a_run_ends_with_nothing_open_and_with_a_reason(state):
    ends = RULES.next_step(state) is Step.END
    assert not ends or (state.open == 0 and RULES.why_ended(state))


@given(STATES)
def test_a_run_with_nothing_open_and_an_empty_queue_waits_for_others_alone(state):
    """Otherwise it asks for more, or ends."""
    idle = replace(state, open=0, candidates=0, in_training=0, queued=0)
    waits = RULES.next_step(idle) not in (Step.SEARCH, Step.END)
    assert not waits or idle.runs_elsewhere or idle.in_training_elsewhere


def test_a_run_that_waits_says_for_what():
    assert awaited(replace(SEARCHING, candidates=2, in_training_elsewhere=1)) == (
        "2 candidates wait for a training; other runs of the study have those that are left"
    )
    assert awaited(replace(SEARCHING, runs_elsewhere=True)) == "other runs of the study have not ended their trials"
