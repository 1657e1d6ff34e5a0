"""Limits of the space file as bounds on numbers, and what a set of values does to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from vitsearch.core.metrics import split

COST_MARGIN = 1.1
"""The reference point lies this far beyond the baseline's cost."""
DEFAULT_DROP = 0.05
"""Accuracy that the reference point gives away when the file sets no limit on it."""


class Limit(Protocol):
    """What the space file allows for one metric; None where it says nothing."""

    @property
    def min(self) -> float | None: ...
    @property
    def max(self) -> float | None: ...
    @property
    def max_drop(self) -> float | None: ...
    @property
    def max_ratio(self) -> float | None: ...
    @property
    def min_ratio(self) -> float | None: ...


@dataclass(frozen=True)
class Bound:
    """``metric`` must be at least or at most ``value``."""

    metric: str
    sense: str
    value: float

    @property
    def name(self) -> str:
        return f"{self.metric}{self.sense}{self.value:.6g}"

    def violation(self, seen: float) -> float:
        """Positive when broken, relative to the bound, as Optuna wants constraints."""
        scale = abs(self.value) or 1.0
        return (seen - self.value if self.sense == "<=" else self.value - seen) / scale


def bounds(limits: Mapping[str, Limit], baseline: Mapping[str, float | None]) -> tuple[Bound, ...]:
    """A relative limit needs the baseline's value; where that was not measured it cannot be judged and is left out."""
    found = []
    for metric, limit in limits.items():
        seen = baseline.get(metric)
        if limit.min is not None:
            found.append(Bound(metric, ">=", limit.min))
        if limit.max is not None:
            found.append(Bound(metric, "<=", limit.max))
        if limit.max_drop is not None and seen is not None:
            found.append(Bound(metric, ">=", seen - limit.max_drop))
        if limit.max_ratio is not None and seen is not None:
            found.append(Bound(metric, "<=", seen * limit.max_ratio))
        if limit.min_ratio is not None and seen is not None:
            found.append(Bound(metric, ">=", seen * limit.min_ratio))
    return tuple(found)


def constraints(limits: Sequence[Bound], values: Mapping[str, float | None]) -> dict[str, float]:
    """Violation by bound (0 or less is kept) for every metric that was measured."""
    return {bound.name: bound.violation(seen) for bound in limits if (seen := values.get(bound.metric)) is not None}


def screened(limits: Sequence[Bound]) -> tuple[Bound, ...]:
    """The bounds that the quick screen can judge; the rest wait for the confirming measurement."""
    return tuple(bound for bound in limits if split(bound.metric)[0].screened)


def reference_values(
    objectives: Sequence[str], limits: Sequence[Bound], baseline: Mapping[str, float | None]
) -> dict[str, float]:
    """The corner that hypervolume is measured from: fixed when the baseline is known, and stored."""
    accuracy_floor = [bound.value for bound in limits if bound.metric == "accuracy" and bound.sense == ">="]
    corner = {}
    for name in objectives:
        seen = baseline.get(name)
        if seen is None:
            raise ValueError(f"objective {name} was not measured for the baseline")
        if name == "accuracy":
            corner[name] = max(accuracy_floor, default=seen - DEFAULT_DROP)
        else:
            worse = COST_MARGIN if split(name)[0].direction == "minimize" else 1.0 / COST_MARGIN
            corner[name] = seen * worse
    return corner
