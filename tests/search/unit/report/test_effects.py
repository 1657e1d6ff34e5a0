"""The mean of each objective for each choice."""

from __future__ import annotations

import math

import pytest

from vitsearch.report.effects import effects

COST, ACCURACY = "cpu_ms_p50", "accuracy"


def test_the_mean_of_a_cost_is_geometric(trial):
    trials = [trial(0, "front", cpu_ms_p50=1.0), trial(1, "front", cpu_ms_p50=4.0), trial(2, "front", cpu_ms_p50=7.0)]
    chosen = [{"quantization": "int8"}, {"quantization": "int8"}, {"quantization": "fp32"}]
    found = {effect.choice: effect for effect in effects(trials, chosen, [COST])}
    assert found["int8"].mean == pytest.approx(2.0)
    assert (found["fp32"].mean, found["fp32"].n) == (pytest.approx(7.0), 1)


def test_the_interval_is_that_of_student(trial):
    trials = [trial(number, "front", accuracy=value) for number, value in enumerate([0.8, 0.9, 0.7])]
    found = effects(trials, [{"backend": name} for name in "aab"], [ACCURACY])[0]
    half = 12.706 * (0.1 / math.sqrt(2)) / math.sqrt(2)  # t of 97.5 % with one degree of freedom
    assert (found.mean, found.low, found.high) == pytest.approx((0.85, 0.85 - half, 0.85 + half), rel=1e-4)


def test_a_single_trial_has_no_interval(trial):
    trials = [trial(0, "front", accuracy=0.8), trial(1, "front", accuracy=0.9)]
    found = effects(trials, [{"backend": "a"}, {"backend": "b"}], [ACCURACY])
    assert [(effect.low, effect.high) for effect in found] == [(None, None)] * 2


def test_a_knob_with_one_value_has_no_effect(trial):
    trials = [trial(0, "front", accuracy=0.8), trial(1, "front", accuracy=0.9)]
    assert effects(trials, [{"backend": "a"}, {"backend": "a"}], [ACCURACY]) == ()


def test_the_baseline_and_duplicates_do_not_count(trial):
    trials = [
        trial(None, "baseline", accuracy=0.1),
        trial(0, "front", accuracy=0.8),
        trial(1, "dominated", accuracy=0.8, duplicate_of=0),
        trial(2, "front", accuracy=0.9),
    ]
    found = effects(trials, [{"backend": name} for name in "aaab"], [ACCURACY])
    assert [(effect.choice, effect.n, effect.mean) for effect in found] == [("a", 1, 0.8), ("b", 1, 0.9)]


def test_a_study_without_trials_has_no_effects():
    assert effects([], [], [ACCURACY]) == ()
