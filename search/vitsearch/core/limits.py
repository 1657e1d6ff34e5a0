"""The limits of the space file as bounds, and how far values violate them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from vitsearch.core.metrics import Metric, split
from vitsearch.core.policy import POLICY
from vitsearch.core.priors import prior_of
from vitsearch.core.run_sizes import ONE, RunSizes


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


ROUNDING = 1e-9
"""Relative differences below come from the arithmetic of floats."""


@dataclass(frozen=True)
class Bound:
    """A bound on a metric: `sense` is `<=` or `>=`."""

    metric: str
    sense: str
    value: float

    @property
    def name(self) -> str:
        return f"{self.metric}{self.sense}{self.value:.6g}"

    def violation(self, seen: float) -> float:
        """The violation relative to the bound, positive when the bound is violated (as Optuna defines constraints). A
        value that differs from the bound by the rounding of floats alone meets it: 0.05 - 0.03 is above 0.02."""
        scale = abs(self.value) or 1.0
        by = (seen - self.value if self.sense == "<=" else self.value - seen) / scale
        return 0.0 if abs(by) < ROUNDING else by

    def shown(self, seen: float) -> str:
        """A value in as few digits, four at least, as tell on which side of the bound it is, as the name shows that."""
        named, is_broken = replace(self, value=float(f"{self.value:.6g}")), self.violation(seen) > 0.0
        for digits in range(4, 17):
            text = f"{seen:.{digits}g}"
            if (named.violation(float(text)) > 0.0) == is_broken:
                return text
        return repr(seen)


def bounds(limits: Mapping[str, Limit], baseline: Mapping[str, float | None]) -> tuple[Bound, ...]:
    """The bounds of all limits. A relative limit is left out when the baseline's value was not measured."""
    return tuple(stated.bound for stated in stated_limits(limits, baseline))


@dataclass(frozen=True)
class StatedLimit:
    """A limit as the space file states it: `limits.METRIC.KEY: value`, and the bound that follows from it.

    `base` is what a relative limit refers to, None for `min` and `max`.
    """

    bound: Bound
    key: str
    value: float
    base: float | None = None

    @property
    def path(self) -> str:
        return f"limits.{self.bound.metric}.{self.key}"

    def needed(self, seen: float) -> float:
        """The value of the key with which `seen` would just satisfy the limit."""
        if self.base is None:
            return seen
        if self.key == "max_drop":
            return abs(self.base - seen)
        return seen / self.base if self.base else seen

    def bound_at(self, value: float) -> Bound:
        """The bound if the key had this value."""
        return _bound(self.bound.metric, self.key, value, self.base)


def _bound(metric: str, key: str, value: float, base: float | None) -> Bound:
    if key == "max_drop" and base is not None:
        more_is_better = split(metric)[0].direction == "maximize"
        return Bound(metric, ">=", base - value) if more_is_better else Bound(metric, "<=", base + value)
    sense = "<=" if key in ("max", "max_ratio") else ">="
    return Bound(metric, sense, value if base is None else base * value)


def stated_limits(limits: Mapping[str, Limit], baseline: Mapping[str, float | None]) -> tuple[StatedLimit, ...]:
    """Every limit with its bound, in the order of the file; as `bounds`."""
    stated = []
    for metric, limit in limits.items():
        absolute = {"min": limit.min, "max": limit.max}
        relative = {"max_drop": limit.max_drop, "max_ratio": limit.max_ratio, "min_ratio": limit.min_ratio}
        for key, value in (absolute | relative).items():
            base = baseline.get(metric) if key in relative else None
            if value is not None and (base is not None or key in absolute):
                stated.append(StatedLimit(_bound(metric, key, value, base), key, value, base))
    return tuple(stated)


def constraints(limits: Sequence[Bound], values: Mapping[str, float | None]) -> dict[str, float]:
    """The violation of each bound whose metric was measured; 0 or less means that the bound is satisfied."""
    return {bound.name: bound.violation(seen) for bound in limits if (seen := values.get(bound.metric)) is not None}


def unjudged(
    limits: Mapping[str, Limit], baseline: Mapping[str, float | None], values: Mapping[str, float | None]
) -> tuple[str, ...]:
    """The metrics with a limit that cannot be judged: the model has no value, or a relative limit no baseline."""

    def is_judged(metric: str, limit: Limit) -> bool:
        is_relative = any(share is not None for share in (limit.max_drop, limit.max_ratio, limit.min_ratio))
        return values.get(metric) is not None and (baseline.get(metric) is not None or not is_relative)

    return tuple(metric for metric, limit in limits.items() if not is_judged(metric, limit))


def screened(limits: Sequence[Bound]) -> tuple[Bound, ...]:
    """The bounds on metrics that the screening measurement gives; the others need the confirmation measurement."""
    return tuple(bound for bound in limits if split(bound.metric)[0].screened)


def reference_values(
    objectives: Sequence[str],
    limits: Sequence[Bound],
    baseline: Mapping[str, float | None],
    sizes: RunSizes = ONE,
) -> dict[str, float]:
    """The reference point of the hypervolume. It is stored when the baseline is known; a limit of a quality moves
    it, and so does a larger batch or more threads among the `sizes` of runs.

    Raises ValueError when an objective was not measured for the baseline.
    """
    policy, corner = POLICY.reference_point, {}
    for name in objectives:
        seen = baseline.get(name)
        if seen is None:
            raise ValueError(f"objective {name} was not measured for the baseline")
        metric = split(name)[0]
        if metric.is_quality:
            drop = policy.accuracy_drop if prior_of(metric.name).is_measured else policy.unmeasured_drop
            corner[name] = _least(metric, limits, metric.shifted(seen, -drop))
        else:
            factor = policy.cost_factor * sizes.worsening(metric.name)
            corner[name] = seen * (factor if metric.direction == "minimize" else 1.0 / factor)
    return corner


def _least(metric: Metric, limits: Sequence[Bound], default: float) -> float:
    """The worst value of a quality that the limits allow, where they bound it."""
    sense = ">=" if metric.direction == "maximize" else "<="
    floors = [bound.value for bound in limits if (bound.metric, bound.sense) == (metric.name, sense)]
    return min(floors, key=metric.error, default=default)
