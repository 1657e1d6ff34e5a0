"""The records with which a trial ends because of its figures: infeasible or dominated after its screening measurement,
or confirmed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vitsearch.core.figures import Metrics
from vitsearch.core.limits import Bound, constraints
from vitsearch.core.metrics import split
from vitsearch.core.pareto import dominates, loss
from vitsearch.core.record import Keys, Record, RunningTrial
from vitsearch.search.goals import Goals
from vitsearch.search.posterior import Posterior

NO_GAIN = "no predicted gain"


def judge_screen(posterior: Posterior, trial: RunningTrial) -> Record | None:
    """The record of a trial that is infeasible or dominated; None when it may continue.

    A trial that only the width of its intervals keeps from being as good as another is tied with it, and continues.
    """
    broken = posterior.goals.screened_constraints(trial.metrics)
    if names := [name for name, value in broken.items() if value > 0]:
        return trial.to_record("infeasible", f"its screening measurement breaks {', '.join(names)}", broken)
    return _dominated(posterior, trial, broken)


def missed_bound(limits: Sequence[Bound], metrics: Metrics) -> Bound | None:
    """The bound that a model misses by most, even at the better end of its intervals; None where it may meet all."""
    best = metrics.at_end(better=True).values
    broken = {bound: bound.violation(seen) for bound in limits if (seen := best.get(bound.metric)) is not None}
    worst = max(broken, key=broken.__getitem__, default=None)
    return worst if worst is not None and broken[worst] > 0 else None


def _dominated(posterior: Posterior, trial: RunningTrial, broken: Mapping[str, float]) -> Record | None:
    goals, caps = posterior.goals, posterior.caps(trial.plan.backbone)
    best = loss(goals.objectives, trial.metrics.at_end(better=True).values | caps)
    if best is None:
        return None
    for number, point in posterior.front_losses():
        if dominates(point, best):
            reached = " and ".join(
                f"{caps[name]:.4f} (best known {name} {_signed(goals.margin, name)})"
                for name in goals.qualities
                if name in goals.objectives
            )
            even = f" even if it reached {reached}" if reached else ""
            return trial.to_record("dominated", f"dominated by trial {number}{even}", broken)
    return None


def _signed(margin: float, name: str) -> str:
    """The margin as it is added to the best value of a metric: `+ 0.01`."""
    metric = split(name)[0]
    return f"{'+' if metric.direction == 'maximize' else '-'} {margin * metric.width:g}"


def confirmed(goals: Goals, trial: RunningTrial, keys: Keys, metrics: Metrics) -> Record:
    broken = constraints(goals.bounds, metrics.values)
    return Record("confirmed", trial.plan, "", keys, metrics, broken, trial.proxy, trial.rung)
