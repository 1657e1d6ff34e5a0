"""The Gaussian process: its gradient, its predictions, and what it learns."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import approx_fprime, minimize

from vitsearch.study.auto_sampler.encoding import Encoding, Knob
from vitsearch.study.auto_sampler.gaussian_process import (
    COSTS,
    ERRORS,
    GaussianProcess,
    Hyperparameters,
    Loss,
    best_fit,
    fit_hyperparameters,
)

ENCODING = Encoding((Knob("a"), Knob("b"), Knob("word", ("x", "y", "z"))))


def points(count, seed=0):
    rng = np.random.default_rng(seed)
    positions = np.column_stack([rng.random(count), rng.random(count), rng.integers(3, size=count)])
    positions[::7, 1] = np.nan
    return ENCODING.points(positions), positions


def smooth(positions):
    return np.sin(3 * positions[:, 0]) + 0.5 * (positions[:, 2] == 1)


@pytest.mark.parametrize("settings", [ERRORS, COSTS], ids=["errors", "costs"])
def test_the_gradient_equals_finite_differences(settings):
    encoded, positions = points(25)
    variances = np.random.default_rng(1).uniform(0, 0.1, 25)
    loss = Loss(encoded, smooth(positions), np.diag(variances), settings)
    at = loss.start + np.random.default_rng(2).normal(0, 0.3, len(loss.start))
    np.testing.assert_allclose(loss(at)[1], approx_fprime(at, lambda x: loss(x)[0], 1e-6), rtol=1e-3, atol=1e-4)


def test_predictions_equal_a_dense_solve():
    encoded, positions = points(20)
    others, _ = points(7, seed=3)
    targets, deviations = smooth(positions), np.linspace(0, 0.2, 20)
    hyperparameters = Hyperparameters(np.array([1.0, 0.3, 2.0]), 0.02, 1.5, np.array([0.4, 0.1, 0.2]))
    mean, deviation = GaussianProcess(encoded, targets, deviations, hyperparameters).predict(others)
    scale, both = targets.std(), encoded.and_then(others)
    covariance = dense_covariance(both, hyperparameters)
    noise = np.diag(hyperparameters.amplitude * hyperparameters.noise + (deviations / scale) ** 2 + 1e-8)
    inverse = np.linalg.inv(covariance[:20, :20] + noise)
    cross = covariance[20:, :20]
    np.testing.assert_allclose(mean, cross @ inverse @ (targets - targets.mean()) + targets.mean(), rtol=1e-6)
    variance = np.diag(covariance[20:, 20:] - cross @ inverse @ cross.T)
    np.testing.assert_allclose(deviation, np.sqrt(variance) * scale, rtol=1e-5)


def dense_covariance(encoded, hyperparameters):
    count = len(encoded)
    result = np.zeros((count, count))
    for i in range(count):
        for j in range(count):
            squared = (encoded.distance[i] - encoded.distance[j]) ** 2
            root = np.sqrt(5 * (hyperparameters.weights[encoded.distance_owners] * squared).sum())
            similarity = encoded.similarity[i] * encoded.similarity[j]
            added = (hyperparameters.additive[encoded.similarity_owners] * similarity).sum()
            result[i, j] = hyperparameters.amplitude * ((1 + root + root**2 / 3) * np.exp(-root) + added)
    return result


@pytest.mark.parametrize("settings", [ERRORS, COSTS], ids=["errors", "costs"])
def test_it_predicts_a_smooth_function(settings):
    encoded, positions = points(60)
    others, unseen = points(40, seed=5)
    model = GaussianProcess.fit(encoded, smooth(positions), np.zeros(60), settings)
    mean, deviation = model.predict(others)
    wrong = np.abs(mean - smooth(unseen))
    assert np.sqrt((wrong**2).mean()) < 0.05
    assert (wrong < 3 * deviation + 1e-3).mean() > 0.9


def test_a_knob_without_effect_gets_little_weight():
    encoded, positions = points(60)
    hyperparameters = fit_hyperparameters(encoded, smooth(positions), np.zeros(60), ERRORS)
    assert hyperparameters.weights[1] < hyperparameters.weights[0] / 4


def test_a_point_of_much_noise_hardly_counts():
    encoded, positions = points(30)
    targets = smooth(positions)
    disturbed = targets.copy()
    disturbed[4] += 3.0
    deviations = np.zeros(30)
    deviations[4] = 5.0
    where = encoded.take([4])
    trusting = GaussianProcess.fit(encoded, disturbed, np.zeros(30), ERRORS).predict(where)[0][0]
    careful = GaussianProcess.fit(encoded, disturbed, deviations, ERRORS).predict(where)[0][0]
    assert abs(careful - targets[4]) < 0.3 < abs(trusting - targets[4])


def test_to_believe_a_point_lowers_its_deviation_and_keeps_the_mean():
    encoded, positions = points(30)
    others, _ = points(5, seed=9)
    model = GaussianProcess.fit(encoded, smooth(positions), np.zeros(30), ERRORS)
    before, after = model.predict(others), model.believing(others).predict(others)
    np.testing.assert_allclose(after[0], before[0], atol=0.02)
    assert (after[1] <= before[1]).all()


def test_equal_targets_are_predicted_as_they_are():
    encoded, _ = points(12)
    mean, _ = GaussianProcess.fit(encoded, np.full(12, 0.9), np.zeros(12), ERRORS).predict(encoded)
    np.testing.assert_allclose(mean, 0.9)


def test_noise_of_a_cost_is_learned():
    encoded, positions = points(60)
    noise = np.random.default_rng(4).normal(0, 0.1, 60)
    targets = smooth(positions) + noise
    learned = fit_hyperparameters(encoded, targets, np.zeros(60), COSTS)
    share = learned.noise * learned.amplitude * targets.var()
    assert 0.25 < share / 0.1**2 < 2.5


def test_a_fit_from_several_starts_is_no_worse_than_from_the_first_alone():
    encoded, positions = points(30)
    targets = np.sin(25 * positions[:, 0])
    best = best_fit(encoded, targets, np.zeros(30), ERRORS)
    loss = Loss(encoded, (targets - targets.mean()) / targets.std(), np.zeros((30, 30)), ERRORS)
    alone = minimize(loss, loss.start, jac=True, method="L-BFGS-B", bounds=loss.bounds, options={"maxiter": 30})
    assert best.evidence >= -alone.fun - 30 * np.log(targets.std()) - 1e-6


def test_the_evidence_of_a_fit_moves_with_the_unit_as_a_density_does():
    encoded, positions = points(20)
    targets = smooth(positions)
    in_thousandths = best_fit(encoded, 1000 * targets, np.zeros(20), ERRORS)
    assert in_thousandths.evidence == pytest.approx(
        best_fit(encoded, targets, np.zeros(20), ERRORS).evidence - 20 * np.log(1000)
    )


def test_repeated_plans_can_disagree():
    encoded, positions = points(10)
    twice = encoded.and_then(encoded)
    targets = np.concatenate([smooth(positions), smooth(positions) + 0.1])
    model = GaussianProcess.fit(twice, targets, np.zeros(20), replace(ERRORS, noise=1e-4))
    assert np.isfinite(model.predict(encoded)[1]).all()
