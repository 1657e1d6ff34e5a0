"""The reason of a plan that was not promoted is the one that decided, with its number."""

from __future__ import annotations

from dataclasses import replace

import pytest

from support.schedulers import expected
from vitsearch.core.figures import Figure, Metrics
from vitsearch.core.limits import Bound
from vitsearch.core.pareto import loss
from vitsearch.core.record import Keys, Record, RunningTrial
from vitsearch.search.goals import Goals
from vitsearch.search.not_promoted import not_promoted
from vitsearch.search.posterior import Posterior
from vitsearch.search.scheduler import ENDED, Rules, TrialScheduler
from vitsearch.search.verdicts import NO_GAIN

KEYS = Keys("w" * 64, "g" * 64, None, "d" * 64)
OBJECTIVES = ("accuracy", "cpu_ms_p50")
REFERENCE = loss(OBJECTIVES, {"accuracy": 0.8755, "cpu_ms_p50": 3.28})


@pytest.fixture
def scheduler(plan):
    def of(*front, bounds=()):
        """`front`: accuracy and milliseconds of trials 0, 1, ..."""
        records = {
            number: Record("confirmed", plan, metrics=measured(ms) | Metrics({"accuracy": Figure(accuracy)}))
            for number, (accuracy, ms) in enumerate(front)
        }
        goals = Goals(OBJECTIVES, tuple(bounds), REFERENCE, 0.01)
        return TrialScheduler(Rules(2, 1, 9), Posterior(goals, records, {"fake_vit": {"accuracy": 0.92}}))

    return of


def measured(ms, low=None, high=None):
    return Metrics({"cpu_ms_p50": Figure(ms, low, high)})


@pytest.fixture
def trial(plan):
    def of(accuracy, metrics, deviation=0.0):
        return RunningTrial(9, plan, KEYS, metrics, qualities=expected(accuracy, deviation))

    return of


FRONT = (0.9005, 0.0836), (0.9115, 0.0958), (0.927, 0.279)


def reason(trial, scheduler):
    return not_promoted(trial, NO_GAIN, scheduler).reason


def test_a_plan_that_would_tie_with_another_names_it(trial, scheduler):
    text = reason(trial(0.9115, measured(0.0958, 0.09, 0.1)), scheduler(*FRONT))
    assert text == "predicted accuracy 0.9115 would be no better than trial 1 (accuracy 0.9115, cpu_ms_p50 0.0958)"


def test_a_small_gain_is_given(trial, scheduler):
    text = reason(trial(0.9116, measured(0.0959)), scheduler(*FRONT))
    assert text == "predicted accuracy 0.9116 would add 0.063 % to the hypervolume; at least 0.1 % is required"


def test_a_gain_that_is_too_small_in_the_mean_alone_says_so(trial, scheduler):
    text = reason(trial(0.9045, measured(0.0955), deviation=0.005), scheduler(*FRONT))
    assert text.startswith("predicted accuracy 0.9045 ± 0.010 would add 0.0")
    assert text.endswith(" % to the hypervolume on average; at least 0.1 % is required")


def test_a_gain_over_nothing_is_no_share(trial, scheduler):
    """What was in training when the plan was dropped has failed since, and nothing is confirmed yet."""
    text = reason(trial(0.9116, measured(0.0959)), scheduler())
    assert text == "predicted accuracy 0.9116 would add nothing beside the plans that are being trained"


def test_a_plan_that_is_no_better_names_the_trial_that_is(trial, scheduler):
    text = reason(trial(0.91, measured(0.2)), scheduler(*FRONT))
    assert text == "predicted accuracy 0.9100 would be no better than trial 1 (accuracy 0.9115, cpu_ms_p50 0.0958)"


def test_a_plan_below_the_reference_names_its_corner_and_the_end_of_its_forecast(trial, scheduler):
    text = reason(trial(0.8259, measured(0.05), deviation=0.02), scheduler(*FRONT))
    assert text == (
        "predicted accuracy 0.8259 ± 0.039 would add nothing to the hypervolume, which counts accuracy above 0.8755, "
        "even at the better end of its 90 % interval (accuracy 0.8588)"
    )
    without_error = reason(trial(0.8259, measured(0.05)), scheduler(*FRONT))
    assert without_error.endswith("0.8259 would add nothing to the hypervolume, which counts accuracy above 0.8755")


def test_a_plan_beside_one_in_training_says_so(trial, scheduler):
    busy = scheduler()
    busy._training[3] = trial(0.92, measured(0.1))
    text = reason(trial(0.91, measured(0.2)), busy)
    assert text == "predicted accuracy 0.9100 would add nothing beside the plans that are being trained"


def test_a_plan_without_an_objective_says_so(trial, scheduler):
    text = reason(trial(0.91, measured(None)), scheduler())
    assert text == "predicted accuracy 0.9100 has an unknown gain: not all objectives were measured"


def test_a_limit_that_is_predicted_to_be_broken_is_named(trial, scheduler):
    limited = scheduler(bounds=[Bound("accuracy", ">=", 0.9)])
    text = reason(trial(0.85, measured(0.05)), limited)
    assert text == "predicted accuracy 0.8500 would break accuracy>=0.9"


def test_a_limit_that_the_end_of_a_forecast_breaks_is_named_with_it(trial, scheduler):
    limited = scheduler(bounds=[Bound("accuracy", ">=", 0.8755)])
    text = reason(trial(0.8448, measured(0.05), deviation=0.0158), limited)
    assert text == (
        "predicted accuracy 0.8448 ± 0.031 would break accuracy>=0.8755, even at the better end of its 90 % interval "
        "(accuracy 0.8708)"
    )


def test_the_end_of_the_search_is_named_with_the_estimate(trial, scheduler):
    limited = scheduler(bounds=[Bound("cpu_ms_p50", "<=", 4.0)])
    record = not_promoted(replace(trial(0.85, measured(2.0)), rung=1), ENDED, limited)
    assert (record.outcome, record.reason) == ("not_promoted", f"{ENDED}: expected accuracy 0.8500 after rung 1")
    assert record.constraints == {"cpu_ms_p50<=4": -0.5}
