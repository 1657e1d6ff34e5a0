"""Why a plan was not promoted, with the numbers that decided it."""

from __future__ import annotations

import math
from statistics import NormalDist

from vitsearch.core.metrics import split
from vitsearch.core.pareto import Loss, dominates
from vitsearch.core.record import Record, RunningTrial, with_error
from vitsearch.search.outlook import NO_GAIN, KnownFront, Outlook
from vitsearch.search.scheduler import Scheduler


def not_promoted(trial: RunningTrial, reason: str, scheduler: Scheduler) -> Record:
    """The record of a trial that stops before it is trained to its end; `reason` is what the scheduler answered."""
    outlook, estimate = scheduler.outlook, _estimate(trial)
    text = f"{reason}: {estimate}"
    if reason == NO_GAIN:
        text = f"{estimate} {_why_no_gain(trial, scheduler)}"
    return trial.to_record("not_promoted", text, outlook.screened_constraints(trial.metrics))


def _estimate(trial: RunningTrial) -> str:
    if trial.rung:
        return f"expected accuracy {trial.accuracy:.4f} after rung {trial.rung}"
    return f"predicted accuracy {with_error(trial.accuracy or 0.0, trial.deviation)}"


def _why_no_gain(trial: RunningTrial, scheduler: Scheduler) -> str:
    """The scheduler weighs a candidate with its costs at the worse end of their intervals. So does this text, and says
    so where the costs as measured would have been enough."""
    outlook, known = scheduler.outlook, scheduler.known()
    as_measured, at_worst = outlook.losses_of(trial)
    if as_measured is None or at_worst is None:
        return "has no expected gain, because not all objectives were measured"
    if broken := outlook.predicted_to_break(trial):
        bounds = {bound.name: bound.value for bound in outlook.goals.bounds if bound.metric == "accuracy"}
        if set(broken) <= set(bounds) and (chance := _chance_below(trial, max(bounds[name] for name in broken))):
            return f"is likelier to break {', '.join(broken)} than to meet it ({chance})"
        return f"would break {', '.join(broken)}"
    if (name := _missed(at_worst, outlook)) is not None:
        counts = f"the hypervolume, which counts {_corner(name, outlook)}"
        worst = _worst(name, outlook)
        if name == "accuracy" and (chance := _chance_below(trial, worst)):
            return f"is likelier to add nothing to {counts}, than something ({chance})"
        return f"would add nothing to {counts}"
    # Without a volume there is no share: the plan that had one was in training, and has failed since.
    if known.hypervolume and (gain := outlook.gain(trial, known)):
        return _small(gain / known.hypervolume, trial, scheduler, known)
    for number, other in outlook.front_losses():
        if other == as_measured or dominates(other, as_measured):
            return f"would be no better than trial {number} ({_values(outlook, other)})"
    for number, other in outlook.front_losses():
        if other == at_worst or dominates(other, at_worst):
            return f"ties with trial {number} ({_values(outlook, other)}): {_spans(trial, outlook)}"
    return "would add nothing beside the plans that are being trained"


def _small(share: float, trial: RunningTrial, scheduler: Scheduler, known: KnownFront) -> str:
    outlook, least = scheduler.outlook, scheduler.least_gain
    text = f"would add {_percent(share)} to the hypervolume, less than {_percent(least)}"
    measured = outlook.gain_as_measured(trial, known) / known.hypervolume
    if measured <= least:
        return text
    return f"{text}, at the worse end of the intervals ({_percent(measured)} as measured): {_spans(trial, outlook)}"


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %" if share >= 1e-5 else "less than 0.001 %"


def _chance_below(trial: RunningTrial, value: float) -> str | None:
    """How likely the accuracy is below a value, as it is predicted: `52 %`; None where it has no deviation."""
    if not trial.deviation or trial.accuracy is None:
        return None
    return f"{100 * NormalDist(trial.accuracy, trial.deviation).cdf(value):.0f} %"


def _missed(point: Loss, outlook: Outlook) -> str | None:
    """The objective in which a point lies beyond the corner of the hypervolume."""
    goals = outlook.goals
    beyond = (name for name, one, worst in zip(goals.objectives, point, goals.reference, strict=True) if one >= worst)
    return next(beyond, None)


def _corner(name: str, outlook: Outlook) -> str:
    """`accuracy above 0.8755`: what the hypervolume counts of an objective."""
    side = "above" if split(name)[0].direction == "maximize" else "below"
    return f"{name} {side} {_worst(name, outlook):.4g}"


def _worst(name: str, outlook: Outlook) -> float:
    """The value of an objective at the corner of the hypervolume."""
    goals = outlook.goals
    return _value(name, dict(zip(goals.objectives, goals.reference, strict=True))[name])


def _values(outlook: Outlook, point: Loss) -> str:
    return ", ".join(
        f"{name} {_value(name, one):.4g}" for name, one in zip(outlook.goals.objectives, point, strict=True)
    )


def _value(name: str, one: float) -> float:
    """The value of a metric from its component of a loss."""
    if name == "accuracy":
        return 1.0 - one
    return math.exp(one if split(name)[0].direction == "minimize" else -one)


def _spans(trial: RunningTrial, outlook: Outlook) -> str:
    """The objectives that have intervals: `cpu_ms_p50 0.09249 (0.08876 to 0.09638)`."""
    spans = trial.metrics.intervals
    return ", ".join(
        f"{name} {trial.metrics.value(name):.4g} ({spans[name][0]:.4g} to {spans[name][1]:.4g})"
        for name in outlook.goals.objectives
        if name in spans
    )
