"""The line from rung 0 to the accuracy after the fine-tune."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitsearch.search.accuracy_model import (
    DEFAULT_SLOPE,
    DEFAULT_SPREAD,
    ENOUGH_POINTS,
    MIN_SPREAD,
    AccuracyModel,
    Observed,
)

KLS = (0.01, 0.04, 0.09, 0.25, 0.49, 1.0)


def on_a_line(offset, slope):
    return [Observed(kl, -(offset + slope * math.sqrt(kl))) for kl in KLS]


def test_few_points_keep_the_default_line():
    assert AccuracyModel.fit(on_a_line(0, -1)[: ENOUGH_POINTS - 1]) == AccuracyModel()
    assert (AccuracyModel().slope, AccuracyModel().spread) == (DEFAULT_SLOPE, DEFAULT_SPREAD)


def test_fit_finds_the_line_of_its_points():
    found = AccuracyModel.fit(on_a_line(0.01, -0.2))
    assert (found.offset, found.slope) == pytest.approx((0.01, -0.2))
    assert found.spread == MIN_SPREAD


def test_the_spread_is_the_scatter_around_the_line():
    points = [Observed(p.kl, p.drop + (0.03 if i % 2 else -0.03)) for i, p in enumerate(on_a_line(0, -0.2))]
    assert 0.02 < AccuracyModel.fit(points).spread < 0.05


def test_a_rising_line_is_flattened():
    found = AccuracyModel.fit(on_a_line(0.0, 0.3))
    assert found.slope == 0.0
    assert found.offset == pytest.approx(sum(0.3 * math.sqrt(kl) for kl in KLS) / len(KLS))


def test_equal_divergences_move_the_default_line():
    found = AccuracyModel.fit([Observed(0.25, 0.1)] * ENOUGH_POINTS)
    assert found.slope == DEFAULT_SLOPE
    assert found.accuracy(0.9, 0.25) == pytest.approx(0.8)


@given(st.floats(0, 4), st.floats(0, 4))
def test_more_divergence_never_predicts_more_accuracy(a, b):
    line = AccuracyModel()
    assert line.accuracy(0.9, min(a, b)) >= line.accuracy(0.9, max(a, b))


def test_no_divergence_keeps_the_base():
    assert AccuracyModel().accuracy(0.9, 0.0) == 0.9
    assert AccuracyModel().accuracy(0.9, -1e-9) == 0.9  # rounding


def test_the_upper_estimate_is_one_spread_above_and_at_most_one():
    assert AccuracyModel(spread=0.02).upper(0.9) == pytest.approx(0.92)
    assert AccuracyModel(spread=0.02).upper(0.99) == 1.0
