"""What a plan is expected to add to the front: the mean of the hypervolume that is added, over what its qualities may
become. Those of one plan are taken to be better or worse than predicted together."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from vitsearch.core import pareto
from vitsearch.core.figures import Estimate, means
from vitsearch.core.limits import constraints
from vitsearch.core.metrics import split
from vitsearch.core.pareto import Loss, hypervolume, loss
from vitsearch.core.policy import POLICY
from vitsearch.core.record import Record, RunningTrial
from vitsearch.search.posterior import Posterior, Qualities
from vitsearch.search.verdicts import judge_screen

QUADRATURE = ((0.0, 0.53333), (-1.35563, 0.22208), (1.35563, 0.22208), (-2.85697, 0.01126), (2.85697, 0.01126))
"""Standard deviations from the mean of a normal distribution, and their weights (Gauss-Hermite, five nodes)."""


@dataclass(frozen=True)
class ExpectedFront:
    """The losses to which something is added, and their hypervolume."""

    losses: tuple[Loss, ...]
    hypervolume: float


def expected_front(posterior: Posterior, in_training: Iterable[RunningTrial] = ()) -> ExpectedFront:
    """The front of the confirmed, feasible trials, and of those that are being trained as they are predicted."""
    expected = (_allowed_loss(posterior, trial, means(trial.qualities)) for trial in in_training)
    points = [point for _, point in posterior.front_losses()] + [point for point in expected if point is not None]
    losses = tuple(points[index] for index in pareto.front(points))
    return ExpectedFront(losses, hypervolume(losses, posterior.goals.reference))


def expected_gain(posterior: Posterior, trial: RunningTrial, front: ExpectedFront) -> float:
    """The hypervolume that a trial is expected to add, with its costs at the worse end of their intervals: what is
    better only within them would be chosen for its luck, and so would what is better only within what counts as
    equal quality. 0 where it is likelier to miss the reference than to reach it: the next candidate costs little
    beside a training."""
    return expected_gain_as_measured(posterior, replace(trial, metrics=trial.metrics.at_end(better=False)), front)


def expected_gain_as_measured(posterior: Posterior, trial: RunningTrial, front: ExpectedFront) -> float:
    """The same with its costs as they were measured."""
    expected, reference = _allowed_loss(posterior, trial, means(trial.qualities)), posterior.goals.reference
    if expected is None or any(value >= worst for value, worst in zip(expected, reference, strict=True)):
        return 0.0
    deviations = _open_deviations(trial)
    if not any(deviations.values()):
        return _added(expected, front, reference)

    def shifted(by: float) -> Qualities:
        return {
            name: split(name)[0].moved(estimate.mean, by * deviations[name])
            for name, estimate in trial.qualities.items()
        }

    return sum(
        weight * _added(_allowed_loss(posterior, trial, shifted(shift)), front, reference)
        for shift, weight in QUADRATURE
    )


def _open_deviations(trial: RunningTrial) -> dict[str, float]:
    """How far each quality may lie from what is predicted, beyond what counts as equal, as a share of its span."""
    equal, deviations = POLICY.equality.accuracy_of_models, {}
    for name, estimate in trial.qualities.items():
        deviation = estimate.deviation / split(name)[0].width
        deviations[name] = math.sqrt(max(deviation**2 - equal**2, 0.0))
    return deviations


def gain_of_put_aside(posterior: Posterior, number: int, record: Record) -> float:
    """What a trial that was put aside would add under today's limits, cap and front; 0 when still nothing."""
    if record.outcome not in ("infeasible", "dominated", "not_promoted") or record.keys is None:
        return 0.0
    trial = RunningTrial(number, record.plan, record.keys, record.metrics)
    if record.proxy is None:
        caps = posterior.caps(record.plan.backbone)
        trial = replace(trial, qualities={name: Estimate(cap) for name, cap in caps.items()})
    else:
        trial = trial.with_proxy(record.proxy)
    return 0.0 if judge_screen(posterior, trial) else expected_gain(posterior, trial, expected_front(posterior))


def losses_of(posterior: Posterior, trial: RunningTrial) -> tuple[Loss | None, Loss | None]:
    """The predicted loss of a trial, with its costs as measured and at the worse end of their intervals."""
    at_worst = replace(trial, metrics=trial.metrics.at_end(better=False))
    qualities = means(trial.qualities)
    return _loss(posterior, trial, qualities), _loss(posterior, at_worst, qualities)


def predicted_to_break(posterior: Posterior, trial: RunningTrial) -> list[str]:
    """The limits that are broken by what is predicted of a trial."""
    return _broken(posterior, trial, means(trial.qualities))


def _broken(posterior: Posterior, trial: RunningTrial, qualities: Qualities) -> list[str]:
    goals, values = posterior.goals, posterior.expected_values(trial, qualities)
    predicted = {name for name in goals.objectives if trial.metrics.value(name) is None} | {*goals.qualities}
    broken = constraints(goals.bounds, {name: values[name] for name in predicted})
    return [name for name, value in broken.items() if value > 0.0]


def _allowed_loss(posterior: Posterior, trial: RunningTrial, qualities: Qualities) -> Loss | None:
    """None too where a limit is broken by what is predicted: a quality, or an objective that no screening measurement
    has."""
    if _broken(posterior, trial, qualities):
        return None
    return _loss(posterior, trial, qualities)


def _loss(posterior: Posterior, trial: RunningTrial, qualities: Qualities) -> Loss | None:
    return loss(posterior.goals.objectives, posterior.expected_values(trial, qualities))


def _added(point: Loss | None, front: ExpectedFront, reference: Loss) -> float:
    if point is None:
        return 0.0
    return max(0.0, hypervolume([*front.losses, point], reference) - front.hypervolume)
