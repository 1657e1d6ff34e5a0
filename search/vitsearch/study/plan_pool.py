"""The parameters of plans as the sampler wants them: all of a small space, or random ones."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, ClassVar

from vitsearch.core.plan import Plan
from vitsearch.study.knob_values import BY_FACTORS
from vitsearch.study.sampling import PlanSpace
from vitsearch.study.suggest import nearest

Parameters = dict[str, str | float]
LARGEST_DRAW = 1_000_000
"""Plans that are drawn at once at most: `keep` may refuse nearly all."""


def always(plan: Plan) -> bool:
    return True


@dataclass(frozen=True)
class PlanParameters:
    """A pool for `vitsearch.study.auto_sampler.AutoSampler`: the plans that `keep` accepts.

    A plan takes up to 20 ms, nearly all of it in `plans.supports`: give a space that remembers what that says.
    """

    plans: PlanSpace
    keep: Callable[[Plan], bool] = always
    by_factors: ClassVar[frozenset[str]] = BY_FACTORS

    def __call__(self, rng: random.Random, count: int) -> list[Parameters]:
        """All plans if they are fewer than `count`, otherwise random ones, of which some can be equal."""
        if self.plans.count() < count:
            return list(self.all())
        return list(islice(self._drawn(rng), count))

    def all(self) -> Iterator[Parameters]:
        """The parameters of every plan that is kept, each once, in the order of the choices."""
        steps: list[tuple[int, int]] = []
        while True:
            walk = _Walk(steps)
            if self.keep(self.plans.plan(walk)):
                yield walk.parameters
            steps = list(walk.steps)
            while steps and steps[-1][0] + 1 == steps[-1][1]:
                steps.pop()
            if not steps:
                return
            at, count = steps[-1]
            steps[-1] = (at + 1, count)

    def plan(self, parameters: Mapping[str, Any]) -> Plan:
        """The plan that these parameters lead to. Numbers count as the nearest choice, as when they are drawn."""
        return self.plans.plan(_Parameters(parameters))

    def _drawn(self, rng: random.Random) -> Iterator[Parameters]:
        for _ in range(LARGEST_DRAW):
            walk = _Drawn(rng)
            if self.keep(self.plans.plan(walk)):
                yield walk.parameters


@dataclass
class _IndexedAnswers(ABC):
    """Answers questions by an index, and collects the answers. A knob with one choice is no parameter."""

    parameters: Parameters = field(default_factory=dict, init=False)

    def word(self, name: str, choices: tuple[str, ...]) -> str:
        answer = choices[self._index(len(choices))]
        if len(choices) > 1:
            self.parameters[name] = answer
        return answer

    def number(self, name: str, choices: tuple[float, ...]) -> float:
        answer = choices[self._index(len(choices))]
        if len(choices) > 1:
            self.parameters[name] = answer
        return answer

    @abstractmethod
    def _index(self, count: int) -> int:
        """The index of the answer among `count` choices."""


@dataclass(frozen=True)
class _Parameters:
    """Answers by parameters."""

    parameters: Mapping[str, Any]

    def word(self, name: str, choices: tuple[str, ...]) -> str:
        return str(self.parameters.get(name, choices[0]))

    def number(self, name: str, choices: tuple[float, ...]) -> float:
        return nearest(float(self.parameters.get(name, choices[0])), choices)


@dataclass
class _Drawn(_IndexedAnswers):
    rng: random.Random

    def _index(self, count: int) -> int:
        return self.rng.randrange(count)


@dataclass
class _Walk(_IndexedAnswers):
    """Follows the steps of `prefix` (index, number of choices), then takes first choices; `steps` are all it took."""

    prefix: list[tuple[int, int]]
    steps: list[tuple[int, int]] = field(default_factory=list, init=False)

    def _index(self, count: int) -> int:
        at = self.prefix[len(self.steps)][0] if len(self.steps) < len(self.prefix) else 0
        self.steps.append((at, count))
        return at
