"""What finished trainings say of the error that forecasts share."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitsearch.core.figures import Estimate
from vitsearch.core.priors import prior_of
from vitsearch.search.forecast.calibration import Calibration, Residual

PRIOR = prior_of("accuracy")
FORECAST = Estimate(-0.02, 0.01, (0.006,))


def calibrated(*errors, backbone="vit", deviation=0.008):
    residuals = [Residual(backbone, error, deviation) for error in errors]
    return Calibration.fit(residuals, PRIOR, ["vit", "cnn"])


def test_without_results_a_forecast_keeps_its_mean_and_gets_the_error_that_all_may_share():
    corrected = calibrated().correct("vit", FORECAST)
    assert corrected.mean == FORECAST.mean
    assert corrected.deviation == pytest.approx(math.hypot(0.01, PRIOR.common_error, PRIOR.family_error))


def test_an_error_that_all_results_have_is_taken_off():
    few, many = calibrated(*[0.02] * 2), calibrated(*[0.02] * 12)
    means = [each.correct("vit", FORECAST).mean - FORECAST.mean for each in (few, many)]
    assert 0.008 < means[0] < means[1] < 0.02
    assert means[1] == pytest.approx(0.02, abs=0.003)


def test_the_results_of_one_backbone_say_less_of_another():
    model = calibrated(*[0.02] * 6)
    own, other, unknown = (model.correct(name, FORECAST) for name in ("vit", "cnn", "new"))
    assert own.mean > other.mean > FORECAST.mean
    assert other.mean == pytest.approx(unknown.mean)
    assert own.deviation < other.deviation == pytest.approx(unknown.deviation)


def test_results_that_scatter_more_than_was_stated_widen_what_is_stated():
    calm, wild = calibrated(*[0.004, -0.004] * 6), calibrated(*[0.04, -0.04] * 6)
    assert (calm.factor, calm.correct("vit", FORECAST).mean) == (1.0, pytest.approx(FORECAST.mean, abs=1e-3))
    assert wild.factor > 4.0
    assert wild.correct("vit", FORECAST).deviation > 2 * calm.correct("vit", FORECAST).deviation


def test_forecasts_share_the_errors_that_are_left_open():
    """Their covariance is the product of what they share: two of one backbone more than two of different ones."""
    model = calibrated(0.01, -0.01)
    vit, cnn = (np.array(model.correct(name, Estimate(0.0, 0.01)).shared) for name in ("vit", "cnn"))
    assert vit @ vit > vit @ cnn > 0.0


@given(st.lists(st.floats(-0.1, 0.1), max_size=8), st.floats(0.001, 0.05))
def test_what_is_shared_is_a_part_of_the_deviation(errors, deviation):
    corrected = calibrated(*errors).correct("vit", Estimate(0.0, deviation, (deviation / 2,)))
    assert 0.0 < corrected.own_deviation < corrected.deviation


def test_the_intervals_hold_as_many_results_as_they_state():
    """90 % intervals where the errors in common are drawn from the prior, with no results and with many."""
    rng, inside = random.Random(0), []
    for _ in range(400):
        common, family = rng.gauss(0.0, PRIOR.common_error), rng.gauss(0.0, PRIOR.family_error)
        errors = [common + family + rng.gauss(0.0, 0.008) for _ in range(rng.choice((0, 1, 4, 12)) + 1)]
        corrected = calibrated(*errors[1:]).correct("vit", Estimate(0.0, 0.008))
        inside.append(abs(errors[0] - corrected.mean) < 1.645 * corrected.deviation)
    assert 0.85 < sum(inside) / len(inside) < 0.96
