"""What a plan is expected to add to the front: the mean of the hypervolume that is added, over what its qualities may
become and its costs may be. The qualities of one plan are taken to be better or worse than predicted together."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import TypeAlias

from vitsearch.core import pareto
from vitsearch.core.figures import Z_95, Estimate, Figure, Metrics, means
from vitsearch.core.limits import constraints
from vitsearch.core.metrics import is_quality, split
from vitsearch.core.pareto import Loss, hypervolume, loss
from vitsearch.core.policy import POLICY
from vitsearch.core.record import Record, RunningTrial
from vitsearch.search.posterior import Posterior
from vitsearch.search.verdicts import judge_screen

SAMPLES = 16
UPPER_END = NormalDist().inv_cdf(0.95)
"""Of a 90 % interval, in standard deviations."""
FAR_END = NormalDist().inv_cdf(0.999)
"""How far a forecast may be off that no training was held to, in standard deviations."""


def _normal_strata(count: int) -> list[float]:
    """The mean of a standard normal variable in each of `count` ranges of equal probability: what is linear has its
    exact mean over them, and what begins at a limit is seen out to two deviations."""
    normal = NormalDist()
    density = [0.0, *(normal.pdf(normal.inv_cdf(i / count)) for i in range(1, count)), 0.0]
    return [count * (below - above) for below, above in itertools.pairwise(density)]


def _hammersley(count: int) -> tuple[tuple[float, float], ...]:
    """Pairs of independent standard normal errors, each of the same weight (Hammersley 1960): in order along the first,
    with their bits reversed along the second."""
    strata, bits = _normal_strata(count), count.bit_length() - 1
    return tuple((strata[i], strata[int(f"{i:0{bits}b}"[::-1], 2)]) for i in range(count))


ERRORS = _hammersley(SAMPLES)
"""Of the qualities of a plan and of its costs, in standard deviations."""


@dataclass(frozen=True)
class ExpectedFront:
    """The losses to which something is added, and their hypervolume."""

    losses: tuple[Loss, ...]
    hypervolume: float


def expected_front(posterior: Posterior, in_training: Iterable[RunningTrial] = ()) -> ExpectedFront:
    """The front of the confirmed, feasible trials, and of those that are being trained as they are predicted."""
    expected = (_allowed_loss(posterior, trial) for trial in in_training)
    points = [point for _, point in posterior.front_losses()] + [point for point in expected if point is not None]
    losses = tuple(points[index] for index in pareto.front(points))
    return ExpectedFront(losses, hypervolume(losses, posterior.goals.reference))


def expected_gain(posterior: Posterior, trial: RunningTrial, front: ExpectedFront) -> float:
    """The hypervolume that a trial is expected to add: the mean over what its qualities and its costs may be, where
    what breaks a limit adds nothing. Differences that count as equal (`POLICY.equality`) are no reason to train."""
    uncertainty = _Uncertainty.of(posterior, trial)
    if uncertainty.is_certain:
        return gain_as_predicted(posterior, trial, front)
    if not gain_as_predicted(posterior, uncertainty.moved(trial, *ERRORS[-1]), front) and not uncertainty.costs:
        return 0.0
    return sum(gain_as_predicted(posterior, uncertainty.moved(trial, *errors), front) for errors in ERRORS) / SAMPLES


def gain_as_predicted(posterior: Posterior, trial: RunningTrial, front: ExpectedFront) -> float:
    """The hypervolume that a trial adds if it is as predicted."""
    point = _allowed_loss(posterior, trial)
    if point is None:
        return 0.0
    return max(0.0, hypervolume([*front.losses, point], posterior.goals.reference) - front.hypervolume)


def at_best(posterior: Posterior, trial: RunningTrial, end: float = UPPER_END) -> RunningTrial:
    """A trial at the better end of its forecast, so many deviations from the mean: of its qualities, and of the costs
    that only a confirmation measures."""
    best = _with_qualities(trial, {name: end * each for name, each in _deviations(trial).items()})
    costs = {}
    for name, forecast in posterior.predicted_costs(trial).items():
        side = -1.0 if split(name)[0].direction == "minimize" else 1.0
        costs[name] = Figure(forecast.value * math.exp(side * end * forecast.deviation))
    return replace(best, metrics=trial.metrics | Metrics(costs))


@dataclass(frozen=True)
class Prospect:
    """What a candidate for a training may add to the hypervolume.

    Attributes:
        trial: The candidate, with what is predicted of it by now.
        expected: In the mean over what it may become.
        possible: At the upper end of the 90 % interval of its forecast.
        untested: At that of its forecast before any training, until enough trainings of its backbone were held to their
            forecasts, and far beyond it until the first one was; 0 afterwards.
    """

    trial: RunningTrial
    expected: float
    possible: float
    untested: float

    def is_worth(self, least: float) -> bool:
        """Whether it may add more than `least`. A forecast without a gain is believed only with its interval: what
        nobody trains corrects nothing."""
        return max(self.expected, self.possible, self.untested) > least


def prospects(posterior: Posterior, trials: Iterable[RunningTrial], front: ExpectedFront) -> list[Prospect]:
    """What each trial may add to a front, by the forecasts as they are now."""
    weighed = []
    for trial in map(posterior.forecast, trials):
        untested = 0.0
        if not posterior.is_tested(trial.plan.backbone):
            end = UPPER_END if posterior.has_results(trial.plan.backbone) else FAR_END
            before = at_best(posterior, posterior.forecast_before_results(trial), end)
            untested = gain_as_predicted(posterior, before, front)
        possible = gain_as_predicted(posterior, at_best(posterior, trial), front)
        weighed.append(Prospect(trial, expected_gain(posterior, trial, front), possible, untested))
    return weighed


Price: TypeAlias = Callable[[RunningTrial], float]
"""What a training costs."""


def most_promising(weighed: Sequence[Prospect], least: float, price: Price) -> int | None:
    """Choose what is trained next.

    Args:
        weighed: The candidates.
        least: The hypervolume that is worth a training.
        price: Gains count per price.

    Returns:
        The place of the candidate that is expected to add most; None where none is expected to add enough.
    """
    return _largest([each.expected for each in weighed], weighed, least, price)


def worth_testing(weighed: Sequence[Prospect], least: float, price: Price) -> int | None:
    """Choose what is trained before a search ends: a forecast without a gain is believed only with its interval.

    Args:
        weighed: The candidates, none of which is promising.
        least: The hypervolume that is worth a training.
        price: Gains count per price.

    Returns:
        The place of the candidate that may add most at the upper end of its forecast; where none may, of the one that
        would if the results so far said nothing. None where the backbones of all are tested, or out of reach in any
        case.
    """
    possible = _largest([each.possible for each in weighed], weighed, least, price)
    return _largest([each.untested for each in weighed], weighed, least, price) if possible is None else possible


def _largest(gains: Sequence[float], weighed: Sequence[Prospect], least: float, price: Price) -> int | None:
    worth = {place: gain / price(weighed[place].trial) for place, gain in enumerate(gains) if gain > least}
    return max(worth, key=worth.__getitem__) if worth else None


@dataclass(frozen=True)
class _Uncertainty:
    """How far the qualities of a trial may lie from what is predicted, as shares of their spans, and its costs,
    relative to them, from those of the front: both were measured with that error. Beyond what counts as equal, but for
    the costs of what would be trained: it is unlike the front. `values` are the costs, measured or predicted."""

    qualities: Mapping[str, float]
    costs: Mapping[str, float]
    values: Mapping[str, float]

    @classmethod
    def of(cls, posterior: Posterior, trial: RunningTrial) -> _Uncertainty:
        equal = POLICY.equality
        equal_cost = equal.cost_of_models if trial.rung or trial.needs_no_training else 0.0
        qualities = {name: _beyond(each, equal.accuracy_of_models) for name, each in _deviations(trial).items()}
        spans = {name: span for name, span in trial.metrics.intervals.items() if min(span) > 0.0}
        costs = {
            name: _beyond(math.sqrt(2.0) * math.log(high / low) / (2 * Z_95), equal_cost)
            for name, (low, high) in spans.items()
            if not is_quality(name)
        }
        predicted = posterior.predicted_costs(trial)
        costs |= {name: _beyond(forecast.deviation, equal_cost) for name, forecast in predicted.items()}
        values = trial.metrics.known | {name: forecast.value for name, forecast in predicted.items()}
        return cls(qualities, {name: deviation for name, deviation in costs.items() if deviation}, values)

    @property
    def is_certain(self) -> bool:
        return not self.costs and not any(self.qualities.values())

    def moved(self, trial: RunningTrial, quality_error: float, cost_error: float) -> RunningTrial:
        """The trial if its qualities were better and its costs higher than expected by so many deviations."""
        moved = _with_qualities(trial, {name: quality_error * each for name, each in self.qualities.items()})
        if not self.costs:
            return moved
        costs = {name: Figure(self.values[name] * math.exp(cost_error * each)) for name, each in self.costs.items()}
        return replace(moved, metrics=trial.metrics | Metrics(costs))


def _deviations(trial: RunningTrial) -> dict[str, float]:
    """How far the qualities of a trial may lie from what is predicted, as shares of their spans."""
    return {name: estimate.deviation / split(name)[0].width for name, estimate in trial.qualities.items()}


def _with_qualities(trial: RunningTrial, shares: Mapping[str, float]) -> RunningTrial:
    """The trial if its qualities were certain, and better than predicted by these shares of their spans."""
    moved = {name: split(name)[0].moved(trial.qualities[name].mean, share) for name, share in shares.items()}
    return replace(trial, qualities={name: Estimate(value) for name, value in moved.items()})


def _beyond(deviation: float, equal: float) -> float:
    return math.sqrt(max(deviation**2 - equal**2, 0.0))


def gain_of_put_aside(posterior: Posterior, number: int, record: Record, front: ExpectedFront) -> float:
    """What a trial that was put aside would add under today's limits, cap and front; 0 when still nothing."""
    if record.outcome not in ("infeasible", "dominated", "not_promoted") or record.keys is None:
        return 0.0
    trial = RunningTrial(number, record.plan, record.keys, record.metrics)
    if record.proxy is None:
        caps = posterior.caps(record.plan.backbone)
        trial = replace(trial, qualities={name: Estimate(cap) for name, cap in caps.items()})
    else:
        trial = posterior.forecast(trial.with_proxy(record.proxy))
    return 0.0 if judge_screen(posterior, trial) else expected_gain(posterior, trial, front)


def predicted_loss(posterior: Posterior, trial: RunningTrial) -> Loss | None:
    """The loss of a trial if it is as predicted; None where an objective has no value."""
    return loss(posterior.goals.objectives, posterior.expected_values(trial, means(trial.qualities)))


def predicted_to_break(posterior: Posterior, trial: RunningTrial) -> list[str]:
    """The limits that are broken by what is predicted of a trial: a quality, or an objective that no screening
    measurement has."""
    goals, values = posterior.goals, posterior.expected_values(trial, means(trial.qualities))
    predicted = {name for name in goals.objectives if not split(name)[0].screened} | {*goals.qualities}
    broken = constraints(goals.bounds, {name: values[name] for name in predicted})
    return [name for name, value in broken.items() if value > 0.0]


def _allowed_loss(posterior: Posterior, trial: RunningTrial) -> Loss | None:
    return None if predicted_to_break(posterior, trial) else predicted_loss(posterior, trial)
