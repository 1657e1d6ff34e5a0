"""Why a plan was not promoted, with the numbers that decided it."""

from __future__ import annotations

import math
from statistics import NormalDist

from vitsearch.core.metrics import split
from vitsearch.core.pareto import Loss, dominates
from vitsearch.core.record import Record, RunningTrial, with_error
from vitsearch.search import acquisition
from vitsearch.search.acquisition import ExpectedFront
from vitsearch.search.posterior import Posterior
from vitsearch.search.scheduler import Scheduler
from vitsearch.search.verdicts import NO_GAIN


def not_promoted(trial: RunningTrial, reason: str, scheduler: Scheduler) -> Record:
    """The record of a trial that stops before it is trained to its end; `reason` is what the scheduler answered."""
    posterior, estimate = scheduler.posterior, _estimate(trial)
    text = f"{reason}: {estimate}"
    if reason == NO_GAIN:
        text = f"{estimate} {_why_no_gain(trial, scheduler)}"
    return trial.to_record("not_promoted", text, posterior.goals.screened_constraints(trial.metrics))


def _estimate(trial: RunningTrial) -> str:
    if trial.rung:
        return f"expected accuracy {trial.accuracy:.4f} after rung {trial.rung}"
    return f"predicted accuracy {with_error(trial.accuracy or 0.0, trial.deviation)}"


def _why_no_gain(trial: RunningTrial, scheduler: Scheduler) -> str:
    """The scheduler weighs a candidate with its costs at the worse end of their intervals. So does this text, and says
    so where the costs as measured would have been enough."""
    posterior, front = scheduler.posterior, scheduler.expected_front()
    as_measured, at_worst = acquisition.losses_of(posterior, trial)
    if as_measured is None or at_worst is None:
        return "has no expected gain, because not all objectives were measured"
    if broken := acquisition.predicted_to_break(posterior, trial):
        bounds = {bound.name: bound.value for bound in posterior.goals.bounds if bound.metric == "accuracy"}
        if set(broken) <= set(bounds) and (chance := _chance_below(trial, max(bounds[name] for name in broken))):
            return f"is likelier to break {', '.join(broken)} than to meet it ({chance})"
        return f"would break {', '.join(broken)}"
    if (name := _missed(at_worst, posterior)) is not None:
        counts = f"the hypervolume, which counts {_corner(name, posterior)}"
        worst = _worst(name, posterior)
        if name == "accuracy" and (chance := _chance_below(trial, worst)):
            return f"is likelier to add nothing to {counts}, than something ({chance})"
        return f"would add nothing to {counts}"
    # Without a volume there is no share: the plan that had one was in training, and has failed since.
    if front.hypervolume and (added := acquisition.expected_gain(posterior, trial, front)):
        return _small(added / front.hypervolume, trial, scheduler, front)
    for number, other in posterior.front_losses():
        if other == as_measured or dominates(other, as_measured):
            return f"would be no better than trial {number} ({_values(posterior, other)})"
    for number, other in posterior.front_losses():
        if other == at_worst or dominates(other, at_worst):
            return f"ties with trial {number} ({_values(posterior, other)}): {_spans(trial, posterior)}"
    return "would add nothing beside the plans that are being trained"


def _small(share: float, trial: RunningTrial, scheduler: Scheduler, front: ExpectedFront) -> str:
    posterior, least = scheduler.posterior, scheduler.least_gain
    text = f"would add {_percent(share)} to the hypervolume, less than {_percent(least)}"
    measured = acquisition.expected_gain_as_measured(posterior, trial, front) / front.hypervolume
    if measured <= least:
        return text
    return f"{text}, at the worse end of the intervals ({_percent(measured)} as measured): {_spans(trial, posterior)}"


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %" if share >= 1e-5 else "less than 0.001 %"


def _chance_below(trial: RunningTrial, value: float) -> str | None:
    """How likely the accuracy is below a value, as it is predicted: `52 %`; None where it has no deviation."""
    if not trial.deviation or trial.accuracy is None:
        return None
    return f"{100 * NormalDist(trial.accuracy, trial.deviation).cdf(value):.0f} %"


def _missed(point: Loss, posterior: Posterior) -> str | None:
    """The objective in which a point lies beyond the corner of the hypervolume."""
    goals = posterior.goals
    beyond = (
        name
        for name, component, worst in zip(goals.objectives, point, goals.reference, strict=True)
        if component >= worst
    )
    return next(beyond, None)


def _corner(name: str, posterior: Posterior) -> str:
    """`accuracy above 0.8755`: what the hypervolume counts of an objective."""
    side = "above" if split(name)[0].direction == "maximize" else "below"
    return f"{name} {side} {_worst(name, posterior):.4g}"


def _worst(name: str, posterior: Posterior) -> float:
    """The value of an objective at the corner of the hypervolume."""
    goals = posterior.goals
    return _value(name, dict(zip(goals.objectives, goals.reference, strict=True))[name])


def _values(posterior: Posterior, point: Loss) -> str:
    return ", ".join(
        f"{name} {_value(name, component):.4g}"
        for name, component in zip(posterior.goals.objectives, point, strict=True)
    )


def _value(name: str, component: float) -> float:
    """The value of a metric from its component of a loss."""
    if name == "accuracy":
        return 1.0 - component
    return math.exp(component if split(name)[0].direction == "minimize" else -component)


def _spans(trial: RunningTrial, posterior: Posterior) -> str:
    """The objectives that have intervals: `cpu_ms_p50 0.09249 (0.08876 to 0.09638)`."""
    spans = trial.metrics.intervals
    return ", ".join(
        f"{name} {trial.metrics.value(name):.4g} ({spans[name][0]:.4g} to {spans[name][1]:.4g})"
        for name in posterior.goals.objectives
        if name in spans
    )
