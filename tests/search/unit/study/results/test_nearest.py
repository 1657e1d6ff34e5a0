"""What came nearest to the limits, and which limit to loosen by how much."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitsearch.core.json_value import json_of
from vitsearch.core.limits import bounds, stated_limits
from vitsearch.space.sections import LimitSection
from vitsearch.study.printed.models import PrintedNearest
from vitsearch.study.results.nearest import InfeasibleModel, Miss, near_text, nearest

LIMITS = {"accuracy": LimitSection(max_drop=0.02), "cpu_ms_p50": LimitSection(max=2.0)}
BASELINE = {"accuracy": 0.9, "cpu_ms_p50": 4.0}


def candidate(trial, accuracy, ms, predicted=()):
    return InfeasibleModel(trial, None, {"accuracy": accuracy, "cpu_ms_p50": ms}, predicted)


def ranked(*candidates, limits=LIMITS):
    return nearest(candidates, stated_limits(limits, BASELINE))


def test_the_nearest_comes_first():
    result = ranked(candidate(1, 0.5, 2.0), candidate(2, 0.87, 2.0), candidate(3, 0.87, 2.5))
    assert [near.candidate.trial for near in result.models] == [2, 3, 1]


def test_models_within_the_limits_are_not_among_them():
    assert ranked(candidate(1, 0.89, 1.0)).models == ()


def test_each_limit_has_the_model_that_needs_the_least_loosening_of_it_alone():
    result = ranked(candidate(1, 0.86, 1.0), candidate(2, 0.875, 1.0), candidate(3, 0.9, 2.4), candidate(4, 0.8, 2.1))
    assert [(near.candidate.trial, near.misses[0].limit.path) for near in result.single] == [
        (2, "limits.accuracy.max_drop"),
        (3, "limits.cpu_ms_p50.max"),
    ]
    assert list(result.advice()) == [
        "loosen limits.accuracy.max_drop from 0.02 to 0.025: trial 2 passes",
        "loosen limits.cpu_ms_p50.max from 2 to 2.4: trial 3 passes",
    ]


def test_without_such_a_model_both_limits_of_the_nearest_are_loosened():
    assert list(ranked(candidate(1, 0.87, 2.5)).advice()) == [
        "loosen limits.accuracy.max_drop from 0.02 to 0.03 and limits.cpu_ms_p50.max from 2 to 2.5: trial 1 passes"
    ]


def test_what_is_not_known_or_predicted_is_said():
    unknown, predicted = ranked(candidate(1, None, 2.5)), ranked(candidate(2, 0.86, 1.0, predicted=("accuracy",)))
    assert unknown.models[0].unjudged == ("accuracy",)
    assert next(unknown.advice()).endswith("trial 1 may pass; its accuracy is not known yet")
    assert next(predicted.advice()).endswith("trial 2 may pass; its accuracy is predicted, it was not trained")


def test_a_predicted_accuracy_is_called_so(plan):
    (near,) = ranked(replace(candidate(2, 0.86, 1.0, predicted=("accuracy",)), plan=plan)).models
    assert ": predicted accuracy 0.86 (" in near_text(near)


def test_the_json_form_has_the_key_of_the_file(plan):
    near = ranked(replace(candidate(1, 0.87, 1.0), plan=plan))
    value = json_of(PrintedNearest.of(near))["models"][0]["misses"][0]
    assert (value["limit"], value["now"], value["loosened"]) == ("limits.accuracy.max_drop", 0.02, 0.03)


KEYS = {"min": 0.5, "max": 0.5, "max_drop": 0.1, "max_ratio": 0.7, "min_ratio": 1.3}


@pytest.mark.parametrize("key", KEYS)
@given(times=st.floats(1.001, 1e3), base=st.floats(0.2, 1.0))
def test_a_loosened_limit_lets_the_model_pass_and_is_no_looser_than_needed(key, times, base):
    metric = "accuracy" if key in ("min", "max_drop") else "throughput_ips" if key == "min_ratio" else "cpu_ms_p50"
    (limit,) = stated_limits({metric: LimitSection(**{key: KEYS[key]})}, {metric: base})
    seen = limit.bound.value * times if limit.bound.sense == "<=" else limit.bound.value / times
    assert limit.bound.violation(seen) > 0.0
    loosened = Miss(limit, seen).loosened
    assert limit.bound_at(loosened).violation(seen) <= 0.0
    assert loosened == pytest.approx(limit.needed(seen), rel=3e-3)


def test_stated_limits_are_the_bounds():
    assert tuple(limit.bound for limit in stated_limits(LIMITS, BASELINE)) == bounds(LIMITS, BASELINE)
    assert all(limit.bound_at(limit.value) == limit.bound for limit in stated_limits(LIMITS, BASELINE))
