"""Which model is measured next: chances to be on the front, and expected gains."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitsearch.core.limits import Bound
from vitsearch.search.goals import Goals
from vitsearch.search.retarget.next_model import Estimate, chances, gains, scaled, unscaled

NAMES = ("accuracy", "latency_ms_p50")
GOALS = Goals(NAMES, (Bound("accuracy", ">=", 0.8),), (0.2, math.log(10.0)))
MODELS = st.lists(st.tuples(st.floats(0.7, 0.99), st.floats(0.1, 20.0), st.floats(0.0, 0.5)), min_size=1, max_size=12)


def model(accuracy, ms, deviation=0.0, **more):
    costs = {name: Estimate(math.log(value)) for name, value in more.items()}
    return {"accuracy": Estimate(accuracy), "latency_ms_p50": Estimate(math.log(ms), deviation)} | costs


def test_models_that_are_known_are_on_the_front_or_not():
    models = [model(0.9, 2.0), model(0.9, 3.0), model(0.95, 5.0), model(0.7, 0.1)]
    assert chances(GOALS, models).tolist() == [1.0, 0.0, 1.0, 0.0]


def test_a_cost_that_is_not_known_leaves_a_chance():
    dear, cheap, far = chances(GOALS, [model(0.9, 2.0), model(0.9, 2.0, 0.2), model(0.9, 20.0, 0.2)])
    assert 0.3 < cheap < 0.7
    assert dear == pytest.approx(1.0 - cheap)
    assert far == 0.0


def test_a_limit_on_a_metric_that_is_no_objective_counts():
    goals = Goals(NAMES, (Bound("peak_memory_mb", "<=", 10.0),), GOALS.reference)
    models = [model(0.9, 2.0, peak_memory_mb=11.0), model(0.9, 3.0, peak_memory_mb=9.0)]
    assert chances(goals, models).tolist() == [0.0, 1.0]
    assert gains(goals, models[:0] or [model(0.81, 9.0)], models)[0] == pytest.approx(0.0)


@given(MODELS)
def test_somebody_is_on_the_front_where_a_model_is_within_the_limits(figures):
    models = [model(*row) for row in figures]
    total = chances(GOALS, models).sum()
    assert total >= 1.0 if any(accuracy >= 0.8 for accuracy, _, _ in figures) else total == 0.0


@given(MODELS)
def test_nothing_is_lost_by_measuring(figures):
    models = [model(*row) for row in figures]
    assert (gains(GOALS, models, models) >= 0.0).all()


def test_what_is_measured_adds_nothing_and_what_is_better_adds_most():
    measured = [model(0.9, 2.0)]
    same, better, best, worse = gains(
        GOALS, measured, [model(0.9, 2.0), model(0.9, 1.5), model(0.92, 1.0), model(0.88, 3.0)]
    )
    assert (same, worse) == pytest.approx((0.0, 0.0), abs=1e-9)
    assert 0.0 < better < best


def test_a_wide_prediction_is_worth_more_than_a_narrow_one_that_is_no_better():
    narrow, wide = gains(GOALS, [model(0.9, 2.0)], [model(0.9, 2.0, 0.01), model(0.9, 2.0, 0.3)])
    assert narrow < wide


def test_throughput_is_better_when_it_is_higher():
    goals = Goals(("accuracy", "throughput_ips"), (), (0.2, 0.0))
    models = [{"accuracy": Estimate(0.9), "throughput_ips": Estimate(math.log(ips))} for ips in (100.0, 200.0)]
    assert chances(goals, models).tolist() == [0.0, 1.0]


@pytest.mark.parametrize("name", ["accuracy", "latency_ms_p50"])
def test_the_scale_can_be_undone(name):
    values = np.array([0.5, 0.9])
    assert [unscaled(name, scaled(name, value)) for value in values] == pytest.approx(list(values))
