"""Why a plan was not promoted, with the numbers that decided it."""

from __future__ import annotations

from statistics import NormalDist

from vitsearch.core.metrics import is_quality, split
from vitsearch.core.pareto import Loss, dominates, value_of
from vitsearch.core.record import Record, RunningTrial
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
        expected = ", ".join(f"{name} {estimate.mean:.4f}" for name, estimate in trial.qualities.items())
        return f"expected {expected} after rung {trial.rung}"
    return "predicted " + ", ".join(f"{name} {estimate.text}" for name, estimate in trial.qualities.items())


def _why_no_gain(trial: RunningTrial, scheduler: Scheduler) -> str:
    """The scheduler weighs a candidate with its costs at the worse end of their intervals. So does this text, and says
    so where the costs as measured would have been enough."""
    posterior, front = scheduler.posterior, scheduler.expected_front()
    as_measured, at_worst = acquisition.losses_of(posterior, trial)
    if as_measured is None or at_worst is None:
        return "has no expected gain, because not all objectives were measured"
    if broken := acquisition.predicted_to_break(posterior, trial):
        bounds = {bound.name: bound for bound in posterior.goals.bounds if is_quality(bound.metric)}
        if set(broken) <= set(bounds):
            chances = [_chance_beyond(trial, bounds[name].metric, bounds[name].value) for name in broken]
            if chance := max((each for each in chances if each is not None), default=None):
                return f"is likelier to break {', '.join(broken)} than to meet it ({100 * chance:.0f} %)"
        return f"would break {', '.join(broken)}"
    if (name := _missed(at_worst, posterior)) is not None:
        counts = f"the hypervolume, which counts {_corner(name, posterior)}"
        if chance := _chance_beyond(trial, name, _worst(name, posterior)):
            return f"is likelier to add nothing to {counts}, than something ({100 * chance:.0f} %)"
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


def _chance_beyond(trial: RunningTrial, name: str, value: float) -> float | None:
    """How likely a quality is worse than a value, as it is predicted; None where it has no deviation."""
    estimate = trial.qualities.get(name)
    if estimate is None or not estimate.deviation:
        return None
    below = NormalDist(estimate.mean, estimate.deviation).cdf(value)
    return below if split(name)[0].direction == "maximize" else 1.0 - below


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
    return value_of(name, dict(zip(goals.objectives, goals.reference, strict=True))[name])


def _values(posterior: Posterior, point: Loss) -> str:
    return ", ".join(
        f"{name} {value_of(name, component):.4g}"
        for name, component in zip(posterior.goals.objectives, point, strict=True)
    )


def _spans(trial: RunningTrial, posterior: Posterior) -> str:
    """The objectives that have intervals: `cpu_ms_p50 0.09249 (0.08876 to 0.09638)`."""
    spans = trial.metrics.intervals
    return ", ".join(
        f"{name} {trial.metrics.value(name):.4g} ({spans[name][0]:.4g} to {spans[name][1]:.4g})"
        for name in posterior.goals.objectives
        if name in spans
    )
