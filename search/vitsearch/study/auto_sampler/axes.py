"""The values of a knob, and their positions: those that it can have, how it is drawn, and its next level."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from vitsearch.study.auto_sampler.encoding import INACTIVE_POSITION, Floats


@dataclass(frozen=True)
class Axis:
    """The positions of a distribution: the index of a word, or of a number its way from the lowest to the highest."""

    distribution: BaseDistribution

    @property
    def is_word(self) -> bool:
        return isinstance(self.distribution, CategoricalDistribution)

    @property
    def has_levels(self) -> bool:
        return isinstance(self.distribution, IntDistribution) or getattr(self.distribution, "step", None) is not None

    def draw(self, shares: Floats) -> Floats:
        """The positions (n,) of the values at these shares (n,) of the distribution, as for `value_at`."""
        if self.is_word:
            return np.minimum(np.floor(shares * self._levels), self._levels - 1)
        if not self.has_levels:
            return shares
        if self._by_factors:
            low, high = self._ends
            drawn = (low - 0.5) * ((high + 0.5) / (low - 0.5)) ** shares
            return self._position_of(np.clip(np.rint(drawn), low, high))
        return self._position_of_level(np.minimum(np.floor(shares * self._levels), self._levels - 1))

    def nearest(self, positions: Floats) -> Floats:
        """The possible positions (n,) nearest to these (n,)."""
        if self.is_word or not self.has_levels:
            return positions
        if self._by_factors:
            return self._position_of(np.clip(np.rint(self._value_at(positions)), *self._ends))
        return self._position_of_level(np.rint(positions * (self._levels - 1)))

    def moved(self, before: Floats, after: Floats) -> Floats:
        """The possible positions (n,) nearest to `after` (n,), at least one level from `before` (n,) where there is
        one."""
        moved = self.nearest(after)
        if not self.has_levels:
            return moved
        up = np.where(after >= before, 1.0, -1.0)
        if self._by_factors:
            next_level = self._position_of(np.clip(np.rint(self._value_at(before)) + up, *self._ends))
        else:
            level = np.rint(before * (self._levels - 1)) + up
            next_level = self._position_of_level(np.clip(level, 0, self._levels - 1))
        return np.where((moved == before) & (after != before), next_level, moved)

    @property
    def _ends(self) -> tuple[float, float]:
        assert isinstance(self.distribution, FloatDistribution | IntDistribution)
        return float(self.distribution.low), float(self.distribution.high)

    @property
    def _by_factors(self) -> bool:
        return bool(getattr(self.distribution, "log", False))

    @property
    def _levels(self) -> int:
        if isinstance(self.distribution, CategoricalDistribution):
            return len(self.distribution.choices)
        low, high = self._ends
        return round((high - low) / float(getattr(self.distribution, "step", 1))) + 1

    def _position_of_level(self, levels: Floats) -> Floats:
        return levels / (self._levels - 1) if self._levels > 1 else np.full_like(levels, INACTIVE_POSITION)

    def _position_of(self, values: Floats) -> Floats:
        """Of values that differ by factors."""
        low, high = self._ends
        if high <= low:
            return np.full_like(values, INACTIVE_POSITION)
        position: Floats = np.log(values / low) / math.log(high / low)
        return position

    def _value_at(self, positions: Floats) -> Floats:
        """Of a number that differs by factors."""
        low, high = self._ends
        value: Floats = low * (high / low) ** positions
        return value


def value_at(distribution: BaseDistribution, share: float) -> Any:
    """The value below which this share (0 to 1) of the distribution lies. Each level of an integer, or of a float with
    a step, has the same part of it; an integer by factors has what is nearest to it on that scale."""
    if isinstance(distribution, CategoricalDistribution):
        count = len(distribution.choices)
        return distribution.choices[min(int(share * count), count - 1)]
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    low, high, step = distribution.low, distribution.high, distribution.step
    if distribution.log:
        half = 0.5 if isinstance(distribution, IntDistribution) else 0.0
        least, most = math.log(low - half), math.log(high + half)
        return _as_allowed(distribution, math.exp(least + share * (most - least)))
    if step is None:
        return _as_allowed(distribution, low + share * (high - low))
    levels = round((high - low) / step) + 1
    return _as_allowed(distribution, low + min(int(share * levels), levels - 1) * step)


def value_near(distribution: BaseDistribution, position: float) -> Any:
    """The value whose position is nearest to this one, or the choice with this index."""
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[int(position)]
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    low, high = distribution.low, distribution.high
    if distribution.log:
        value = math.exp(math.log(low) + position * (math.log(high) - math.log(low)))
    else:
        value = low + position * (high - low)
    if distribution.step is not None:
        value = low + round((value - low) / distribution.step) * distribution.step
    return _as_allowed(distribution, value)


def _as_allowed(distribution: FloatDistribution | IntDistribution, value: float) -> Any:
    value = min(max(value, distribution.low), distribution.high)
    return round(value) if isinstance(distribution, IntDistribution) else float(value)
