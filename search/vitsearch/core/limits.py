"""The limits of the space file as bounds, and how far values violate them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from vitsearch.core.metrics import split

COST_MARGIN = 1.1
"""Factor between the baseline's cost and the cost of the reference point."""
DEFAULT_DROP = 0.05
"""Difference between the baseline's accuracy and that of the reference point, when the file has no accuracy limit."""


class Limit(Protocol):
    """The limits of the space file for one metric; None for a limit that it does not set."""

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
    """A bound on a metric: ``sense`` is ``<=`` or ``>=``."""

    metric: str
    sense: str
    value: float

    @property
    def name(self) -> str:
        return f"{self.metric}{self.sense}{self.value:.6g}"

    def violation(self, seen: float) -> float:
        """The violation relative to the bound, positive when the bound is violated (as Optuna defines constraints)."""
        scale = abs(self.value) or 1.0
        return (seen - self.value if self.sense == "<=" else self.value - seen) / scale


def bounds(limits: Mapping[str, Limit], baseline: Mapping[str, float | None]) -> tuple[Bound, ...]:
    """The bounds of all limits. A relative limit is left out when the baseline's value was not measured."""
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
    """The violation of each bound whose metric was measured; 0 or less means that the bound is satisfied."""
    return {bound.name: bound.violation(seen) for bound in limits if (seen := values.get(bound.metric)) is not None}


def screened(limits: Sequence[Bound]) -> tuple[Bound, ...]:
    """The bounds on metrics that the screening measurement gives; the others need the confirmation measurement."""
    return tuple(bound for bound in limits if split(bound.metric)[0].screened)


def reference_values(
    objectives: Sequence[str], limits: Sequence[Bound], baseline: Mapping[str, float | None]
) -> dict[str, float]:
    """The reference point of the hypervolume. It is fixed and stored when the baseline is known.

    Raises ValueError when an objective was not measured for the baseline.
    """
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
