"""Parameters as numbers for the Gaussian processes.

A *position* is one number per knob: in [0, 1] for a number, the index of the choice for a word, NaN where the knob has
no meaning. From positions come two matrices: in the first, the squared distance of two rows in the columns of a knob
is the distance D of that knob (1 between two words); in the second, the product of two rows in the columns of a knob
is its similarity A (1 between two equal words, a wide Gaussian of the distance between numbers).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

Floats: TypeAlias = npt.NDArray[np.float64]
Integers: TypeAlias = npt.NDArray[np.int64]

INACTIVE_POSITION = 0.5
WIDTH = 0.7
"""Of the wide Gaussian, in positions."""
SERIES_TERMS = 5
"""Of its expansion; the rest is below 1e-4 on [0, 1]."""


@dataclass(frozen=True)
class Knob:
    """A parameter. `choices` are empty for a number, which lies between `low` and `high`."""

    name: str
    choices: tuple[Any, ...] = ()
    low: float = 0.0
    high: float = 1.0
    log: bool = False

    @classmethod
    def of_distribution(cls, name: str, distribution: BaseDistribution) -> Knob:
        if isinstance(distribution, CategoricalDistribution):
            return cls(name, tuple(distribution.choices))
        assert isinstance(distribution, FloatDistribution | IntDistribution)
        return cls(name, (), float(distribution.low), float(distribution.high), distribution.log)

    @classmethod
    def of_values(cls, name: str, values: Iterable[Any], log: bool = False) -> Knob:
        """Numbers span what was seen; anything else is a word. `log`: the numbers differ by factors."""
        seen = set(values)
        if all(isinstance(value, int | float) and not isinstance(value, bool) for value in seen):
            return cls(name, (), float(min(seen)), float(max(seen)), log)
        return cls(name, tuple(sorted(seen, key=lambda value: (type(value).__name__, str(value)))))

    def position(self, value: Any) -> float:
        """NaN for a word that the knob does not have."""
        if self.choices:
            return float(self.choices.index(value)) if value in self.choices else math.nan
        if not isinstance(value, int | float):
            return math.nan
        if self.high <= self.low:
            return INACTIVE_POSITION
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


@dataclass(frozen=True)
class Points:
    """Encoded plans, and the knob that owns each of their columns.

    Attributes:
        distance: (plans, columns); differences of rows enter the Matern kernel.
        distance_owners: (columns,), the index of the knob.
        similarity: (plans, columns); products of rows are the additive kernel.
        similarity_owners: (columns,), the index of the knob.
    """

    distance: Floats
    distance_owners: Integers
    similarity: Floats
    similarity_owners: Integers

    def __len__(self) -> int:
        return len(self.distance)

    @property
    def knobs(self) -> int:
        return int(self.distance_owners.max(initial=-1)) + 1

    def take(self, index: Any) -> Points:
        return Points(self.distance[index], self.distance_owners, self.similarity[index], self.similarity_owners)

    def and_then(self, *others: Points) -> Points:
        """These rows, then those of the others."""
        distance = np.concatenate([self.distance, *(other.distance for other in others)])
        similarity = np.concatenate([self.similarity, *(other.similarity for other in others)])
        return Points(distance, self.distance_owners, similarity, self.similarity_owners)


@dataclass(frozen=True)
class Encoding:
    """Turns parameters into positions, and positions into points."""

    knobs: tuple[Knob, ...]

    @classmethod
    def of_distributions(cls, space: Mapping[str, BaseDistribution]) -> Encoding:
        return cls(tuple(Knob.of_distribution(name, distribution) for name, distribution in space.items()))

    @classmethod
    def of_parameters(cls, plans: Iterable[Mapping[str, Any]], by_factors: Collection[str] = ()) -> Encoding:
        """The knobs of `plans`; numbers of the names in `by_factors` differ by factors."""
        values: dict[str, set[Any]] = {}
        for plan in plans:
            for name, value in plan.items():
                values.setdefault(name, set()).add(value)
        return cls(tuple(Knob.of_values(name, values[name], name in by_factors) for name in sorted(values)))

    def positions(self, plans: Sequence[Mapping[str, Any]]) -> Floats:
        """Positions (plans, knobs) of parameters; NaN for a knob that a plan does not have."""
        rows = [[_position(knob, plan) for knob in self.knobs] for plan in plans]
        return np.array(rows, dtype=float).reshape(len(plans), len(self.knobs))

    def points(self, positions: Floats, features: Floats | None = None) -> Points:
        """The points at `positions` (plans, knobs). `features` (plans, n) are more numbers; each counts as a knob."""
        columns = [self._columns(knob, positions[:, j]) for j, knob in enumerate(self.knobs)]
        if features is not None:
            columns += [_number_columns(features[:, j]) for j in range(features.shape[1])]
        if not columns:  # a space without a choice
            columns = [(np.zeros((len(positions), 1)), np.zeros((len(positions), 1)))]
        distances, similarities = zip(*columns, strict=True)
        return Points(np.hstack(distances), _owners(distances), np.hstack(similarities), _owners(similarities))

    def _columns(self, knob: Knob, positions: Floats) -> tuple[Floats, Floats]:
        if not knob.choices:
            return _number_columns(positions)
        count = len(knob.choices)
        index = np.where(np.isnan(positions), count, positions).astype(int)
        words = np.eye(count + 1)[index]
        return words * math.sqrt(0.5), words


def key_of(plan: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    """Equal for plans with equal parameters; numbers are rounded to six digits."""
    return tuple(sorted((name, _rounded(value)) for name, value in plan.items()))


def _rounded(value: Any) -> Any:
    return f"{value:.6g}" if type(value) in (float, int) else str(value)


def _position(knob: Knob, plan: Mapping[str, Any]) -> float:
    return knob.position(plan[knob.name]) if knob.name in plan else math.nan


def _number_columns(positions: Floats) -> tuple[Floats, Floats]:
    """The position itself, and the first terms of the series of exp(-(u - v)^2 / (2 WIDTH^2))."""
    position = np.where(np.isnan(positions), INACTIVE_POSITION, positions)
    scaled = (position - INACTIVE_POSITION) / WIDTH
    terms = np.empty((len(scaled), SERIES_TERMS))
    terms[:, 0] = np.exp(-0.5 * scaled**2)
    for order in range(1, SERIES_TERMS):
        terms[:, order] = terms[:, order - 1] * scaled / math.sqrt(order)
    return position[:, None], terms


def _owners(columns: Sequence[Floats]) -> Integers:
    return np.repeat(np.arange(len(columns)), [block.shape[1] for block in columns])
