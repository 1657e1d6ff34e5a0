"""Answers to the questions of a plan: from an Optuna trial, from a plan, from fixed words or at random."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

from vitsearch.core.image_size import ImageSize
from vitsearch.core.plan import Plan
from vitsearch.core.policy import POLICY
from vitsearch.study.knob_values import BY_FACTORS, SHAPE, knob_values

if TYPE_CHECKING:
    import optuna


class Suggest(Protocol):
    """The two kinds of questions that building a plan asks."""

    def word(self, name: str, choices: tuple[str, ...]) -> str: ...
    def number(self, name: str, choices: tuple[float, ...]) -> float: ...


class OptunaSuggest:
    """Answers from an Optuna trial. A knob with one choice does not become a parameter.

    `word_choices` returns the stored order of the study. It keeps words that the file no longer has; when the trial
    draws one of them, it is added to `off_space`. `enqueued` are the parameters that the trial waited with, perhaps
    since before the file lost a word.
    """

    def __init__(
        self,
        trial: optuna.Trial,
        word_choices: Callable[[str, tuple[str, ...]], tuple[str, ...]],
        enqueued: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        self._trial = trial
        self._word_choices = word_choices
        self._enqueued = enqueued
        self.off_space: list[str] = []

    def word(self, name: str, choices: tuple[str, ...]) -> str:
        if len(choices) == 1 and self._enqueued.get(name, choices[0]) == choices[0]:
            return choices[0]
        enqueued = self._enqueued.get(name, choices[0])
        drawable = self._word_choices(name, choices if enqueued in choices else (*choices, enqueued))
        if len(drawable) == 1:
            return drawable[0]
        drawn = str(self._trial.suggest_categorical(name, drawable))
        if drawn in choices:
            return drawn
        self.off_space.append(f"{name}={drawn}")
        return choices[0]

    def number(self, name: str, choices: tuple[float, ...]) -> float:
        if len(choices) == 1:
            return choices[0]
        drawn = self._trial.suggest_float(name, choices[0], choices[-1], log=name in BY_FACTORS)
        return nearest(drawn, choices)


def nearest(value: float, choices: tuple[float, ...]) -> float:
    """The choice nearest to `value`; halfway between two, the lower one."""
    return min(choices, key=lambda choice: (abs(choice - value), choice))


class PlanAnswers:
    """Answers read from a plan, collected as Optuna parameters."""

    def __init__(self, plan: Plan, window: int | None) -> None:
        self.parameters: dict[str, str | float] = {}
        self.off_space = False
        own = {SHAPE: str(plan.resolution), "window_size": float(window or 0)}
        self._values: dict[str, Any] = {**knob_values(plan), **own}

    def word(self, name: str, choices: tuple[str, ...]) -> str:
        return str(self._answer(name, choices))

    def number(self, name: str, choices: tuple[float, ...]) -> float:
        value = self._answer(name, choices)
        return choices[0] if value is None else float(value)  # no streams, in a file that has some now

    def _answer(self, name: str, choices: tuple[Any, ...]) -> Any:
        value = self._values[name.partition("@")[0]]
        self.off_space |= value not in choices
        if len(choices) > 1:
            self.parameters[name] = value
        return value


class WaitingAnswers:
    """Answers from the parameters of a trial that waits; `outside` are those that the questions do not allow. A number
    between the least and the largest choice counts as the nearest one."""

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        self._values = parameters
        self._asked: set[str] = set()
        self._outside: list[str] = []

    @property
    def outside(self) -> list[str]:
        """`NAME=VALUE` of the parameters that were answered with another value, or not asked at all."""
        return self._outside or [f"{name}={value}" for name, value in self._values.items() if name not in self._asked]

    def word(self, name: str, choices: tuple[str, ...]) -> str:
        value = str(self._answer(name, choices[0]))
        return value if self._is_inside(name, value, value in choices) else choices[0]

    def number(self, name: str, choices: tuple[float, ...]) -> float:
        value = float(self._answer(name, choices[0]))
        ends = (choices[0], choices[-1])
        is_inside = ends[0] <= value <= ends[1] or any(math.isclose(value, end, rel_tol=1e-9) for end in ends)
        self._is_inside(name, value, is_inside)
        return nearest(value, choices)

    def _answer(self, name: str, default: Any) -> Any:
        self._asked.add(name)
        return self._values.get(name, default)

    def _is_inside(self, name: str, value: Any, is_inside: bool) -> bool:
        if not is_inside:
            self._outside.append(f"{name}={value}")
        return is_inside


class StoredAnswers:
    """Answers from the `parameters` of a plan, collected with the distributions of a trial that has ended.

    `word_choices` returns the stored order of the study, as for `OptunaSuggest`.
    """

    def __init__(
        self, parameters: Mapping[str, Any], word_choices: Callable[[str, tuple[str, ...]], tuple[str, ...]]
    ) -> None:
        self._values = parameters
        self._word_choices = word_choices
        self.parameters: dict[str, Any] = {}
        self.distributions: dict[str, optuna.distributions.BaseDistribution] = {}

    def word(self, name: str, choices: tuple[str, ...]) -> str:
        from optuna.distributions import CategoricalDistribution  # here: it takes long to import

        value, stored = str(self._values.get(name, choices[0])), self._word_choices(name, choices)
        if len(stored) > 1:
            self.parameters[name], self.distributions[name] = value, CategoricalDistribution(stored)
        return value

    def number(self, name: str, choices: tuple[float, ...]) -> float:
        from optuna.distributions import FloatDistribution  # here: it takes long to import

        value = float(self._values.get(name, choices[0]))
        if len(choices) > 1:
            self.parameters[name], self.distributions[name] = (
                value,
                FloatDistribution(choices[0], choices[-1], name in BY_FACTORS),
            )
        return value


@dataclass(frozen=True)
class FirstChoices:
    """The given words (by knob; of a number its text) and resolution; for other knobs the first choice."""

    words: Mapping[str, str]
    resolution: ImageSize

    def word(self, name: str, choices: tuple[str, ...]) -> str:
        knob = name.partition("@")[0]
        return str(self.resolution) if knob == SHAPE else self.words.get(knob, choices[0])

    def number(self, name: str, choices: tuple[float, ...]) -> float:
        if name in self.words:
            return float(self.words[name])
        return self.resolution.side if name.startswith("resolution") else choices[0]


@dataclass(frozen=True)
class RandomChoices:
    """Answers drawn uniformly."""

    rng: random.Random

    def word(self, name: str, choices: tuple[str, ...]) -> str:
        return self.rng.choice(choices)

    def number(self, name: str, choices: tuple[float, ...]) -> float:
        return self.rng.choice(choices)


def make_sampler(name: str, seed: int) -> optuna.samplers.BaseSampler:
    """A sampler of Optuna. `auto` draws at random until the search replaces it by our own, which needs the plans and
    the baseline (`vitsearch.search.sampler`).

    TPE has 20 start-up trials and runs without `multivariate`, which made results worse on conditional spaces.
    """
    import optuna  # here: it takes long to import, and only studies need it

    if name in ("auto", "random"):
        return optuna.samplers.RandomSampler(seed=seed)
    if name == "gp":  # imports torch; models only the knobs that all plans have
        return optuna.samplers.GPSampler(seed=seed, warn_independent_sampling=False)
    if name == "nsga2":
        return optuna.samplers.NSGAIISampler(population_size=POLICY.asking.population, seed=seed)
    return optuna.samplers.TPESampler(n_startup_trials=POLICY.asking.startup_trials, multivariate=False, seed=seed)
