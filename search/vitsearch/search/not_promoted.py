"""Why a plan was not promoted, with the numbers that decided it."""

from __future__ import annotations

from vitsearch.core.metrics import split
from vitsearch.core.pareto import Loss, dominates, value_of
from vitsearch.core.record import Record, RunningTrial
from vitsearch.search import acquisition
from vitsearch.search.posterior import Posterior
from vitsearch.search.scheduler import Scheduler
from vitsearch.search.verdicts import NO_GAIN

NOTHING = "would add nothing beside the plans that are being trained"


def not_promoted(trial: RunningTrial, reason: str, scheduler: Scheduler) -> Record:
    """The record of a trial that stops before it is trained to its end; `reason` is what the scheduler answered."""
    posterior, trial = scheduler.posterior, scheduler.posterior.forecast(trial)
    estimate = _estimate(trial)
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
    posterior, front = scheduler.posterior, scheduler.expected_front()
    best = acquisition.at_best(posterior, trial)
    point = acquisition.predicted_loss(posterior, best)
    if point is None:
        return "has an unknown gain: not all objectives were measured"
    ends = [
        f"{name} {each.mean:.4f}" for name, each in best.qualities.items() if each.mean != trial.qualities[name].mean
    ]
    ends += [f"{name} {best.metrics.known[name]:.4g}" for name in posterior.predicted_costs(trial)]
    even = f", even at the better end of its 90 % interval ({', '.join(ends)})" if ends else ""
    if behind := _behind(best, point, posterior):
        return f"{behind}{even}"
    least, volume = scheduler.least_gain, front.hypervolume
    if not volume:  # there is no share of it: the plan that had one was in training, and has failed since
        return NOTHING
    required = f"at least {_percent(least)} is required"
    possible = acquisition.gain_as_predicted(posterior, best, front) / volume
    if possible > least:
        expected = acquisition.expected_gain(posterior, trial, front) / volume
        return f"would add {_percent(expected)} to the hypervolume on average; {required}"
    if possible:
        return f"would add {_percent(possible)} to the hypervolume{even}; {required}"
    return NOTHING


def _behind(trial: RunningTrial, point: Loss, posterior: Posterior) -> str:
    """Why a trial adds nothing if it is as predicted; empty where it may add something."""
    if broken := acquisition.predicted_to_break(posterior, trial):
        return f"would break {', '.join(broken)}"
    if (name := _missed(point, posterior)) is not None:
        return f"would add nothing to the hypervolume, which counts {_corner(name, posterior)}"
    for number, other in posterior.front_losses():
        if other == point or dominates(other, point):
            return f"would be no better than trial {number} ({_values(posterior, other)})"
    return ""


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %" if share >= 1e-5 else "less than 0.001 %"


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
