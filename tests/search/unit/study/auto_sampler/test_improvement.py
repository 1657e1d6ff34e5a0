"""Expected hypervolume improvement against sampling, and its boxes against a count of points."""

from __future__ import annotations

import moocore
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitsearch.study.auto_sampler import improvement
from vitsearch.study.auto_sampler.improvement import (
    FRONT_MOST,
    expected_excess,
    expected_excess_by_factors,
    expected_improvement,
    pareto,
    partition,
    thin,
)


def fronts(objectives: int):
    coordinate = st.integers(0, 6).map(float)  # few values, so that many are equal
    return st.lists(st.tuples(*[coordinate] * objectives), max_size=8).map(
        lambda rows: np.array(rows, dtype=float).reshape(len(rows), objectives)
    )


def below(front, reference):
    return front[np.all(front < reference, axis=1)]


@pytest.mark.parametrize("objectives", [1, 2, 3, 4])
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_each_point_that_nothing_dominates_lies_in_exactly_one_box(objectives, data):
    reference = np.full(objectives, 5.0)
    front = below(data.draw(fronts(objectives)), reference)
    boxes = partition(front[pareto(front)], reference)
    points = np.random.default_rng(0).uniform(-1, 6, size=(200, objectives))
    boxes_around = np.all((boxes.lower < points[:, None]) & (points[:, None] < boxes.upper), axis=2).sum(axis=1)
    dominated = np.all(front[None] <= points[:, None], axis=2).any(axis=1)
    np.testing.assert_array_equal(boxes_around, (~dominated & np.all(points < reference, axis=1)).astype(int))


@pytest.mark.parametrize("objectives", [2, 3, 4])
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_of_known_objectives_it_is_the_gain_of_hypervolume(objectives, data):
    reference = np.full(objectives, 5.0)
    front = data.draw(fronts(objectives))
    plan = np.array(data.draw(st.tuples(*[st.integers(0, 6).map(float)] * objectives)))
    gain = expected_improvement(plan[None], np.zeros((1, objectives)), front, reference, np.random.default_rng(0))
    before = below(front, reference)
    after = below(np.vstack([front, plan]), reference)
    volume = [moocore.hypervolume(points, ref=reference) if len(points) else 0.0 for points in (before, after)]
    assert gain[0] == pytest.approx(volume[1] - volume[0], abs=1e-6)


@pytest.mark.parametrize("objectives", [1, 2, 3, 4])
def test_it_is_the_mean_of_sampled_gains(objectives):
    computed, sampled = found_and_sampled(objectives)
    np.testing.assert_allclose(computed, sampled, rtol=0.02, atol=0.002)


def test_with_many_random_directions_it_is_the_mean_of_sampled_gains_of_five_objectives(monkeypatch):
    monkeypatch.setattr(improvement, "DIRECTIONS", 3000)
    monkeypatch.setattr(improvement, "NODES", 8)
    computed, sampled = found_and_sampled(5)
    np.testing.assert_allclose(computed, sampled, rtol=0.08, atol=0.0005)


def found_and_sampled(objectives):
    rng = np.random.default_rng(objectives)
    reference = np.full(objectives, 1.0)
    front = rng.uniform(0.3, 0.9, size=(5, objectives))
    means, deviations = rng.uniform(0.2, 0.9, (4, objectives)), rng.uniform(0.05, 0.3, (4, objectives))
    deviations[0, -1] = 0.0  # a known objective
    sampled = [
        sampled_gain(mean, deviation, front, reference, rng) for mean, deviation in zip(means, deviations, strict=True)
    ]
    computed = expected_improvement(means, deviations, front, reference, rng)
    return computed, sampled


def sampled_gain(mean, deviation, front, reference, rng, count=20_000):
    """By sampling plans, and, for each, a point below the reference that it may win."""
    plans = rng.normal(mean, deviation, size=(count, len(mean)))
    lowest = np.minimum(plans, reference)
    points = rng.uniform(lowest, reference)
    won = ~np.all(front[None] <= points[:, None], axis=2).any(axis=1) & np.all(plans < reference, axis=1)
    return float((won * (reference - lowest).prod(axis=1)).mean())


def test_a_plan_that_is_surely_dominated_gains_nothing():
    front = np.array([[0.2, 0.2]])
    gain = expected_improvement(
        np.array([[0.9, 0.9]]), np.full((1, 2), 0.01), front, np.ones(2), np.random.default_rng(0)
    )
    assert gain[0] == pytest.approx(0.0, abs=1e-12)


def test_with_no_front_the_whole_volume_below_the_reference_counts():
    gain = expected_improvement(
        np.array([[0.5, 0.5]]), np.zeros((1, 2)), np.empty((0, 2)), np.ones(2), np.random.default_rng(0)
    )
    assert gain[0] == pytest.approx(0.25)


@given(st.floats(-5, 5), st.floats(-5, 5), st.floats(0, 3))
def test_the_expected_excess_lies_between_the_known_one_and_that_plus_the_deviation(bound, mean, deviation):
    excess = expected_excess(np.array([bound]), np.array([mean]), np.array([deviation]))[0]
    certain = max(bound - mean, 0.0)
    assert certain - 1e-9 <= excess <= certain + deviation + 1e-9


def test_of_logarithms_it_is_the_mean_of_sampled_gains():
    rng = np.random.default_rng(0)
    front, reference = np.array([[2.0, 0.3], [1.0, 0.6]]), np.array([3.0, 1.0])
    logs = rng.normal(np.log(1.5), 0.4, 20_000)
    plans = np.column_stack([np.exp(logs), rng.normal(0.4, 0.1, 20_000)])
    before = moocore.hypervolume(front, ref=reference)
    gains = [moocore.hypervolume(np.vstack([front, plan]), ref=reference) - before for plan in plans[:4000]]
    computed = expected_improvement(
        np.array([[np.log(1.5), 0.4]]), np.array([[0.4, 0.1]]), front, reference, rng, by_factors=(True, False)
    )
    assert computed[0] == pytest.approx(np.mean(gains), rel=0.05)


@given(st.floats(-1, 8), st.floats(-2, 2), st.floats(0, 2))
def test_the_expected_excess_by_factors_lies_between_none_and_the_bound(bound, mean, deviation):
    excess = expected_excess_by_factors(np.array([bound]), np.array([mean]), np.array([deviation]))[0]
    assert max(bound - np.exp(mean + deviation**2 / 2), 0.0) - 1e-6 <= excess <= max(bound, 0.0) + 1e-9


def test_equal_points_stay_once_in_a_front():
    assert pareto(np.array([[1.0, 2.0], [1.0, 2.0], [2.0, 2.0]])).tolist() == [True, False, False]


def test_a_long_front_is_thinned_and_keeps_its_ends():
    at = np.linspace(0, 1, 100)
    thinned = thin(np.column_stack([at, 1 - at, np.zeros(100)]))
    assert len(thinned) == FRONT_MOST[3]
    assert thinned[[0, -1], 0].tolist() == [0.0, 1.0]
