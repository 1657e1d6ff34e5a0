"""The hypervolume that a plan is expected to add, before it is trained and after it was put aside."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.schedulers import KEYS, OBJECTIVES, PLAN, REFERENCE, expected, metrics, posterior_of, proxy, screened
from vitsearch.core import pareto
from vitsearch.core.figures import Estimate, Figure, Metrics
from vitsearch.core.limits import Bound
from vitsearch.core.pareto import loss
from vitsearch.core.policy import POLICY
from vitsearch.core.record import Record, RunningTrial
from vitsearch.search.acquisition import (
    Prospect,
    expected_front,
    expected_gain,
    gain_of_put_aside,
    most_promising,
    predicted_to_break,
    prospects,
    worth_testing,
)
from vitsearch.search.goals import Goals
from vitsearch.search.posterior import Posterior
from vitsearch.search.scheduler import equal_price


def gain_now(posterior, trial):
    return expected_gain(posterior, trial, expected_front(posterior))


def predicted(accuracy, ms, deviation=0.0):
    return RunningTrial(1, PLAN, KEYS, metrics(cpu_ms_p50=ms), qualities=expected(accuracy, deviation))


def test_the_gain_of_a_certain_plan_is_the_hypervolume_that_it_adds(confirmed):
    posterior = posterior_of({0: confirmed(0.9, 2.0)})
    points = [loss(OBJECTIVES, {"accuracy": a, "cpu_ms_p50": ms}) for a, ms in ((0.88, 1.0), (0.9, 2.0))]
    assert gain_now(posterior, predicted(0.88, 1.0)) == pytest.approx(pareto.gain(points[0], points[1:], REFERENCE))


def test_a_plan_that_may_become_better_than_predicted_has_an_expected_gain(confirmed):
    posterior = posterior_of({0: confirmed(0.9, 2.0)})
    assert gain_now(posterior, predicted(0.895, 2.0)) == 0.0
    wide, narrow = (gain_now(posterior, predicted(0.895, 2.0, deviation)) for deviation in (0.02, 0.006))
    assert wide > narrow > 0.0


def test_a_plan_that_may_be_better_only_within_the_tolerance_has_no_gain(confirmed):
    posterior = posterior_of({0: confirmed(0.9, 2.0)})
    assert gain_now(posterior, predicted(0.9, 2.0, POLICY.equality.accuracy_of_models)) == 0.0


def test_the_expected_gain_is_the_mean_over_what_the_accuracy_may_become(confirmed):
    """Far inside the reference the gain is linear in accuracy, so its mean is that of the mean."""
    posterior = posterior_of()
    certain, open_ = (gain_now(posterior, predicted(0.9, 1.0, deviation)) for deviation in (0.0, 0.01))
    assert open_ == pytest.approx(certain, rel=1e-3)


def test_a_plan_whose_mean_misses_the_reference_may_still_add_something():
    """A mean beyond a limit was no gain: a forecast that was too low was never corrected."""
    posterior = posterior_of()
    assert 0.0 < gain_now(posterior, predicted(0.79, 1.0, 0.05)) < gain_now(posterior, predicted(0.81, 1.0, 0.05))
    assert gain_now(posterior, predicted(0.7, 1.0, 0.02)) == 0.0, "five deviations below"


def test_a_trained_plan_whose_cost_is_equal_to_another_is_as_measured(confirmed):
    posterior = posterior_of({0: confirmed(0.9, 2.0)})
    exact = gain_now(posterior, replace(predicted(0.9, 1.9), rung=1))
    narrow = replace(predicted(0.9, 1.9), rung=1, metrics=Metrics({"cpu_ms_p50": Figure(1.9, 1.8, 2.0)}))
    assert gain_now(posterior, narrow) == exact


def test_a_plan_that_is_dearer_than_a_better_one_within_their_errors_may_add_something(confirmed):
    """On a busy machine plans were dropped that were 10 % cheaper when they were measured again."""
    posterior = posterior_of({0: confirmed(0.9, 2.0)})
    dearer = replace(predicted(0.89, 2.02), metrics=Metrics({"cpu_ms_p50": Figure(2.02, 1.8, 2.27)}))
    assert gain_now(posterior, predicted(0.89, 2.02)) == 0.0
    assert gain_now(posterior, dearer) > 0.0


def test_the_expected_gain_is_the_mean_over_what_costs_that_were_measured_alike_may_be():
    posterior, front = posterior_of(), expected_front(posterior_of())
    low, value, high = 0.5, 1.0, 2.0
    wide = replace(predicted(0.9, 1.0), metrics=Metrics({"cpu_ms_p50": Figure(value, low, high)}))
    deviation = math.sqrt(2.0) * math.log(high / low) / (2 * 1.96)
    draws = np.exp(deviation * np.random.default_rng(0).standard_normal(4000))
    expected_of_draws = np.mean([expected_gain(posterior, predicted(0.9, value * draw), front) for draw in draws])
    assert expected_gain(posterior, wide, front) == pytest.approx(expected_of_draws, rel=0.03)


@given(st.floats(0.6, 0.95), st.floats(0.0, 0.1), st.floats(0.5, 4.0))
def test_the_expected_gain_lies_between_the_ends_of_the_forecast(accuracy, deviation, ms):
    posterior = posterior_of()
    front = expected_front(posterior)
    lower, upper = (predicted(accuracy + shift * deviation, ms) for shift in (-3.0, 3.0))
    gain = expected_gain(posterior, predicted(accuracy, ms, deviation), front)
    assert expected_gain(posterior, lower, front) - 1e-12 <= gain <= expected_gain(posterior, upper, front) + 1e-12


def test_a_candidate_is_worth_a_training_while_the_upper_end_of_its_forecast_adds_something(confirmed):
    posterior = posterior_of({0: confirmed(0.9, 2.0)})
    candidates = [predicted(0.88, 2.0, 0.02), predicted(0.88, 2.0, 0.005)]
    wide, narrow = prospects(posterior, candidates, expected_front(posterior))
    assert wide.possible > wide.expected >= 0.0
    assert wide.is_worth(0.001)
    assert not narrow.is_worth(0.001)


def test_what_is_expected_to_add_most_is_promising_and_what_may_add_most_is_worth_testing():
    trial = predicted(0.9, 1.0)
    sure, possible = Prospect(trial, 0.02, 0.02, 0.0), Prospect(trial, 0.0, 0.9, 0.9)
    untested, useless = Prospect(trial, 0.0, 0.0, 0.95), Prospect(trial, 0.0, 0.0, 0.0)
    assert most_promising([possible, sure], 0.01, equal_price) == 1
    assert most_promising([useless, possible, untested], 0.01, equal_price) is None
    assert most_promising([], 0.01, equal_price) is None
    assert worth_testing([useless, untested, possible], 0.01, equal_price) == 2
    assert worth_testing([useless, untested], 0.01, equal_price) == 1
    assert worth_testing([useless], 0.01, equal_price) is None


def test_what_is_being_trained_counts_as_predicted(confirmed):
    posterior = posterior_of()
    same = predicted(0.9, 1.0, 0.0)
    assert expected_gain(posterior, same, expected_front(posterior, [same])) == pytest.approx(0.0, abs=1e-12)


def test_a_plan_without_all_objectives_or_prediction_has_no_gain():
    posterior = posterior_of()
    assert gain_now(posterior, predicted(0.9, None)) == 0.0
    assert gain_now(posterior, replace(predicted(0.9, 1.0), qualities={})) == 0.0


def test_what_would_break_a_limit_of_accuracy_adds_nothing(plan):
    objectives = ("cpu_ms_p50", "size_mb")
    corner = loss(objectives, {"cpu_ms_p50": 4.4, "size_mb": 9.0})
    goals = Goals(objectives, (Bound("accuracy", ">=", 0.8),), corner, 0.01)
    posterior = Posterior(goals, {}, {"fake_vit": {"accuracy": 0.9}})
    trial = replace(screened(plan, 1.0), metrics=metrics(cpu_ms_p50=1.0, size_mb=1.0))
    assert gain_now(posterior, replace(trial, qualities=expected(0.3, 0.01))) == 0.0
    assert gain_now(posterior, replace(trial, qualities=expected(0.85, 0.01))) > 0.0


def put_aside(plan, outcome, ms, predicted=None):
    score = proxy(0.1, 0.8, 0.1, predicted, 0.0) if predicted else None
    return Record(outcome, plan, keys=KEYS, metrics=metrics(cpu_ms_p50=ms), proxy=score)


def gain_put_aside(posterior, record):
    return gain_of_put_aside(posterior, 9, record, expected_front(posterior))


def test_a_relaxed_limit_readmits_infeasible_trials(plan):
    record = put_aside(plan, "infeasible", 3.0)
    assert gain_put_aside(posterior_of(bounds=[Bound("cpu_ms_p50", "<=", 2.0)]), record) == 0.0
    assert gain_put_aside(posterior_of(bounds=[Bound("cpu_ms_p50", "<=", 3.5)]), record) > 0.0


def test_a_trial_behind_the_front_stays_aside(plan, confirmed):
    record = put_aside(plan, "not_promoted", 2.0, predicted=0.85)
    assert gain_put_aside(posterior_of(), record) > 0.0
    assert gain_put_aside(posterior_of({1: confirmed(0.95, 1.0)}), record) == 0.0


@pytest.mark.parametrize("outcome", ["confirmed", "failed", "does_not_fit", "off_space", "duplicate"])
def test_finished_trials_are_not_readmitted(plan, outcome):
    assert gain_put_aside(posterior_of(), put_aside(plan, outcome, 1.0, predicted=0.9)) == 0.0


# ---- several qualities, and one in which less is better


def goals_of(objectives, corner, bounds=()):
    return Goals(objectives, tuple(bounds), loss(objectives, corner), 0.01)


def expecting(**qualities):
    estimates = {name: each if isinstance(each, Estimate) else Estimate(each) for name, each in qualities.items()}
    return RunningTrial(1, PLAN, KEYS, metrics(cpu_ms_p50=1.0), qualities=estimates)


def test_the_gain_of_a_plan_counts_every_quality_that_is_an_objective(plan):
    objectives = ("accuracy", "recall_min", "cpu_ms_p50")
    goals = goals_of(objectives, {"accuracy": 0.8, "recall_min": 0.4, "cpu_ms_p50": 4.4})
    known = Record("confirmed", plan, metrics=metrics(accuracy=0.9, recall_min=0.5, cpu_ms_p50=1.0), rung=1)
    posterior = Posterior(goals, {0: known}, {"fake_vit": {"accuracy": 0.92, "recall_min": 0.7}})
    points = [
        loss(objectives, {"accuracy": a, "recall_min": r, "cpu_ms_p50": 1.0}) for a, r in ((0.88, 0.6), (0.9, 0.5))
    ]
    gain = gain_now(posterior, expecting(accuracy=0.88, recall_min=0.6))
    assert gain == pytest.approx(pareto.gain(points[0], points[1:], goals.reference))
    assert gain_now(posterior, expecting(accuracy=0.88, recall_min=0.5)) == 0.0
    assert gain_now(posterior, expecting(accuracy=0.95, recall_min=0.39)) == 0.0, "beyond the reference"
    assert gain_now(posterior, expecting(accuracy=0.88)) == 0.0, "an objective is not known"
    open_ = Estimate(0.5, 0.05)
    assert gain_now(posterior, expecting(accuracy=0.9, recall_min=open_)) > 0.0


def test_a_limit_of_a_quality_that_is_an_objective_too_is_kept():
    objectives = ("accuracy", "recall_min", "cpu_ms_p50")
    corner = {"accuracy": 0.8, "recall_min": 0.4, "cpu_ms_p50": 4.4}
    limits = [Bound("recall_min", ">=", 0.55)]
    base = {"fake_vit": {"accuracy": 0.92, "recall_min": 0.7}}
    posterior = Posterior(goals_of(objectives, corner, limits), {}, base)
    assert gain_now(posterior, expecting(accuracy=0.9, recall_min=0.54)) == 0.0
    assert gain_now(posterior, expecting(accuracy=0.9, recall_min=0.56)) > 0.0


def test_less_of_what_is_minimised_is_a_gain_and_more_breaks_its_limit(plan, pixel_error):
    objectives = (pixel_error, "cpu_ms_p50")
    goals = goals_of(objectives, {pixel_error: 4.0, "cpu_ms_p50": 4.4}, [Bound(pixel_error, "<=", 3.0)])
    known = Record("confirmed", plan, metrics=metrics(**{pixel_error: 2.0, "cpu_ms_p50": 1.0}), rung=1)
    posterior = Posterior(goals, {0: known}, {"fake_vit": {pixel_error: 2.0}})
    assert gain_now(posterior, expecting(**{pixel_error: 1.8})) > 0.0
    assert gain_now(posterior, expecting(**{pixel_error: 2.2})) == 0.0
    assert gain_now(posterior, expecting(**{pixel_error: Estimate(2.2, 0.5)})) > 0.0, "it may be better than that"
    assert gain_now(posterior, replace(expecting(**{pixel_error: 3.1}), metrics=metrics(cpu_ms_p50=0.5))) == 0.0


# ---- costs that only a confirmation measures


@pytest.fixture
def energies(plan):
    """A posterior of accuracy and energy that knows one model, of 40 mJ and 10 W, and a plan that takes 10 ms."""

    def of(provider, *bounds):
        known = replace(plan, deployments=(replace(plan.deployment, provider=provider),))
        figures = metrics(accuracy=0.9, latency_ms_p50=4.0, energy_mj=40.0)
        goals = goals_of(("accuracy", "energy_mj"), {"accuracy": 0.8, "energy_mj": 60.0}, bounds)
        posterior = Posterior(goals, {0: Record("confirmed", known, metrics=figures, rung=1)}, {})
        return posterior, RunningTrial(1, plan, KEYS, metrics(latency_ms_p50=10.0), qualities=expected(0.92, 0.001))

    return of


@pytest.mark.parametrize("bounds", [(), (Bound("energy_mj", "<=", 60.0),)])
def test_a_plan_in_a_deployment_that_nobody_has_measured_is_not_put_aside_for_its_energy(energies, bounds):
    posterior, trial = energies("cuda", *bounds)
    assert posterior.predicted_costs(trial)["energy_mj"].value == pytest.approx(100.0)
    (prospect,) = prospects(posterior, [trial], expected_front(posterior))
    assert prospect.possible > prospect.expected > 0.0


def test_a_plan_in_a_deployment_that_was_measured_is_put_aside_for_its_energy(energies):
    posterior, trial = energies("cpu")
    assert posterior.predicted_costs(trial)["energy_mj"].value == pytest.approx(100.0)
    (prospect,) = prospects(posterior, [trial], expected_front(posterior))
    assert prospect.possible == 0.0
    assert predicted_to_break(energies("cpu", Bound("energy_mj", "<=", 60.0))[0], trial) == ["energy_mj<=60"]


def test_a_limit_on_a_cost_that_is_only_predicted_is_judged_at_each_end(energies):
    """Once moved within its deviation, a predicted cost still counts as predicted: its limit is judged."""
    posterior, trial = energies("cpu", Bound("energy_mj", "<=", 60.0))
    moved = replace(trial, metrics=trial.metrics | metrics(energy_mj=70.0))
    assert predicted_to_break(posterior, moved) == ["energy_mj<=60"]
