"""Which plan is trained next, and the verdict on a screening measurement."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

import pytest

from support.schedulers import (
    KEYS,
    PLAN,
    answers,
    candidate,
    expected,
    let_tasks_run,
    scheduler_of,
    screened,
)
from vitsearch.core.figures import Figure, Metrics
from vitsearch.core.limits import Bound
from vitsearch.core.record import RunningTrial
from vitsearch.search.scheduler import ENDED
from vitsearch.search.verdicts import NO_GAIN
from vitsearch.stages import Evaluation

# ---- choosing


def test_no_candidate_is_chosen_before_the_round_is_full():
    assert answers(scheduler_of(candidates=2), candidate(0, 0.88, 2.0)) == {0: "waits"}


def test_one_candidate_of_a_full_round_is_chosen():
    reasons = answers(scheduler_of(), candidate(0, 0.88, 2.0), candidate(1, 0.88, 1.0))
    assert reasons == {0: NO_GAIN, 1: None}  # at one accuracy the slower one adds nothing


@dataclass
class GivenAway:
    """All trainings are given to others, and one to a trial that its driver has left."""

    left: int

    def claim(self, trial):
        return trial.number == self.left

    def holds(self, trial):
        return trial.number == self.left


def test_a_training_that_a_driver_has_left_goes_on_although_another_plan_would_add_more():
    better, left = candidate(0, 0.88, 1.0), candidate(1, 0.9, 3.9)
    assert answers(scheduler_of(trainings=GivenAway(left=1)), better, left) == {0: "waits", 1: None}


def test_a_candidate_that_lost_a_round_waits_for_the_next():
    assert answers(scheduler_of(), candidate(0, 0.88, 1.0), candidate(1, 0.9, 3.9)) == {0: None, 1: "waits"}


def test_the_largest_gain_beats_the_highest_accuracy(confirmed):
    """By accuracy alone a slow copy of a known model would be trained; by hypervolume the fast one is."""
    scheduler = scheduler_of({0: confirmed(0.9, 3.0)})
    accurate, fast = candidate(1, 0.899, 2.95), candidate(2, 0.86, 1.0)
    assert accurate.qualities["accuracy"].mean > fast.qualities["accuracy"].mean
    assert answers(scheduler, accurate, fast)[2] is None


def test_trials_in_training_count_as_known():
    scheduler = scheduler_of(candidates=1, slots=3)
    reasons = answers(scheduler, candidate(0, 0.88, 1.0), candidate(1, 0.88, 1.0))
    assert reasons == {0: None, 1: NO_GAIN}


def test_no_more_are_chosen_than_there_are_slots():
    reasons = answers(scheduler_of(candidates=1, slots=1), candidate(0, 0.88, 1.0), candidate(1, 0.895, 2.0))
    assert reasons == {0: None, 1: "waits"}


def test_no_more_are_chosen_than_are_wanted():
    scheduler = scheduler_of(candidates=1, slots=5, wanted=1)
    assert answers(scheduler, candidate(0, 0.88, 1.0), candidate(1, 0.895, 2.0)) == {0: None, 1: "waits"}


def test_a_slot_that_becomes_free_is_filled(confirmed):
    scheduler = scheduler_of(candidates=1)

    async def ask():
        first = asyncio.create_task(scheduler.wait_for_slot(candidate(0, 0.88, 1.0)))
        await let_tasks_run()
        second = asyncio.create_task(scheduler.wait_for_slot(candidate(1, 0.895, 2.0)))
        await let_tasks_run()
        waited = not second.done()
        scheduler.add(0, confirmed(0.88, 1.0))
        return await first, waited, await second

    assert asyncio.run(ask()) == (None, True, None)


# ---- going on with a training


def in_training(scheduler, trial):
    asyncio.run(scheduler.wait_for_slot(trial))
    return trial


def test_a_trial_in_training_goes_on_although_better_ones_wait():
    scheduler = scheduler_of(candidates=1)
    training = in_training(scheduler, candidate(0, 0.86, 2.0))
    answers(scheduler, candidate(1, 0.899, 1.0))
    assert scheduler.why_stop(training) is None


def test_a_trial_in_training_stops_when_what_was_found_meanwhile_is_better(confirmed):
    scheduler = scheduler_of(candidates=1)
    training = in_training(scheduler, candidate(0, 0.86, 2.0))
    scheduler.add(1, confirmed(0.89, 1.0))
    assert scheduler.why_stop(training) == NO_GAIN


def test_a_trial_in_training_stops_with_the_search():
    scheduler = scheduler_of(candidates=1)
    training = in_training(scheduler, candidate(0, 0.86, 2.0))
    scheduler.closed = True
    assert scheduler.why_stop(training) == ENDED


def promoted(scheduler, trial):
    return asyncio.run(scheduler.promote(trial))


def test_a_trial_is_promoted_into_training_and_after_its_last_rung():
    scheduler = scheduler_of(candidates=1)
    training = candidate(0, 0.86, 2.0)
    assert promoted(scheduler, training) is None
    assert scheduler.in_training == 1
    scheduler.closed = True
    assert promoted(scheduler, training) == ENDED
    assert promoted(scheduler, replace(training, rung=1)) is None


def test_what_is_trained_elsewhere_is_promoted_if_it_may_add_enough(confirmed):
    scheduler = scheduler_of({0: confirmed(0.89, 1.0)}, candidates=9)
    assert promoted(scheduler, replace(candidate(1, 0.895, 0.9), rung=1)) is None
    assert promoted(scheduler, replace(candidate(2, 0.87, 2.0), rung=1)) == NO_GAIN
    assert scheduler.in_training == 0


@pytest.mark.parametrize(("measured", "best"), [(0.85, expected(0.86)), (0.87, expected(0.87, 0.007))])
def test_a_rung_only_raises_what_was_predicted_of_the_last_one(measured, best):
    after = candidate(0, 0.86, 2.0).after_rung(1, expected(measured, 0.007))
    assert (after.rung, after.qualities, after.rung_values) == (1, best, {"accuracy": measured})


def test_a_stopped_trial_frees_its_slot():
    scheduler = scheduler_of(candidates=1)

    async def ask():
        await scheduler.wait_for_slot(candidate(0, 0.88, 1.0))
        assert scheduler.in_training == 1
        scheduler.forget(0)
        return await scheduler.wait_for_slot(candidate(1, 0.895, 2.0))

    assert asyncio.run(ask()) is None
    assert scheduler.in_training == 1


def test_a_candidate_that_lost_rounds_is_not_forgotten():
    scheduler = scheduler_of(candidates=2)

    async def ask():
        corner = asyncio.create_task(scheduler.wait_for_slot(candidate(0, 0.95, 4.3)))  # always some gain
        for number in range(1, 6):
            asyncio.create_task(scheduler.wait_for_slot(candidate(number, 0.87, 2.0 / number)))
            await let_tasks_run()
            scheduler.forget(number - 1)
            scheduler.choose()
            await let_tasks_run()
        waits = not corner.done()
        corner.cancel()
        return waits

    assert asyncio.run(ask())


def test_a_candidate_of_which_only_the_end_of_its_forecast_reaches_the_front_waits_for_the_last_round(confirmed):
    scheduler = scheduler_of({0: confirmed(0.9, 1.0)}, candidates=1)
    dominated = [replace(candidate(n, 0.86, 1.0), qualities=expected(0.86, 0.01)) for n in (1, 2)]
    open_ = replace(candidate(9, 0.895, 1.0), qualities=expected(0.895, 0.0032))
    assert answers(scheduler, *dominated, open_) == {1: NO_GAIN, 2: NO_GAIN, 9: "waits"}
    scheduler = scheduler_of({0: confirmed(0.9, 1.0)}, candidates=1)
    scheduler.is_last_round = True
    assert answers(scheduler, *dominated, open_) == {1: NO_GAIN, 2: NO_GAIN, 9: None}


@pytest.mark.parametrize(("is_last_round", "answer"), [(False, "waits"), (True, None)])
def test_before_a_search_ends_a_backbone_whose_results_were_bad_is_tried_again(plan, confirmed, is_last_round, answer):
    """Where rung 0 says nothing, one bad result ended a search."""
    scheduler = scheduler_of(bounds=[Bound("accuracy", ">=", 0.893)], candidates=1)
    evaluation = Evaluation({"accuracy": 0.9}, 0.04, 1000)
    first, second = (
        scheduler.posterior.predict(replace(screened(plan, 1.0 / n), number=n), {"accuracy": 0.9}, evaluation)
        for n in (1, 3)
    )
    scheduler.posterior.add(1, confirmed(0.876, 1.0, keys=KEYS, proxy=first.proxy))
    scheduler.posterior.add(2, confirmed(0.876, 1.0, keys=replace(KEYS, weights_key="v" * 64), proxy=first.proxy))
    scheduler.is_last_round = is_last_round
    assert answers(scheduler, second) == {3: answer}


def test_a_candidate_that_waits_is_weighed_by_what_was_trained_since(plan, confirmed):
    """Its forecast was that of the time of its rung 0."""
    scheduler = scheduler_of(bounds=[Bound("accuracy", ">=", 0.89)], candidates=1)
    evaluation = Evaluation({"accuracy": 0.9}, 0.04, 1000)
    first, second = (
        scheduler.posterior.predict(replace(screened(plan, ms), number=n), {"accuracy": 0.9}, evaluation)
        for n, ms in ((1, 1.0), (2, 0.5))
    )

    async def ask():
        tasks = [asyncio.create_task(scheduler.wait_for_slot(trial)) for trial in (first, second)]
        await let_tasks_run()
        assert (tasks[0].done(), tasks[1].done()) == (True, False)
        for number in range(3, 7):
            keys = replace(KEYS, weights_key=f"{number}" * 64)
            scheduler.posterior.add(number, confirmed(0.87, 1.0, keys=keys, proxy=first.proxy))
        scheduler.forget(1)
        scheduler.choose()
        return await tasks[1]

    assert asyncio.run(ask()) == NO_GAIN


def test_the_price_of_a_training_decides_between_equal_gains():
    dear_first = scheduler_of(price=lambda trial: 100.0 if trial.number == 0 else 1.0)
    assert answers(dear_first, candidate(0, 0.88, 1.0), candidate(1, 0.9, 2.5)) == {0: "waits", 1: None}
    assert answers(scheduler_of(), candidate(0, 0.88, 1.0), candidate(1, 0.9, 2.5)) == {0: None, 1: "waits"}


def test_when_nobody_else_comes_a_candidate_needs_no_full_round():
    assert answers(scheduler_of(candidates=2), candidate(0, 0.88, 1.0)) == {0: "waits"}
    last = scheduler_of(candidates=2)
    last.is_last_round = True
    assert answers(last, candidate(0, 0.88, 1.0)) == {0: None}


def test_the_last_round_drops_who_adds_too_little(confirmed):
    last = scheduler_of({0: confirmed(0.95, 0.5)})
    last.is_last_round = True
    assert answers(last, candidate(1, 0.85, 2.0)) == {1: NO_GAIN}


def test_a_candidate_waits_for_the_last_training_which_may_fail():
    last = scheduler_of(wanted=1, slots=2)
    last.is_last_round = True
    assert answers(last, candidate(0, 0.88, 1.0), candidate(1, 0.9, 2.5)) == {0: None, 1: "waits"}


def test_candidates_are_dropped_when_no_training_is_left(confirmed):
    assert answers(scheduler_of({0: confirmed(0.85, 2.0, keys=KEYS)}, wanted=1), candidate(1, 0.9, 2.5)) == {1: ENDED}


def test_the_end_of_the_search_drops_all_candidates():
    scheduler = scheduler_of()
    scheduler.closed = True
    assert answers(scheduler, candidate(0, 0.88, 1.0)) == {0: ENDED}


def test_a_candidate_without_predicted_gain_is_dropped(confirmed):
    scheduler = scheduler_of({0: confirmed(0.95, 0.5)}, candidates=1)
    assert answers(scheduler, candidate(1, 0.85, 2.0)) == {1: NO_GAIN}


def test_a_candidate_without_all_objectives_has_no_gain():
    assert answers(scheduler_of(candidates=1), candidate(0, 0.9, None)) == {0: NO_GAIN}


def test_a_candidate_that_gave_up_does_not_fill_a_round():
    scheduler = scheduler_of(candidates=2)

    async def ask():
        gone = asyncio.create_task(scheduler.wait_for_slot(candidate(0, 0.88, 1.0)))
        await let_tasks_run()
        gone.cancel()
        await let_tasks_run()
        later = asyncio.create_task(scheduler.wait_for_slot(candidate(1, 0.88, 1.0)))
        await let_tasks_run()
        waited = not later.done()
        later.cancel()
        return waited

    assert asyncio.run(ask())


# ---- while the device is unavailable


def scheduler_during_outage(**rules):
    return scheduler_of(**rules, is_unavailable=lambda: True)


def test_without_the_device_a_round_is_what_has_come_so_far():
    assert answers(scheduler_during_outage(candidates=3), candidate(0, 0.88, 1.0)) == {0: None}
    assert answers(scheduler_of(candidates=3), candidate(0, 0.88, 1.0)) == {0: "waits"}


def test_without_the_device_a_loser_still_waits_for_a_new_candidate():
    scheduler = scheduler_during_outage(candidates=3, slots=1)

    async def ask():
        await scheduler.wait_for_slot(candidate(0, 0.88, 1.0))
        two = {n: asyncio.create_task(scheduler.wait_for_slot(candidate(n, 0.88 + n / 200, 1.0 + n))) for n in (1, 2)}
        await let_tasks_run()
        chosen = []
        for number in (0, 1):  # a trial that waits to be confirmed leaves its slot
            scheduler.mark_confirming(number)
            scheduler.choose()
            await let_tasks_run()
            chosen.append([n for n, task in two.items() if task.done()])
        for task in two.values():
            task.cancel()
        return chosen

    assert asyncio.run(ask()) == [[1], [1]]


@pytest.mark.parametrize("make", [scheduler_during_outage, scheduler_of])
def test_a_trial_that_is_confirmed_leaves_its_slot(make):
    scheduler = make(candidates=1, slots=1)

    async def ask():
        await scheduler.wait_for_slot(candidate(0, 0.88, 1.0))
        scheduler.mark_confirming(0)
        next_one = asyncio.create_task(scheduler.wait_for_slot(candidate(1, 0.895, 2.0)))
        await let_tasks_run()
        answer = next_one.result() if next_one.done() else "waits"
        next_one.cancel()
        return answer

    assert asyncio.run(ask()) is None


def test_without_the_device_no_more_are_trained_than_are_wanted():
    scheduler = scheduler_during_outage(candidates=1, slots=1, wanted=1)

    async def ask():
        await scheduler.wait_for_slot(candidate(0, 0.88, 1.0))
        scheduler.mark_confirming(0)
        next_one = asyncio.create_task(scheduler.wait_for_slot(candidate(1, 0.895, 2.0)))
        await let_tasks_run()
        done = next_one.done()
        next_one.cancel()
        return done

    assert not asyncio.run(ask())


# ---- intervals


def measured(number, ms, half, accuracy=None):
    """A screened trial whose cost has an interval of `half` on either side."""
    cost = Figure(ms, ms * (1 - half), ms * (1 + half))
    return RunningTrial(number, PLAN, KEYS, Metrics({"cpu_ms_p50": cost}), qualities=accuracy or {})


@pytest.mark.parametrize(
    ("ms", "half", "decides"), [(2.05, 0.1, True), (2.05, 0.01, False), (1.5, 0.1, False), (3.0, 0.1, False)]
)
def test_the_interval_decides_where_its_ends_give_different_verdicts(confirmed, ms, half, decides):
    scheduler = scheduler_of({0: confirmed(0.91, 2.0)}, margin=0.0)
    assert scheduler.interval_decides(measured(1, ms, half)) is decides


def test_the_interval_decides_at_a_limit():
    scheduler = scheduler_of(bounds=[Bound("cpu_ms_p50", "<=", 2.0)])
    assert scheduler.interval_decides(measured(1, 1.95, 0.1))
    assert not scheduler.interval_decides(measured(1, 1.5, 0.1))


def test_the_interval_decides_whether_a_prediction_adds_anything(confirmed):
    scheduler = scheduler_of({0: confirmed(0.9, 2.0)})
    assert scheduler.interval_decides(measured(1, 2.0, 0.05, expected(0.85)))
    assert not scheduler.interval_decides(measured(1, 1.0, 0.05, expected(0.85)))


def test_nothing_is_measured_again_while_the_device_is_unavailable(confirmed):
    away = scheduler_during_outage(records={0: confirmed(0.91, 2.0)}, margin=0.0)
    assert not away.interval_decides(measured(1, 2.05, 0.1))
