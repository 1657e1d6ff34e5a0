"""Where candidates come from: the pool of a conditional space, or distributions."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from optuna.distributions import BaseDistribution

from vitsearch.study.auto_sampler.axes import Axis, value_at, value_near
from vitsearch.study.auto_sampler.encoding import Encoding, Floats, Integers, Points, key_of

Plan: TypeAlias = dict[str, Any]
Pool: TypeAlias = Callable[[random.Random, int], Sequence[Plan]]
Features: TypeAlias = Callable[[Mapping[str, Any]], Sequence[float]]
Prior: TypeAlias = Callable[[Mapping[str, Any]], Sequence[tuple[float | None, float | None]]]

WHOLE_SPACE = 10_000
"""A space with fewer plans is its own pool."""
CHUNKS, CHUNK = 20, 100
"""The pool of a larger space: each trial draws a new chunk, and the oldest one goes."""
DRAWN, MUTANTS, CROSSED = 1000, 500, 250
CHANGED_KNOBS = (1, 1, 2, 3)
STEP = 0.15
LATIN_SETS = 30
"""That are compared for the first plans of a space."""


@dataclass(frozen=True)
class Candidates:
    """Encoded plans, for the models of errors and for those of costs. `prior` has a row per plan, a column per
    objective, and in it what is expected and the best that is possible, NaN where that is not known; without a prior it
    has no columns."""

    points: Points
    cost_points: Points
    prior: Floats

    def __len__(self) -> int:
        return len(self.points)

    def take(self, rows: Sequence[int] | Integers) -> Candidates:
        points = self.points.take(rows)
        cost_points = points if self.cost_points is self.points else self.cost_points.take(rows)
        return Candidates(points, cost_points, self.prior[rows])


class PlanPool:
    """Valid plans of a conditional space. What it holds at a trial depends on the seed and the trial's number only."""

    def __init__(self, pool: Pool, features: Features | None, prior: Prior | None, seed: int) -> None:
        self._pool, self._features, self._prior, self._seed = pool, features, prior, seed
        first = list(pool(random.Random(f"{seed}:pool"), WHOLE_SPACE))
        self._is_whole = len(first) < WHOLE_SPACE
        self._encoding = Encoding.of_parameters(first, getattr(pool, "by_factors", ()))
        self._first = first[: CHUNKS * CHUNK]
        table = self._feature_table(self._first)
        self._low, self._high = (table.min(0, initial=np.inf), table.max(0, initial=-np.inf))
        self._expected = self._prior_table(first[:1]).shape[1]
        self._rows: dict[Any, tuple[Floats, Floats, Floats]] = {}
        self._revision = self._prior_revision()
        self._whole = self._chunk_of(first) if self._is_whole else None
        self._chunks: dict[int, _Chunk] = {}

    def at(self, number: int) -> tuple[list[Plan], list[Any], Candidates]:
        """The plans of the pool at a trial, their keys, and the plans encoded."""
        self._follow_prior()
        if self._whole is not None:
            return self._whole.plans, self._whole.keys, self._whole.candidates
        wanted = range(number - CHUNKS + 1, number + 1)
        self._chunks = {i: self._chunks.get(i) or self._draw(i) for i in wanted}
        chunks = list(self._chunks.values())
        plans = [plan for chunk in chunks for plan in chunk.plans]
        keys = [key for chunk in chunks for key in chunk.keys]
        return plans, keys, _joined([chunk.candidates for chunk in chunks])

    def _prior_revision(self) -> object:
        return getattr(self._prior, "revision", None)

    def _follow_prior(self) -> None:
        """Ask the prior of all plans again if it says something else now."""
        if (revision := self._prior_revision()) == self._revision:
            return
        self._revision = revision
        self._rows.clear()
        if self._whole is not None:
            self._whole = self._with_prior(self._whole)
        self._chunks = {index: self._with_prior(chunk) for index, chunk in self._chunks.items()}

    def _with_prior(self, chunk: _Chunk) -> _Chunk:
        return replace(chunk, candidates=replace(chunk.candidates, prior=self._prior_table(chunk.plans)))

    def encode(self, plans: Sequence[Mapping[str, Any]], keys: Sequence[Any]) -> Candidates:
        """Plans that trials have. What a key led to is remembered."""
        for plan, key in zip(plans, keys, strict=True):
            if key not in self._rows:
                row = self._encoding.positions([plan]), self._feature_table([plan]), self._prior_table([plan])
                self._rows[key] = row[0][0], row[1][0], row[2][0]
        rows = [self._rows[key] for key in keys]
        positions = np.array([row[0] for row in rows]).reshape(len(rows), len(self._encoding.knobs))
        features = np.array([row[1] for row in rows]).reshape(len(rows), len(self._low))
        return self._encode(
            positions, features, np.array([row[2] for row in rows]).reshape(len(rows), self._expected, 2)
        )

    def _encode(self, positions: Floats, features: Floats, prior: Floats) -> Candidates:
        points = self._encoding.points(positions)
        if self._features is None:
            return Candidates(points, points, prior)
        span = np.where(self._high > self._low, self._high - self._low, 1.0)
        return Candidates(points, self._encoding.points(positions, (features - self._low) / span), prior)

    def _draw(self, index: int) -> _Chunk:
        if index < 0:  # before the first trial
            return self._chunk_of(self._first[(-index - 1) * CHUNK : -index * CHUNK])
        return self._chunk_of(list(self._pool(random.Random(f"{self._seed}:{index}"), CHUNK)))

    def _chunk_of(self, plans: list[Plan]) -> _Chunk:
        keys = [key_of(plan) for plan in plans]
        positions, features = self._encoding.positions(plans), self._feature_table(plans)
        return _Chunk(plans, keys, self._encode(positions, features, self._prior_table(plans)))

    def _feature_table(self, plans: Sequence[Mapping[str, Any]]) -> Floats:
        if self._features is None:
            return np.empty((len(plans), 0))
        rows = [list(self._features(plan)) for plan in plans]
        return np.array(rows, dtype=float).reshape(len(plans), len(rows[0]) if rows else 0)

    def _prior_table(self, plans: Sequence[Mapping[str, Any]]) -> Floats:
        if self._prior is None:
            return np.empty((len(plans), 0, 2))
        return np.array([list(self._prior(plan)) for plan in plans], dtype=float)


def _joined(parts: Sequence[Candidates]) -> Candidates:
    first, rest = parts[0], parts[1:]
    points = first.points.and_then(*(part.points for part in rest))
    prior = np.concatenate([part.prior for part in parts])
    if first.cost_points is first.points:
        return Candidates(points, points, prior)
    return Candidates(points, first.cost_points.and_then(*(part.cost_points for part in rest)), prior)


@dataclass(frozen=True)
class _Chunk:
    plans: list[Plan]
    keys: list[Any]
    candidates: Candidates


class DrawnPlans:
    """Candidates of a space of independent distributions: random ones, mutants and children of the given parents."""

    def __init__(self, space: Mapping[str, BaseDistribution], rng: np.random.Generator) -> None:
        self._space, self._rng = space, rng
        self._axes = [Axis(distribution) for distribution in space.values()]
        self._encoding = Encoding.of_distributions(space)

    def positions(self, parents: Floats) -> Floats:
        """Positions (plans, knobs) of random plans, mutants and children of the `parents` (n, knobs)."""
        drawn = self._random(DRAWN)
        if not len(parents):
            return drawn
        mutants = self._mutate(self._some(parents, MUTANTS), self._rng.choice(CHANGED_KNOBS, MUTANTS), STEP)
        mothers, fathers = self._some(parents, CROSSED), self._some(parents, CROSSED)
        crossed = np.where(self._rng.random(mothers.shape) < 0.5, mothers, fathers)
        return np.concatenate([drawn, mutants, crossed])

    def near(self, best: Floats, each: int, step: float) -> Floats:
        """Each of the best plans (n, knobs) with one knob changed by about `step`, `each` times: (n * each, knobs)."""
        many = np.repeat(best, each, axis=0)
        return self._mutate(many, np.ones(len(many), dtype=int), step)

    def encode(self, positions: Floats) -> Candidates:
        """The candidates at `positions` (plans, knobs)."""
        points = self._encoding.points(positions)
        return Candidates(points, points, np.empty((len(positions), 0, 2)))

    def positions_of(self, plans: Sequence[Mapping[str, Any]]) -> Floats:
        """Positions (plans, knobs) of parameters."""
        return self._encoding.positions(plans)

    def plan(self, positions: Floats) -> Plan:
        """The parameters at `positions` (knobs,)."""
        return {name: value_near(self._space[name], at) for name, at in zip(self._space, positions, strict=True)}

    def _random(self, count: int) -> Floats:
        return self._at_shares(self._rng.random((count, len(self._axes))))

    def _at_shares(self, shares: Floats) -> Floats:
        return np.column_stack([axis.draw(shares[:, j]) for j, axis in enumerate(self._axes)])

    def _some(self, parents: Floats, count: int) -> Floats:
        return parents[self._rng.integers(len(parents), size=count)]

    def _mutate(self, plans: Floats, changed: Floats, step: float) -> Floats:
        """Change so many knobs of each plan: a number by a Gaussian step, of one level at least, or, three times in
        ten, to any; a word to any."""
        order = self._rng.random(plans.shape).argsort(axis=1).argsort(axis=1)
        anew = self._random(len(plans))
        after = np.clip(plans + self._rng.normal(0, step, plans.shape), 0, 1)
        stepped = np.column_stack([axis.moved(plans[:, j], after[:, j]) for j, axis in enumerate(self._axes)])
        is_word = np.array([axis.is_word for axis in self._axes])
        other = np.where(is_word | (self._rng.random(plans.shape) < 0.3), anew, stepped)
        return np.where(order < changed[:, None], other, plans)


def first_plans(space: Mapping[str, BaseDistribution], count: int, seed: Sequence[int]) -> list[Plan]:
    """So many plans that cover the values of each knob evenly (a Latin hypercube): of some such sets, the one whose
    nearest plans are farthest apart."""
    rng = np.random.default_rng(seed)
    best, apart = np.empty((count, 0)), -1.0
    for _ in range(LATIN_SETS):
        levels = np.argsort(rng.random((count, len(space))), axis=0)
        shares = (levels + rng.random(levels.shape)) / count
        squared = ((shares[:, None] - shares) ** 2).sum(axis=2) + 99.0 * np.eye(count)
        if squared.min() > apart:
            best, apart = shares, float(squared.min())
    return [
        {name: value_at(space[name], share) for name, share in zip(space, row.tolist(), strict=True)} for row in best
    ]
