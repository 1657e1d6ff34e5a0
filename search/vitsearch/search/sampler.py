"""The sampler `auto` of a run: our own, with the plans of the space and what the posterior knows of each trial."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from vitsearch.core.figures import NO_METRICS, Z_95, Estimate, Figure
from vitsearch.core.metrics import split
from vitsearch.core.plan import Plan
from vitsearch.core.policy import POLICY
from vitsearch.core.record import Record
from vitsearch.search.plan_requests import LeaderboardEntry, same_as_fp32
from vitsearch.search.posterior import Posterior
from vitsearch.study.places import Places
from vitsearch.study.plan_pool import PlanParameters
from vitsearch.study.sampling import PlanSpace
from vitsearch.study.study import OpenTrial, Study

if TYPE_CHECKING:
    from vitsearch.study.auto_sampler import AutoSampler, Evidence, ObjectiveSpec


def auto_sampler(
    study: Study, plans: PlanSpace, posterior: Posterior, leaders: Mapping[Plan, LeaderboardEntry]
) -> AutoSampler:
    """The sampler of a study whose leaderboard is known."""
    from vitsearch.study.auto_sampler import AutoSampler  # it imports scipy

    pool = searched_plans(plans, leaders)
    return AutoSampler(
        seed=plans.space.search.seed,
        objectives=declared(posterior.goals.objectives, study.attributes["reference_point"]),
        pool=pool,
        prior=UnprunedPrior(pool, posterior, leaders),
        evidence=TrialEvidence(posterior),
        place=TrialPlace(plans, posterior),
    )


def searched_plans(plans: PlanSpace, leaders: Mapping[Plan, LeaderboardEntry]) -> PlanParameters:
    """The plans that a sampler may propose, without those that are another one's model under a second name."""
    same = same_as_fp32(leaders)
    return PlanParameters(plans, lambda plan: (plan.backbone, plan.deployment) not in same and plans.proposes(plan))


def declared(objectives: Iterable[str], corner: Mapping[str, float]) -> list[ObjectiveSpec]:
    """What the sampler knows of each objective beforehand; `corner` has the worst value of interest of each. All but
    qualities are costs: they differ by factors, whichever direction is the better one."""
    from vitsearch.study.auto_sampler import ObjectiveSpec

    equal, specs = POLICY.equality, []
    for name in objectives:
        metric = split(name)[0]
        tolerance = equal.accuracy_of_models * metric.width if metric.is_quality else equal.cost_of_models
        specs.append(ObjectiveSpec(not metric.is_quality, corner[name], tolerance))
    return specs


def gain_of_proposal(proposal: OpenTrial) -> float | None:
    """The share of the hypervolume that `auto` expected a plan to add; None for plans that it did not propose."""
    from vitsearch.study.auto_sampler import EXPECTED_GAIN

    gain: float | None = proposal.notes.get(EXPECTED_GAIN)
    return gain


class UnprunedPrior:
    """What is expected of a plan before its like was tried: the figures of its unpruned backbone in the same
    deployment, on the leaderboard. They differ between runtimes and precisions by a factor that nobody can predict.
    At best its qualities are those of its backbone and the margin, as when its screening measurement is judged."""

    def __init__(self, pool: PlanParameters, posterior: Posterior, leaders: Mapping[Plan, LeaderboardEntry]) -> None:
        self._pool = pool
        self._posterior = posterior
        self._leaders = {(plan.backbone, plan.deployment): leader.metrics for plan, leader in leaders.items()}
        self._backbones = sorted({plan.backbone for plan in leaders})

    @property
    def revision(self) -> Sequence[float]:
        """Differs when more is possible."""
        return [cap for backbone in self._backbones for cap in self._posterior.caps(backbone).values()]

    def __call__(self, parameters: Mapping[str, Any]) -> Sequence[tuple[float | None, float | None]]:
        plan = self._pool.plan(parameters)
        metrics = self._leaders.get((plan.backbone, plan.deployment), NO_METRICS)
        best = self._posterior.caps(plan.backbone)
        return [(metrics.value(name), best.get(name)) for name in self._posterior.goals.objectives]


class Numbered(Protocol):
    """A trial of a study."""

    @property
    def number(self) -> int: ...


class TrialEvidence:
    """What is known of a trial: its pooled costs, its qualities, evaluated or predicted, and which of today's limits it
    breaks."""

    def __init__(self, posterior: Posterior) -> None:
        self._posterior = posterior

    def __call__(self, trial: Numbered) -> Evidence | None:
        record = self._posterior.records.get(trial.number)
        return None if record is None else self._evidence(record)

    def _evidence(self, record: Record) -> Evidence:
        from vitsearch.study.auto_sampler import Evidence

        metrics, values, deviations, shared = self._posterior.metrics_now(record), [], [], []
        least = POLICY.equality.accuracy_of_trainings
        qualities = self._posterior.qualities_of(record)
        for name in self._posterior.goals.objectives:
            metric = split(name)[0]
            if metric.is_quality:
                estimate = qualities.get(name)
                estimate = estimate or Estimate(math.nan)
                values.append(None if math.isnan(estimate.mean) else estimate.mean)
                deviations.append(max(estimate.own_deviation, least * metric.width))
                shared.append(estimate.shared)
            else:
                shared.append(())
                values.append(metrics.value(name))
                deviations.append(_relative_deviation(metrics.figures.get(name)))
        constraints = self._posterior.goals.constraints_of(record, metrics)
        return Evidence(tuple(values), tuple(deviations), constraints, tuple(shared))


class Answered(Numbered, Protocol):
    """A trial with the parameters that it was asked with."""

    @property
    def params(self) -> dict[str, Any]: ...


class TrialPlace:
    """The parameters of an ended trial among the plans of today; None where the file has lost one of its choices."""

    def __init__(self, plans: PlanSpace, posterior: Posterior) -> None:
        self._places, self._posterior = Places(plans), posterior

    def __call__(self, trial: Answered) -> Mapping[str, Any] | None:
        record = self._posterior.records.get(trial.number)
        return trial.params if record is None else self._places.of(trial.number, record)


def _relative_deviation(figure: Figure | None) -> float:
    if figure is None or not figure.value or figure.low is None or figure.high is None:
        return POLICY.equality.cost_without_interval
    return (figure.high - figure.low) / (2 * Z_95) / abs(figure.value)
