"""Reference points and aims, and predictions on two scales."""

from __future__ import annotations

import numpy as np
import pytest

from vitsearch.study.auto_sampler.observations import Objective, Observations
from vitsearch.study.auto_sampler.proposal import Predictions, aim_of, reference_point

PLAIN = (Objective(), Objective())


def observations(values, declared=PLAIN):
    count, objectives = values.shape
    return Observations(
        declared,
        (),
        values,
        np.zeros_like(values),
        tuple(np.zeros((count, 0)) for _ in range(objectives)),
        np.zeros((count, 0)),
    )


def reference(values, predicted, declared=PLAIN):
    return reference_point(observations(values, declared), values, predicted)


def test_the_reference_lies_a_tenth_beyond_the_front():
    front = np.array([[0.0, 2.0], [0.5, 1.0], [1.0, 0.0]])
    np.testing.assert_allclose(reference(front, front), [1.1, 2.2])


def test_that_of_costs_lies_where_most_candidates_do():
    front = np.array([[0.0, 2.0], [0.5, 1.0], [1.0, 0.0]])
    predicted = np.column_stack([np.zeros(100), np.linspace(0, 10, 100)])
    np.testing.assert_allclose(reference(front, predicted, (Objective(), Objective(is_cost=True))), [1.1, 9.5])


def test_a_front_of_one_point_has_the_extent_of_all_that_is_known_or_predicted():
    predicted = np.column_stack([np.linspace(0, 2, 101), np.linspace(0, 4, 101)])
    np.testing.assert_allclose(reference(np.array([[1.0, 1.0]]), predicted), [1 + 1.8, 1 + 3.6])


def test_a_fixed_reference_is_kept():
    front = np.array([[0.0, 2.0], [0.5, 1.0], [1.0, 0.0]])
    np.testing.assert_allclose(reference(front, front, (Objective(reference=5.0), Objective())), [5.0, 2.2])


def test_with_two_objectives_a_trial_aims_at_the_reference():
    corner = np.array([1.0, 1.0])
    assert aim_of(corner, np.array([[0.0, 0.5], [0.5, 0.0]]), np.full(2, np.nan), np.random.default_rng(0)) is corner


def test_with_three_objectives_trials_aim_between_half_the_way_and_the_reference():
    front, corner = np.eye(3), np.full(3, 1.2)
    aims = np.array([aim_of(corner, front, np.full(3, np.nan), np.random.default_rng(seed)) for seed in range(200)])
    assert (aims >= 0.6).all()
    assert (aims <= 1.2).all()
    assert np.ptp(aims[:, 0]) > 0.5
    half_fixed = aim_of(corner, front, np.array([1.2, np.nan, np.nan]), np.random.default_rng(3))
    assert half_fixed[0] == 1.2 > half_fixed[1]


def test_deviations_within_a_tolerance_do_not_count_on_either_scale():
    predicted = Predictions(np.array([[10.0, np.log(10.0)]]), np.array([[0.5, 0.05]]), np.array([False, True]))
    np.testing.assert_allclose(predicted.values(), [[10.0, 10.0]])
    np.testing.assert_allclose(predicted.values(2.0), [[9.0, 10.0 * np.exp(-0.1)]])
    np.testing.assert_allclose(predicted.within((0.3, 0.3)).deviations, [[0.4, 0.04]])
    assert predicted.within((1.0, 1.0)).deviations.tolist() == [[0.0, pytest.approx(0.0)]]
