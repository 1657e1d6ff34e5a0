"""Several measurements of one graph have one value."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitsearch.storage.pooled_measurements import pool
from vitsearch.testing.fakes import fake_measurement, fake_ratio, fake_times
from vitsearch_agent.wire.protocol import CONFIRM, SCREEN, Contention


def measured(cpu_ms, half=0.02, **changes):
    return fake_measurement(cpu_ms, **{"cpu_ms": fake_times(cpu_ms, half)} | changes)


def shown(measurements):
    metrics = pool(measurements).metrics
    return metrics.value("cpu_ms_p50"), *metrics.intervals["cpu_ms_p50"]


def test_one_measurement_is_its_own_value():
    assert shown([measured(2.0)]) == pytest.approx((2.0, 2.0 * 0.98, 2.0 * 1.02), rel=1e-3)


def test_a_narrow_interval_weighs_more_than_a_wide_one():
    value, _, _ = shown([measured(2.0, 0.01), measured(2.2, 0.1)])
    assert value == pytest.approx(2.0, rel=0.005)


def at_minutes(*measurements):
    """Each begins two minutes after the one before."""
    return [
        measurement._replace(started_at=f"2026-01-01T00:{2 * n:02}:00Z") for n, measurement in enumerate(measurements)
    ]


def half_of(measurements):
    _, low, high = shown(measurements)
    return math.log(high / low) / 2


def test_measurements_of_several_times_narrow_the_interval():
    assert half_of(at_minutes(*[measured(2.0)] * 4)) == pytest.approx(half_of([measured(2.0)]) / 2)


def test_measurements_of_one_minute_are_hardly_more_certain_than_the_best_of_them():
    """They share a part of their error."""
    half = half_of([measured(2.0)])
    assert half_of([measured(2.0)] * 2) == pytest.approx(math.sqrt(0.75) * half)
    assert half_of([measured(2.0)] * 99) > math.sqrt(0.5) * half


@given(st.floats(0.1, 100.0), st.floats(1.05, 3.0))
def test_two_measurements_that_disagree_leave_both_possible(cpu_ms, factor):
    value, low, high = shown([measured(cpu_ms), measured(cpu_ms * factor)])
    assert value == pytest.approx(cpu_ms * math.sqrt(factor))
    assert low < cpu_ms < cpu_ms * factor < high


def test_a_doubtful_measurement_counts_only_while_it_is_alone():
    doubtful = measured(9.0, flags=("throttled",))
    assert shown([doubtful])[0] == pytest.approx(9.0)
    assert pool([doubtful]).flags == ("throttled",)
    assert shown([doubtful, measured(2.0)])[0] == pytest.approx(2.0)
    assert pool([doubtful, measured(2.0)]).flags == ()


def test_one_process_without_an_interval_counts_only_while_it_is_alone():
    alone = fake_measurement(9.0, cpu_ms=fake_times(9.0)._replace(ci95_low=None, ci95_high=None))
    assert pool([alone]).metrics.value("cpu_ms_p50") == 9.0
    assert shown([alone, measured(2.0)])[0] == pytest.approx(2.0)


def paired(cpu_ms):
    return fake_measurement(cpu_ms, SCREEN, basis="paired", paired=fake_ratio(cpu_ms, 0.02))


def test_beside_references_two_screening_measurements_settle_a_graph_or_three_where_they_disagree():
    assert not pool([paired(2.0)]).is_settled
    assert not pool([paired(2.0)] * 2).is_settled, "in one minute"
    assert pool(at_minutes(*[paired(2.0)] * 2)).is_settled
    apart = [paired(2.0), paired(2.4)]
    assert not pool(at_minutes(*apart)).is_settled
    assert pool(at_minutes(*apart, paired(2.2))).is_settled


def test_raw_times_are_settled_by_a_confirmation_alone():
    screens = [measured(2.0, protocol=SCREEN)] * 3
    assert not pool(screens).is_settled
    assert pool([*screens, measured(2.0, protocol=CONFIRM)]).is_settled


def test_other_figures_are_medians_and_a_missing_one_keeps_its_reason():
    metrics = pool([fake_measurement(1.0, load_ms=load_ms) for load_ms in (1.0, 2.0, 9.0)]).metrics
    assert metrics.value("load_ms") == 2.0
    assert metrics.reasons["energy_mj"] == "a fake has no meter"


def test_how_long_the_last_measurement_waited_for_a_core_is_known():
    shares = (0.0, 1.34, None)
    runs = at_minutes(*(measured(2.0, contention=Contention(share, 1.0)) for share in shares))
    assert pool(runs[:2]).waited == 1.34
    assert pool([runs[1], runs[0]]).waited == 1.34, "the last by time"
    assert pool(runs).waited is None
