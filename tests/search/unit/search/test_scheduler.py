"""Whom to train next, and the verdict on a screen."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from vitsearch.core.limits import Bound
from vitsearch.core.pareto import loss
from vitsearch.core.record import Keys, ProxyScore, Record
from vitsearch.search.scheduler import NO_GAIN, ROUNDS_KEPT, Candidate, Rules, TrialScheduler

OBJECTIVES = ("accuracy", "cpu_ms_p50")
REFERENCE = loss(OBJECTIVES, {"accuracy": 0.8, "cpu_ms_p50": 4.4})


def scheduler_of(records=None, bounds=(), candidates=2, slots=1, wanted=99, margin=0.01):
    rules = Rules(OBJECTIVES, tuple(bounds), REFERENCE, margin, candidates, slots, wanted)
    return TrialScheduler(rules, records or {}, {"fake_vit": 0.9})


def candidate(number, accuracy, ms):
    return Candidate(number, accuracy, {"cpu_ms_p50": ms})


@pytest.fixture
def confirmed(plan):
    def make(accuracy, ms, **more):
        values = {"accuracy": accuracy, "cpu_ms_p50": ms}
        return replace(Record("confirmed", plan, values=values, screen={"cpu_ms_p50": ms}), **more)

    return make


async def recalibrate():
    for _ in range(5):
        await asyncio.sleep(0)


def answers(scheduler, *candidates):
    """What became of each candidate: its reason, None when chosen, "waits" when nothing was said."""

    async def ask():
        tasks = [asyncio.create_task(scheduler.wait_for_slot(one)) for one in candidates]
        await recalibrate()
        told = {
            one.number: task.result() if task.done() else "waits" for one, task in zip(candidates, tasks, strict=True)
        }
        for task in tasks:
            task.cancel()
        return told

    return asyncio.run(ask())


# ---- choosing


def test_nobody_is_chosen_before_the_round_is_full():
    assert answers(scheduler_of(candidates=2), candidate(0, 0.88, 2.0)) == {0: "waits"}


def test_of_a_full_round_one_is_chosen():
    told = answers(scheduler_of(), candidate(0, 0.88, 2.0), candidate(1, 0.88, 1.0))
    assert told == {0: NO_GAIN, 1: None}  # at one accuracy the slower one adds nothing


def test_the_loser_of_a_round_waits_for_the_next():
    assert answers(scheduler_of(), candidate(0, 0.88, 1.0), candidate(1, 0.9, 3.9)) == {0: None, 1: "waits"}


def test_what_adds_to_the_front_beats_what_is_most_accurate(confirmed):
    """By accuracy alone the slow twin of a known model would be trained; by hypervolume the fast one is."""
    scheduler = scheduler_of({0: confirmed(0.9, 3.0)})
    accurate, fast = candidate(1, 0.899, 2.95), candidate(2, 0.86, 1.0)
    assert accurate.accuracy > fast.accuracy
    assert answers(scheduler, accurate, fast)[2] is None


def test_who_is_in_training_counts_as_known():
    scheduler = scheduler_of(candidates=1, slots=3)
    told = answers(scheduler, candidate(0, 0.88, 1.0), candidate(1, 0.88, 1.0))
    assert told == {0: None, 1: NO_GAIN}


def test_no_more_are_chosen_than_there_are_places():
    told = answers(scheduler_of(candidates=1, slots=1), candidate(0, 0.88, 1.0), candidate(1, 0.895, 2.0))
    assert told == {0: None, 1: "waits"}


def test_no_more_are_chosen_than_are_wanted():
    scheduler = scheduler_of(candidates=1, slots=5, wanted=1)
    assert answers(scheduler, candidate(0, 0.88, 1.0), candidate(1, 0.895, 2.0)) == {0: None, 1: "waits"}


def test_a_place_that_comes_free_is_filled(confirmed):
    scheduler = scheduler_of(candidates=1)

    async def ask():
        first = asyncio.create_task(scheduler.wait_for_slot(candidate(0, 0.88, 1.0)))
        await recalibrate()
        second = asyncio.create_task(scheduler.wait_for_slot(candidate(1, 0.895, 2.0)))
        await recalibrate()
        waited = not second.done()
        scheduler.add(0, confirmed(0.88, 1.0))
        return await first, waited, await second

    assert asyncio.run(ask()) == (None, True, None)


def test_a_trial_that_was_stopped_frees_its_place():
    scheduler = scheduler_of(candidates=1)

    async def ask():
        await scheduler.wait_for_slot(candidate(0, 0.88, 1.0))
        assert scheduler.in_training == 1
        scheduler.forget(0)
        return await scheduler.wait_for_slot(candidate(1, 0.895, 2.0))

    assert asyncio.run(ask()) is None
    assert scheduler.in_training == 1


def test_who_lost_all_rounds_hears_that_others_promised_more():
    scheduler = scheduler_of(candidates=2)

    async def ask():
        loser = asyncio.create_task(
            scheduler.wait_for_slot(candidate(0, 0.95, 4.3))
        )  # its own corner: always some gain
        winners = []
        for number in range(1, ROUNDS_KEPT + 2):
            ms = 2.0 / number
            winners.append(asyncio.create_task(scheduler.wait_for_slot(candidate(number, 0.87, ms))))
            await recalibrate()
            scheduler.forget(number - 1)
            scheduler.choose()
            await recalibrate()
        told = await asyncio.wait_for(loser, 5)
        for winner in winners:
            winner.cancel()
        return told

    assert asyncio.run(ask()) == "others promised more"


def test_when_the_search_has_ended_all_are_let_go():
    scheduler = scheduler_of()
    scheduler.closed = True
    assert answers(scheduler, candidate(0, 0.88, 1.0)) == {0: "the search has ended"}


def test_what_promises_no_gain_is_let_go(confirmed):
    scheduler = scheduler_of({0: confirmed(0.95, 0.5)}, candidates=1)
    assert answers(scheduler, candidate(1, 0.85, 2.0)) == {1: NO_GAIN}


def test_a_candidate_without_all_objectives_promises_nothing():
    assert answers(scheduler_of(candidates=1), Candidate(0, 0.9, {"cpu_ms_p50": None})) == {0: NO_GAIN}


def test_a_candidate_that_gave_up_does_not_fill_a_round():
    scheduler = scheduler_of(candidates=2)

    async def ask():
        gone = asyncio.create_task(scheduler.wait_for_slot(candidate(0, 0.88, 1.0)))
        await recalibrate()
        gone.cancel()
        await recalibrate()
        later = asyncio.create_task(scheduler.wait_for_slot(candidate(1, 0.88, 1.0)))
        await recalibrate()
        waited = not later.done()
        later.cancel()
        return waited

    assert asyncio.run(ask())


# ---- duplicates

KEYS = Keys("w" * 64, "g" * 64, None, "d" * 64)


def test_the_first_of_its_kind_has_no_twin(plan):
    scheduler = scheduler_of()
    assert scheduler.duplicate_of(0, plan, KEYS) is None
    assert scheduler.duplicate_of(0, plan, KEYS) is None  # the same trial, going on


def test_a_twin_of_one_under_way_is_a_duplicate(plan):
    scheduler = scheduler_of()
    scheduler.duplicate_of(0, plan, KEYS)
    record = scheduler.duplicate_of(1, plan, KEYS)
    assert (record.outcome, record.duplicate_of) == ("duplicate", 0)
    assert record.reason == "trial 0 with the same effect is under way"


@pytest.mark.parametrize("outcome", ["confirmed", "infeasible", "failed"])
def test_a_twin_of_a_finished_one_is_told_as_it(plan, outcome):
    known = Record(outcome, plan, keys=KEYS, values={"accuracy": 0.9})
    scheduler = scheduler_of({4: known})
    other = replace(plan, backbone="x")
    record = scheduler.duplicate_of(5, other, KEYS)
    assert record == replace(known, plan=other, duplicate_of=4, reason="same effect as trial 4")
    assert not record.trained


@pytest.mark.parametrize("outcome", ["dominated", "not_promoted", "does_not_fit"])
def test_what_was_put_aside_may_be_tried_again(plan, outcome):
    scheduler = scheduler_of({4: Record(outcome, plan, keys=KEYS)})
    assert scheduler.duplicate_of(5, plan, KEYS) is None
    assert scheduler.duplicate_of(6, plan, KEYS).duplicate_of == 5


def test_another_effect_is_no_twin(plan):
    scheduler = scheduler_of({4: Record("confirmed", plan, keys=KEYS)})
    assert scheduler.duplicate_of(5, plan, replace(KEYS, graph_key="h" * 64)) is None


# ---- judging a screen


def screened(plan, ms):
    return Record("dominated", plan, keys=KEYS, screen={"cpu_ms_p50": ms})


def test_a_screen_that_breaks_a_limit_is_infeasible(plan):
    scheduler = scheduler_of(bounds=[Bound("cpu_ms_p50", "<=", 2.0), Bound("size_mb", "<=", 9.0)])
    record = scheduler.judge_screen(screened(plan, 3.0))
    assert (record.outcome, record.reason) == ("infeasible", "the screen breaks cpu_ms_p50<=2")
    assert record.constraints == {"cpu_ms_p50<=2": 0.5}


def test_a_limit_that_the_screen_cannot_judge_waits(plan):
    scheduler = scheduler_of(bounds=[Bound("latency_ms_p95", "<=", 1.0), Bound("accuracy", ">=", 0.99)])
    so_far = replace(screened(plan, 3.0), screen={"cpu_ms_p50": 3.0, "latency_ms_p95": 9.0})
    assert scheduler.judge_screen(so_far) is None


def test_hopeless_tells_the_cap_and_the_margin(plan, confirmed):
    scheduler = scheduler_of({7: confirmed(0.92, 1.0)})
    record = scheduler.judge_screen(screened(plan, 2.0))
    assert record is None  # the cap is what was seen, 0.92, and the margin: better than trial 7
    scheduler = scheduler_of({7: confirmed(0.92, 1.0), 8: confirmed(0.94, 1.0, plan=replace(plan, backbone="other"))})
    record = scheduler.judge_screen(screened(plan, 2.0))
    assert record.outcome == "dominated"
    assert record.reason == "trial 8 would be better even at the best accuracy known, 0.9300 (margin 0.01)"


def test_what_could_be_better_goes_on(plan, confirmed):
    assert scheduler_of({7: confirmed(0.9, 1.0)}).judge_screen(screened(plan, 0.9)) is None


def test_an_infeasible_model_makes_nothing_hopeless(plan, confirmed):
    other = replace(plan, backbone="other")
    scheduler = scheduler_of({8: confirmed(0.99, 0.5, plan=other, constraints={"size_mb<=1": 1.0})})
    assert scheduler.judge_screen(screened(plan, 2.0)) is None


def test_the_cap_is_never_above_one(plan, confirmed):
    scheduler = scheduler_of({8: confirmed(1.0, 0.5)}, margin=0.5)
    assert "1.0000 (margin 0.5)" in scheduler.judge_screen(screened(plan, 2.0)).reason


def test_a_screen_without_the_objective_is_not_hopeless(plan, confirmed):
    scheduler = scheduler_of({8: confirmed(0.99, 0.5)})
    assert scheduler.judge_screen(Record("dominated", plan, screen={"cpu_ms_p50": None})) is None


# ---- what was put aside


def put_aside(plan, outcome, ms, forecast=None):
    proxy = ProxyScore(0.8, 0.1, forecast) if forecast else None
    return Record(outcome, plan, keys=KEYS, screen={"cpu_ms_p50": ms}, proxy=proxy)


def test_a_relaxed_limit_takes_what_was_infeasible(plan):
    record = put_aside(plan, "infeasible", 3.0)
    assert scheduler_of(bounds=[Bound("cpu_ms_p50", "<=", 2.0)]).expected_gain(record) == 0.0
    assert scheduler_of(bounds=[Bound("cpu_ms_p50", "<=", 3.5)]).expected_gain(record) > 0.0


def test_what_is_behind_the_front_stays_aside(plan, confirmed):
    record = put_aside(plan, "not_promoted", 2.0, forecast=0.85)
    assert scheduler_of().expected_gain(record) > 0.0
    assert scheduler_of({1: confirmed(0.9, 1.0)}).expected_gain(record) == 0.0


@pytest.mark.parametrize("outcome", ["confirmed", "failed", "does_not_fit", "off_space", "duplicate"])
def test_what_has_ended_is_not_taken_again(plan, outcome):
    assert scheduler_of().expected_gain(put_aside(plan, outcome, 1.0, forecast=0.9)) == 0.0


# ---- forecasts and the last word


def test_the_forecast_learns_from_what_was_trained(plan, confirmed):
    lost = {n: confirmed(0.9 - 0.02 * n, 1.0, proxy=ProxyScore(0.8, (n / 10) ** 2, 0.9)) for n in range(1, 7)}
    assert scheduler_of(lost).predict_accuracy(0.9, 0.25) == pytest.approx(0.8)
    assert scheduler_of().predict_accuracy(0.9, 0.25) > 0.8


def test_what_was_not_promoted_says_why_and_what_was_foretold(plan):
    scheduler = scheduler_of(bounds=[Bound("cpu_ms_p50", "<=", 4.0)])
    record = scheduler.not_promoted(screened(plan, 2.0), ProxyScore(0.8, 0.1, 0.85), 0, NO_GAIN)
    assert (record.outcome, record.reason) == ("not_promoted", "it promised no gain: foretold accuracy 0.8500")
    assert record.constraints == {"cpu_ms_p50<=4": -0.5}


# ---- while the device is away


def scheduler_during_outage(**rules):
    scheduler = scheduler_of(**rules)
    return TrialScheduler(scheduler.rules, {}, scheduler.base_accuracy, is_unavailable=lambda: True)


def test_without_the_device_a_round_is_what_has_come_so_far():
    assert answers(scheduler_during_outage(candidates=3), candidate(0, 0.88, 1.0)) == {0: None}
    assert answers(scheduler_of(candidates=3), candidate(0, 0.88, 1.0)) == {0: "waits"}


def test_without_the_device_who_lost_a_round_still_waits_for_a_fresh_one():
    scheduler = scheduler_during_outage(candidates=3, slots=1)

    async def ask():
        await scheduler.wait_for_slot(candidate(0, 0.88, 1.0))
        two = {n: asyncio.create_task(scheduler.wait_for_slot(candidate(n, 0.88 + n / 200, 1.0 + n))) for n in (1, 2)}
        await recalibrate()
        chosen = []
        for number in (0, 1):  # who was in training waits to be confirmed: its place is free
            scheduler.confirms(number)
            scheduler.choose()
            await recalibrate()
            chosen.append([n for n, task in two.items() if task.done()])
        for task in two.values():
            task.cancel()
        return chosen

    assert asyncio.run(ask()) == [[1], [1]]


@pytest.mark.parametrize(("make", "second"), [(scheduler_during_outage, None), (scheduler_of, "waits")])
def test_who_waits_to_be_confirmed_leaves_the_place_only_without_the_device(make, second):
    scheduler = make(candidates=1, slots=1)

    async def ask():
        await scheduler.wait_for_slot(candidate(0, 0.88, 1.0))
        scheduler.confirms(0)
        next_one = asyncio.create_task(scheduler.wait_for_slot(candidate(1, 0.895, 2.0)))
        await recalibrate()
        told = next_one.result() if next_one.done() else "waits"
        next_one.cancel()
        return told

    assert asyncio.run(ask()) == second


def test_without_the_device_no_more_are_trained_than_are_wanted():
    scheduler = scheduler_during_outage(candidates=1, slots=1, wanted=1)

    async def ask():
        await scheduler.wait_for_slot(candidate(0, 0.88, 1.0))
        scheduler.confirms(0)
        next_one = asyncio.create_task(scheduler.wait_for_slot(candidate(1, 0.895, 2.0)))
        await recalibrate()
        done = next_one.done()
        next_one.cancel()
        return done

    assert not asyncio.run(ask())
