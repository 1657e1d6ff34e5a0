"""Limits of the space file, and the violations of values."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vitsearch.core.limits import Bound, bounds, constraints, reference_values, screened, stated_limits, unjudged


@dataclass(frozen=True)
class Limit:
    min: float | None = None
    max: float | None = None
    max_drop: float | None = None
    max_ratio: float | None = None
    min_ratio: float | None = None


BASELINE = {"accuracy": 0.9, "cpu_ms_p50": 4.0, "throughput_ips": 250.0, "energy_mj": None}


@pytest.mark.parametrize(
    ("metric", "limit", "bound"),
    [
        ("accuracy", Limit(min=0.75), Bound("accuracy", ">=", 0.75)),
        ("accuracy", Limit(max_drop=0.02), Bound("accuracy", ">=", 0.88)),
        ("cpu_ms_p50", Limit(max=3.0), Bound("cpu_ms_p50", "<=", 3.0)),
        ("cpu_ms_p50", Limit(max_ratio=0.5), Bound("cpu_ms_p50", "<=", 2.0)),
        ("throughput_ips", Limit(min_ratio=2.0), Bound("throughput_ips", ">=", 500.0)),
    ],
)
def test_a_limit_is_a_bound(metric, limit, bound):
    assert bounds({metric: limit}, BASELINE) == (bound,)


def test_one_metric_may_have_several_bounds():
    stated = bounds({"cpu_ms_p50": Limit(max=3.0, max_ratio=0.5)}, BASELINE)
    assert [bound.value for bound in stated] == [3.0, 2.0]


def test_a_relative_limit_without_a_baseline_is_left_out():
    assert bounds({"energy_mj": Limit(max_ratio=0.5)}, BASELINE) == ()
    assert bounds({"energy_mj": Limit(max=5.0)}, BASELINE) == (Bound("energy_mj", "<=", 5.0),)


@pytest.mark.parametrize(
    ("limit", "seen", "open_metrics"),
    [
        (Limit(max=5.0), 4.0, ()),
        (Limit(max=5.0), None, ("energy_mj",)),
        (Limit(max_ratio=0.5), 4.0, ("energy_mj",)),  # the baseline has no energy
    ],
)
def test_a_limit_without_a_value_cannot_be_judged(limit, seen, open_metrics):
    assert unjudged({"energy_mj": limit}, BASELINE, {"energy_mj": seen}) == open_metrics


@pytest.mark.parametrize(
    ("sense", "seen", "sign"), [("<=", 3, 1), ("<=", 2, 0), ("<=", 1, -1), (">=", 1, 1), (">=", 3, -1)]
)
def test_a_violation_is_positive_when_broken(sense, seen, sign):
    violation = Bound("cpu_ms_p50", sense, 2.0).violation(seen)
    assert (violation > 0) - (violation < 0) == sign


def test_a_violation_is_relative():
    assert Bound("cpu_ms_p50", "<=", 2.0).violation(3.0) == 0.5
    assert Bound("accuracy", ">=", 0.0).violation(-0.5) == 0.5


def test_only_measured_metrics_have_constraints():
    limits = (Bound("cpu_ms_p50", "<=", 2.0), Bound("energy_mj", "<=", 1.0), Bound("size_mb", "<=", 1.0))
    assert constraints(limits, {"cpu_ms_p50": 1.0, "energy_mj": None}) == {"cpu_ms_p50<=2": -0.5}


def test_screened_bounds_are_those_of_screened_metrics():
    limits = (Bound("cpu_ms_p50", "<=", 2.0), Bound("accuracy", ">=", 0.8), Bound("latency_ms_p95@pi", "<=", 9.0))
    assert screened(limits) == limits[:1]


def test_the_reference_lies_beyond_the_baseline():
    corner = reference_values(("accuracy", "cpu_ms_p50", "throughput_ips"), (), BASELINE)
    assert corner == pytest.approx({"accuracy": 0.85, "cpu_ms_p50": 4.4, "throughput_ips": 250 / 1.1})


def test_the_strictest_accuracy_limit_is_the_reference():
    limits = bounds({"accuracy": Limit(min=0.8, max_drop=0.02)}, BASELINE)
    assert reference_values(("accuracy",), limits, BASELINE) == {"accuracy": pytest.approx(0.88)}


def test_an_objective_that_the_baseline_lacks_is_named():
    with pytest.raises(ValueError, match="objective energy_mj was not measured for the baseline"):
        reference_values(("accuracy", "energy_mj"), (), BASELINE)


@given(st.integers(100, 2000), st.integers(1, 99))
def test_a_model_that_loses_exactly_what_it_may_meets_the_limit(correct, lost):
    """As floats 0.05 - 0.03 is above 0.02: "accuracy>=0.02: broken (0.02)" at one baseline in ten."""
    baseline = {"accuracy": correct / 2000}
    (bound,) = bounds({"accuracy": Limit(max_drop=lost / 2000)}, baseline)
    assert bound.violation((correct - lost) / 2000) <= 0.0
    assert bound.violation((correct - lost - 1) / 2000) > 0.0


@given(st.floats(0.001, 1000.0), st.floats(-0.01, 0.01), st.sampled_from(["<=", ">="]))
@example(100.0, 1e-9, "<=")
def test_a_value_is_shown_on_its_side_of_the_bound(value, off, sense):
    bound = Bound("cpu_ms_p50", sense, float(f"{value:.6g}"))
    seen = bound.value * (1.0 + off)
    assert (bound.violation(float(bound.shown(seen))) > 0.0) == (bound.violation(seen) > 0.0)


def test_as_few_digits_are_shown_as_tell_the_side():
    bound = Bound("accuracy", ">=", 0.8755)
    assert [bound.shown(seen) for seen in (0.888, 0.87549, 0.8755, 0.5 / 3)] == ["0.888", "0.87549", "0.8755", "0.1667"]


def test_what_is_minimised_may_be_as_much_higher_as_its_drop_says(pixel_error):
    (limit,) = stated_limits({pixel_error: Limit(max_drop=0.5)}, {pixel_error: 2.0})
    assert limit.bound == Bound(pixel_error, "<=", 2.5)
    assert limit.bound.violation(2.5) <= 0.0 < limit.bound.violation(2.6)
    assert limit.needed(3.0) == 1.0
    assert limit.bound_at(limit.needed(3.0)) == Bound(pixel_error, "<=", 3.0)


def test_the_reference_of_a_quality_is_a_share_of_its_span_worse_than_the_baseline(pixel_error):
    """15 % of a recall are 15 points; of an error that is at worst 10 pixels they are 1.5 pixels. Of accuracies, which
    are predicted more closely, it is 5 points."""
    baseline = {"accuracy": 0.9, "recall_min": 0.6, pixel_error: 2.0}
    corner = reference_values(("accuracy", "recall_min", pixel_error), (), baseline)
    assert corner == pytest.approx({"accuracy": 0.85, "recall_min": 0.45, pixel_error: 3.5})


def test_the_strictest_limit_of_a_minimised_quality_is_its_reference(pixel_error):
    limits = bounds({pixel_error: Limit(max=3.0, max_drop=0.2)}, {pixel_error: 2.0})
    assert reference_values((pixel_error,), limits, {pixel_error: 2.0}) == {pixel_error: pytest.approx(2.2)}


def test_a_limit_of_one_quality_leaves_the_reference_of_another():
    limits = bounds({"recall_min": Limit(min=0.5)}, BASELINE)
    assert reference_values(("accuracy",), limits, BASELINE) == {"accuracy": pytest.approx(0.85)}
