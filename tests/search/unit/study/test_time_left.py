"""The time left: nothing before the first training, then an interval that holds what a recorded run really took."""

from __future__ import annotations

import heapq
import math
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitsearch.study.time_left import TimeLeft, TrialSpan, gaps, time_left

RECORDED = [
    *((0.0, 5.5, False), (0.0, 5.5, False), (0.0, 45.3, True), (5.5, 45.6, False), (5.5, 50.3, True)),
    *((5.6, 45.6, False), (45.7, 58.8, False), (45.7, 58.9, False), (45.7, 58.8, True), (50.5, 58.9, False)),
    *((50.5, 59.9, True), (50.6, 58.9, False), (58.9, 72.8, False), (58.9, 72.8, False), (58.9, 72.5, True)),
    *((62.2, 72.8, False), (62.2, 72.8, False), (62.2, 83.1, True), (72.8, 83.6, False), (72.9, 100.2, True)),
    *((72.9, 93.9, True), (83.6, 86.8, False), (86.8, 88.8, False), (88.8, 100.2, False), (88.8, 100.2, False)),
    *((88.8, 102.8, True), (93.9, 105.2, False), (93.9, 100.2, False), (94.0, 105.2, False), (100.2, 105.2, False)),
    *((100.3, 114.9, False), (100.3, 114.8, True), (105.2, 108.7, False), (105.3, 109.4, False), (105.3, 124.0, True)),
    *((108.8, 124.0, False), (109.4, 130.5, True), (114.8, 124.0, False), (114.8, 124.0, False)),
    *((114.9, 124.0, False), (124.0, 139.7, True), (124.1, 148.0, True), (124.1, 130.6, False)),
    *((130.5, 139.8, False), (130.5, 148.0, False), (130.6, 139.8, False)),
]
"""The trials of a quickstart with 14 trainings on two cores: start and end in seconds, and whether it was trained."""
HALF_TIME_FACTOR = 1.5
SECONDS = st.floats(0.1, 1e4)
GAPS = st.lists(SECONDS, min_size=1, max_size=30)


def recorded() -> list[TrialSpan]:
    return [TrialSpan(*span) for span in RECORDED]


def estimate_at(spans: list[TrialSpan], now_s: float, slots: int = 1) -> TimeLeft | None:
    """What a run would have shown at `now_s`, when it wants as many trainings as it got in the end."""
    past = [span for span in spans if span.end_s <= now_s]
    trained = [span.end_s for span in past if span.trained]
    wanted = sum(span.trained for span in spans)
    return time_left(gaps(past), wanted - len(trained), slots, now_s - max(trained, default=0.0))


def middle(estimate: TimeLeft | None) -> float:
    assert estimate is not None
    return math.sqrt(estimate.low_s * estimate.high_s)


# ---- a run that was recorded


def test_nothing_is_estimated_before_the_first_training_has_ended():
    assert estimate_at(recorded(), 45.0) is None


def test_the_interval_holds_the_time_that_was_left_at_nine_of_ten_moments_of_a_recorded_run():
    moments = range(46, 148)
    intervals = {now_s: estimate for now_s in moments if (estimate := estimate_at(recorded(), now_s)) is not None}
    assert len(intervals) == len(moments)
    covered = sum(interval.low_s <= 148.0 - now_s <= interval.high_s for now_s, interval in intervals.items())
    assert covered >= 0.9 * len(moments)


def test_at_half_time_of_a_recorded_run_the_middle_is_within_its_factor():
    off = middle(estimate_at(recorded(), 74.0)) / 74.0
    assert 1 / HALF_TIME_FACTOR <= off <= HALF_TIME_FACTOR


@given(st.floats(1.0, 1e6), st.integers(1, 13))
def test_a_break_between_two_runs_changes_nothing(pause_s, after):
    ends = sorted(span.end_s for span in recorded())
    cut = ends[after]
    before = [span for span in recorded() if span.end_s <= cut]
    later = [replace(span, start_s=max(span.start_s, cut)) for span in recorded() if span.end_s > cut]
    moved = [TrialSpan(span.start_s + pause_s, span.end_s + pause_s, span.trained) for span in later]
    assert gaps([*before, *moved]) == pytest.approx(gaps([*before, *later]), abs=1e-6)


# ---- runs of any kind


def simulated(slots: int, seed: int) -> list[TrialSpan]:
    """Trainings of 5 to 20 s in random order, one after another in each of several slots."""
    chance = random.Random(seed)
    durations = [chance.uniform(5.0, 20.0) for _ in range(16 * slots)]
    free, spans = [0.0] * slots, []
    for duration in durations:
        start = heapq.heappop(free)
        heapq.heappush(free, start + duration)
        spans.append(TrialSpan(start, start + duration, trained=True))
    return spans


@pytest.mark.parametrize("slots", [1, 2, 3, 4])
def test_at_half_time_of_99_in_100_simulated_runs_the_middle_is_within_a_factor_of_two(slots):
    within = 0
    for seed in range(200):
        spans = simulated(slots, seed)
        half = max(span.end_s for span in spans) / 2
        within += 0.5 <= middle(estimate_at(spans, half, slots)) / half <= 2.0
    assert within >= 198


@given(GAPS, st.integers(0, 100), st.integers(1, 8), SECONDS)
def test_the_lower_end_is_never_above_the_upper_one_nor_below_zero(past, plans, slots, since_s):
    estimate = time_left(past, plans, slots, since_s)
    assert estimate is not None
    assert 0.0 <= estimate.low_s <= estimate.high_s


@given(GAPS, st.integers(1, 100), st.integers(1, 8), SECONDS)
def test_one_plan_more_never_takes_less_time(past, plans, slots, since_s):
    fewer, more = (time_left(past, number, slots, since_s) for number in (plans, plans + 1))
    assert fewer is not None
    assert more is not None
    assert more.high_s >= fewer.high_s


@given(GAPS, st.integers(1, 100), st.integers(1, 8), SECONDS, st.sampled_from([0.5, 2.0, 16.0]))
def test_a_machine_that_is_slower_by_a_factor_takes_longer_by_that_factor(past, plans, slots, since_s, factor):
    fast = time_left(past, plans, slots, since_s)
    slow = time_left([gap * factor for gap in past], plans, slots, since_s * factor)
    assert fast is not None
    assert slow is not None
    assert (slow.low_s, slow.high_s) == pytest.approx((fast.low_s * factor, fast.high_s * factor))


@given(SECONDS, st.integers(4, 30), st.integers(1, 50))
def test_plans_of_equal_time_take_as_long_as_those_before(gap_s, seen, plans):
    estimate = time_left([gap_s] * seen, plans, 1, 0.0)
    assert estimate is not None
    assert estimate.low_s <= gap_s * plans <= estimate.high_s


def test_a_plan_that_is_late_moves_the_end_away():
    on_time, late = time_left([10.0] * 5, 1, 1, 5.0), time_left([10.0] * 5, 1, 1, 600.0)
    assert on_time is not None
    assert late is not None
    assert late.high_s == 300.0 > on_time.high_s


def test_no_plan_left_takes_no_time():
    assert time_left([], 0, 1, 5.0) == TimeLeft(0.0, 0.0)


@pytest.mark.parametrize(
    ("low_s", "high_s", "text"),
    [
        (2.0, 9.0, "a few seconds"),
        (1.0, 44.0, "up to 45 s"),
        (21.0, 44.0, "about 20 to 45 s"),
        (235.0, 430.0, "about 4 to 7 min"),
        (235.0, 242.0, "about 4 min"),
        (10.0, 430.0, "up to 7 min"),
        (4000.0, 9000.0, "about 1 to 2.5 h"),
        (3 * 86400.0, 7 * 86400.0, "about 72 to 168 h"),
    ],
)
def test_an_interval_in_words(low_s, high_s, text):
    assert str(TimeLeft(low_s, high_s)) == text
