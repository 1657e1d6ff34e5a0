"""The backbones of a study beside each other: what the best models of each reach on the device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from vitsearch.core.metrics import split
from vitsearch.study.front import Front, Point


@dataclass(frozen=True)
class BestFigure:
    """The best figure that a backbone reaches in one objective, among its models that break no limit."""

    objective: str
    """The metric."""
    trial: int | None
    """The trial that has it."""
    value: float
    """Its value."""
    low: float | None
    """Lower end of its 95 % interval; null where it has none."""
    high: float | None
    """Upper end."""


@dataclass(frozen=True)
class BackboneStanding:
    """How a backbone stands among the others."""

    backbone: str
    """Its name."""
    models: int
    """Models that were exported, evaluated and measured."""
    within_limits: int
    """Those of them that meet all limits."""
    unjudged: int
    """Those that break no limit, but one of them cannot be judged."""
    on_front: tuple[int, ...]
    """The trials of its models on the front."""
    best: tuple[BestFigure, ...]
    """The best figure in each objective; none for one in which no model that breaks no limit has a value."""

    def best_in(self, objective: str) -> BestFigure | None:
        return next((figure for figure in self.best if figure.objective == objective), None)


def standings(front: Front) -> tuple[BackboneStanding, ...]:
    """The backbones of the models of a study, those with most models on the front first.

    Args:
        front: With all further models in `others`.

    Returns:
        One row for each backbone.
    """
    models = [*front.points, *front.others]
    on_front = {point.trial for point in front.points}
    names = sorted({point.plan.backbone for point in models})
    rows = [_standing(name, [it for it in models if it.plan.backbone == name], on_front, front) for name in names]
    return tuple(sorted(rows, key=lambda row: (-len(row.on_front), -row.within_limits, row.backbone)))


def _standing(name: str, models: Sequence[Point], on_front: set[int | None], front: Front) -> BackboneStanding:
    feasible = [point for point in models if point.feasible]
    best = (_best(objective, feasible) for objective in front.objectives)
    trials = tuple(point.trial for point in models if point.trial in on_front and point.trial is not None)
    return BackboneStanding(
        name,
        len(models),
        sum(point.meets_limits is True for point in models),
        sum(point.meets_limits is None for point in models),
        tuple(sorted(trials)),
        tuple(it for it in best if it is not None),
    )


def _best(objective: str, models: Sequence[Point]) -> BestFigure | None:
    measured = list(_measured(objective, models))
    if not measured:
        return None
    sign = 1 if split(objective)[0].direction == "maximize" else -1
    value, point = max(measured, key=lambda pair: sign * pair[0])
    low, high = point.metrics.intervals.get(objective, (None, None))
    return BestFigure(objective, point.trial, value, low, high)


def _measured(objective: str, models: Sequence[Point]) -> Iterator[tuple[float, Point]]:
    for point in models:
        value = point.metrics.value(objective)
        if value is not None:
            yield value, point
