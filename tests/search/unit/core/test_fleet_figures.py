"""Figures of several devices as one, for any figures."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitsearch.core.figures import Figure, Metrics
from vitsearch.core.fleet import Weighted, Worst, combined

POSITIVE = st.floats(1e-3, 1e6)


@st.composite
def figures(draw):
    """A value inside its interval."""
    low, value, high = sorted(draw(st.tuples(POSITIVE, POSITIVE, POSITIVE)))
    return Figure(value, low, high)


FLEETS = st.dictionaries(st.sampled_from(["nano", "pi5", "orin"]), figures(), min_size=2)
WEIGHTS = st.fixed_dictionaries({name: st.floats(0.01, 100.0) for name in ("nano", "pi5", "orin")})


def of(name, by_device, rule):
    return combined({device: Metrics({name: figure}) for device, figure in by_device.items()}, rule).figures


@given(FLEETS)
def test_the_worst_case_is_the_largest_cost_inside_an_interval_of_the_largest_ends(by_device):
    figure = of("latency_ms_p50", by_device, Worst())["latency_ms_p50"]
    assert figure.value == max(part.value for part in by_device.values())
    assert (figure.low, figure.high) == (
        max(part.low for part in by_device.values()),
        max(part.high for part in by_device.values()),
    )
    assert figure.low <= figure.value <= figure.high


@given(FLEETS)
def test_where_more_is_better_the_worst_case_is_the_smallest(by_device):
    figure = of("throughput_ips", by_device, Worst())["throughput_ips"]
    assert figure.value == min(part.value for part in by_device.values())
    assert figure.low <= figure.value <= figure.high


@given(FLEETS, WEIGHTS)
def test_a_weighted_mean_lies_between_its_devices_and_so_does_its_interval(by_device, weights):
    rule = Weighted({name: weights[name] for name in by_device})
    figure = of("latency_ms_p50", by_device, rule)["latency_ms_p50"]
    assert (
        min(part.value for part in by_device.values()) <= figure.value <= max(part.value for part in by_device.values())
    )
    assert figure.low <= figure.value <= figure.high
    lowest, highest = min(part.low for part in by_device.values()), max(part.high for part in by_device.values())
    rounding = 1e-12 * highest  # a low end is a difference of values that may be far larger
    assert lowest - rounding <= figure.low
    assert figure.high <= highest + rounding


@given(FLEETS, WEIGHTS, st.floats(0.1, 10.0))
def test_only_the_ratio_of_weights_counts(by_device, weights, factor):
    shares = {name: weights[name] for name in by_device}
    scaled = {name: share * factor for name, share in shares.items()}
    own, other = (of("energy_mj", by_device, Weighted(each))["energy_mj"] for each in (shares, scaled))
    assert own.value == pytest.approx(other.value)
    assert (own.low, own.high) == pytest.approx((other.low, other.high))


def test_errors_of_devices_that_are_measured_apart_add_up_in_squares():
    by_device = {"nano": Figure(10.0, 9.0, 11.0), "pi5": Figure(4.0, 3.0, 5.0)}
    figure = of("latency_ms_p50", by_device, Weighted({"nano": 1.0, "pi5": 1.0}))["latency_ms_p50"]
    assert figure.value == 7.0
    assert (figure.low, figure.high) == pytest.approx((7.0 - math.sqrt(0.5), 7.0 + math.sqrt(0.5)))


@given(FLEETS)
def test_each_device_keeps_its_own_figure_under_its_name(by_device):
    figures = of("latency_ms_p50", by_device, Worst())
    assert {name: figures[f"latency_ms_p50@{name}"] for name in by_device} == by_device


@pytest.mark.parametrize("rule", [Worst(), Weighted({"nano": 1.0, "pi5": 1.0})])
def test_what_one_device_lacks_the_fleet_lacks_with_the_reason_of_that_device(rule):
    by_device = {"nano": Figure(None, reason="no meter"), "pi5": Figure(4.0)}
    figures = of("energy_mj", by_device, rule)
    assert figures["energy_mj"] == Figure(None, reason="device nano: no meter")
    assert figures["energy_mj@pi5"] == Figure(4.0)


def test_a_figure_has_an_interval_where_every_device_has_one():
    by_device = {"nano": Figure(4.0), "pi5": Figure(3.0, 2.0, 5.0)}
    assert of("latency_ms_p50", by_device, Worst())["latency_ms_p50"] == Figure(4.0)


def test_a_metric_that_only_one_device_gives_is_missing():
    metrics = {"nano": Metrics({"load_ms": Figure(1.0)}), "pi5": Metrics({})}
    assert combined(metrics, Worst()).figures["load_ms"].reason == "device pi5: it was not measured there"


def test_a_note_says_which_device_it_is_of():
    by_device = {"nano": Figure(4.0, note="it is hot"), "pi5": Figure(3.0)}
    assert of("latency_ms_p50", by_device, Worst())["latency_ms_p50"].note == "device nano: it is hot"
