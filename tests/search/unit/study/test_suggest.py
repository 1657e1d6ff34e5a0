"""Answers to the questions of a plan, and the samplers behind them."""

from __future__ import annotations

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitsearch.core.policy import POLICY
from vitsearch.study.suggest import OptunaSuggest, make_sampler, nearest


@given(st.lists(st.floats(0, 1), min_size=1, unique=True).map(lambda v: tuple(sorted(v))), st.floats(-1, 2))
def test_nearest_returns_the_nearest_choice(choices, value):
    answer = nearest(value, choices)
    assert answer in choices
    assert all(abs(answer - value) <= abs(choice - value) for choice in choices)


def test_nearest_prefers_the_lower_choice_halfway():
    assert nearest(0.5, (0.0, 1.0)) == 0.0


def test_a_drawn_word_that_the_file_dropped_is_noted():
    study = optuna.create_study()
    study.enqueue_trial({"w": "gone"})
    suggest = OptunaSuggest(study.ask(), lambda name, choices: ("gone", "here", "there"))
    assert suggest.word("w", ("here", "there")) == "here"
    assert suggest.off_space == ["w=gone"]


@pytest.mark.parametrize("waited_with", [{}, {"w": "here"}])
def test_a_word_that_is_the_only_one_left_is_not_drawn(waited_with):
    """The study still knows the others, and a draw among them would leave the space."""
    trial = optuna.create_study().ask()
    suggest = OptunaSuggest(trial, lambda name, choices: ("gone", "here"), waited_with)
    assert suggest.word("w", ("here",)) == "here"
    assert not suggest.off_space
    assert not trial.params


def test_tpe_starts_late_and_takes_each_knob_by_itself():
    sampler = make_sampler("tpe", 0)
    assert isinstance(sampler, optuna.samplers.TPESampler)
    assert sampler._n_startup_trials == POLICY.asking.startup_trials
    assert sampler._multivariate is False


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("auto", "RandomSampler"),
        ("gp", "GPSampler"),
        ("tpe", "TPESampler"),
        ("random", "RandomSampler"),
        ("nsga2", "NSGAIISampler"),
    ],
)
def test_each_name_gives_its_sampler(name, kind):
    assert type(make_sampler(name, 0)).__name__ == kind


def test_nsga2_has_a_small_population():
    assert make_sampler("nsga2", 0)._population_size == POLICY.asking.population
