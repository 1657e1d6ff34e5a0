"""Dominance, hypervolume and the knee."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitsearch.core.pareto import dominates, front, gain, hypervolume, knee, loss, value_of, wilson

number = st.integers(-8, 8).map(float)
flat = st.tuples(number, number)
solid = st.tuples(number, number, number)
REFERENCE = (5.0, 5.0)


@given(solid)
def test_no_point_dominates_itself(a):
    assert not dominates(a, a)


@given(solid, solid)
def test_dominance_is_asymmetric(a, b):
    assert not (dominates(a, b) and dominates(b, a))


@given(solid, solid, solid)
def test_dominance_is_transitive(a, b, c):
    if dominates(a, b) and dominates(b, c):
        assert dominates(a, c)


@given(st.lists(solid, max_size=12))
def test_points_on_the_front_do_not_dominate_each_other(points):
    kept = [points[index] for index in front(points)]
    assert not any(dominates(a, b) for a in kept for b in kept)
    assert len(set(kept)) == len(kept)


@given(st.lists(solid, max_size=12))
def test_points_off_the_front_are_dominated_or_equal(points):
    kept = [points[index] for index in front(points)]
    assert all(point in kept or any(dominates(other, point) for other in kept) for point in points)


def test_the_first_of_equal_points_is_kept():
    assert front([(1.0, 1.0), (1.0, 1.0), (0.0, 2.0)]) == [0, 2]


def counted(points, reference):
    """Unit squares between the points and the reference: exact on whole numbers."""
    low = -8
    return sum(
        any(p[0] <= x and p[1] <= y for p in points)
        for x in range(low, int(reference[0]))
        for y in range(low, int(reference[1]))
    )


@given(st.lists(flat, max_size=8))
def test_hypervolume_is_the_counted_area(points):
    assert hypervolume(points, REFERENCE) == pytest.approx(counted(points, REFERENCE))


@given(flat, st.lists(flat, max_size=8))
def test_a_gain_is_never_negative(point, points):
    assert gain(point, points, REFERENCE) >= 0.0


@given(flat, st.lists(flat, min_size=1, max_size=8))
def test_a_dominated_point_adds_no_hypervolume(point, points):
    if any(dominates(other, point) or other == point for other in points):
        assert gain(point, points, REFERENCE) == pytest.approx(0.0, abs=1e-9)


@given(flat, st.lists(flat, max_size=8))
def test_a_non_dominated_point_adds_hypervolume(point, points):
    inside = all(a < r for a, r in zip(point, REFERENCE, strict=True))
    if inside and not any(dominates(other, point) or other == point for other in points):
        assert gain(point, points, REFERENCE) > 0.0


def test_a_point_beyond_the_reference_adds_no_hypervolume():
    assert gain((6.0, 0.0), [], REFERENCE) == 0.0
    assert gain((5.0, 0.0), [], REFERENCE) == 0.0


def test_the_knee_is_nearest_to_the_ideal_corner():
    assert knee([(0.0, 10.0), (1.0, 1.0), (10.0, 0.0)]) == 1


def test_the_knee_does_not_depend_on_units():
    assert knee([(0.0, 1000.0), (1.0, 100.0), (10.0, 0.0)]) == 1


def test_the_knee_of_few_points():
    assert knee([]) is None
    assert knee([(3.0, 4.0)]) == 0


OBJECTIVES = ("accuracy", "cpu_ms_p50", "throughput_ips")


def test_losses_fall_when_a_model_gets_better():
    worse = loss(OBJECTIVES, {"accuracy": 0.8, "cpu_ms_p50": 2.0, "throughput_ips": 100.0})
    better = loss(OBJECTIVES, {"accuracy": 0.9, "cpu_ms_p50": 1.0, "throughput_ips": 200.0})
    assert all(b < w for b, w in zip(better, worse, strict=True))


def test_twice_as_fast_is_the_same_step_anywhere():
    (a,), (b,), (c,) = (loss(["cpu_ms_p50"], {"cpu_ms_p50": ms}) for ms in (8.0, 4.0, 2.0))
    assert a - b == pytest.approx(b - c) == pytest.approx(math.log(2))


def test_without_a_measured_objective_there_is_no_loss():
    assert loss(("accuracy", "energy_mj"), {"accuracy": 0.9, "energy_mj": None}) is None
    assert loss(("accuracy", "energy_mj"), {"accuracy": 0.9}) is None


def test_a_cost_of_zero_is_finite():
    assert math.isfinite(loss(["cpu_ms_p50"], {"cpu_ms_p50": 0.0})[0])


def test_the_interval_of_a_share():
    low, high = wilson(890, 1000)
    assert (low, high) == pytest.approx((0.8691, 0.9079), abs=1e-4)  # R: prop.test(890, 1000, correct=FALSE)


@given(st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_interval_contains_the_share(seen):
    correct, n = seen
    low, high = wilson(correct, n)
    assert 0.0 <= low <= correct / n + 1e-12
    assert correct / n - 1e-12 <= high <= 1.0


def test_a_quality_is_its_error_in_a_loss_whichever_way_is_better(pixel_error):
    objectives = ("accuracy", "recall_min", pixel_error, "cpu_ms_p50")
    values = {"accuracy": 0.9, "recall_min": 0.5, pixel_error: 2.5, "cpu_ms_p50": 4.0}
    point = loss(objectives, values)
    assert point == pytest.approx((0.1, 0.5, 0.25, math.log(4.0)))
    assert {name: value_of(name, each) for name, each in zip(objectives, point, strict=True)} == pytest.approx(values)
    assert dominates(loss(objectives, values | {pixel_error: 2.0}), point)
