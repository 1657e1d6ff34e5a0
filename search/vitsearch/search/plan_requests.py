"""The plans that a search asks for by itself, ahead of the sampler."""

from __future__ import annotations

import random
from collections.abc import Mapping, Set
from dataclasses import dataclass, field, replace
from typing import Any

from vitsearch.core.caveats.precision_shares import in_name_only
from vitsearch.core.figures import Estimate, Figure, Metrics
from vitsearch.core.metrics import is_quality, split
from vitsearch.core.plan import Deployment, Plan
from vitsearch.core.policy import POLICY
from vitsearch.core.precisions import TRAINED
from vitsearch.core.record import Keys, Record, RunningTrial
from vitsearch.search.acquisition import expected_front, gain_of_put_aside
from vitsearch.search.posterior import Lost
from vitsearch.search.scheduler import TrialScheduler
from vitsearch.search.untried import UntriedPlans
from vitsearch.study.places import Places
from vitsearch.study.sampling import PlanSpace
from vitsearch.study.study import Study


@dataclass(frozen=True)
class LeaderboardEntry:
    """An unpruned model that is exported, measured and evaluated; with the shares of its MACs in each precision."""

    keys: Keys
    metrics: Metrics
    shares: Mapping[str, float] = field(default_factory=dict)


def stored_leaders(study: Study) -> dict[Plan, dict[str, Any]]:
    """The rows of the leaderboard that runs have finished, by their plans."""
    return {Plan.from_json(row["plan"]): row for row in study.attributes.get("leaderboard", [])}


def same_as_fp32(leaders: Mapping[Plan, LeaderboardEntry]) -> set[tuple[str, Deployment]]:
    """Backbones and deployments that are int8 in name only and compute in fp32, where fp32 in the same runtime is on
    the leaderboard: to search both would be to search the same model twice."""
    listed = {(plan.backbone, plan.deployment) for plan in leaders}
    return {
        (plan.backbone, plan.deployment)
        for plan, leader in leaders.items()
        if plan.deployment.precision.startswith("int8")
        and in_name_only(plan.deployment.precision, leader.shares)
        and max(leader.shares, key=leader.shares.__getitem__) == "fp32"
        and (plan.backbone, plan.deployment.at("fp32")) in listed
    }


def lost_beside_fp32(leaders: Mapping[tuple[str, Deployment], Metrics]) -> Lost:
    """What an unpruned model loses of each quality in each deployment beside fp32 in the same runtime, as a share of
    the metric's span, where both are known."""
    losses = {}
    for (backbone, deployment), leader in leaders.items():
        whole = leaders.get((backbone, deployment.at("fp32")))
        if whole is not None:
            losses[backbone, deployment] = _lost(leader, whole)
    return losses


def _lost(metrics: Metrics, whole: Metrics) -> dict[str, float]:
    lost = {}
    for name, value in metrics.values.items():
        metric, before = split(name)[0], whole.value(name)
        if metric.is_quality and value is not None and before is not None:
            lost[name] = metric.gain(before, value)
    return lost


class Requests:
    """Enqueues plans into a study; one per run."""

    def __init__(
        self,
        study: Study,
        plans: PlanSpace,
        scheduler: TrialScheduler,
        leaders: Mapping[Plan, LeaderboardEntry],
        seed: int,
    ) -> None:
        self._study = study
        self._plans, self._places = plans, Places(plans)
        self._scheduler = scheduler
        same = same_as_fp32(leaders)
        by_deployment = (((plan.backbone, plan.deployment), leader) for plan, leader in leaders.items())
        self._leaders = {deployed: leader for deployed, leader in by_deployment if deployed not in same}
        self._random = random.Random(seed)

    def unseen(self, untried: UntriedPlans, running: Set[Plan]) -> None:
        """The sampler repeats itself: ask for a plan that was not asked for yet."""
        taken = self._scheduler.posterior.plans | running
        drawn = (self._plans.random(self._random) for _ in range(POLICY.asking.unseen_draws))
        if untried.is_listed:
            plan = untried.draw(self._random, taken)
        else:
            plan = next((plan for plan in drawn if plan not in taken and self._plans.proposes(plan)), None)
        if plan is not None:
            self._study.enqueue_untried(self._places, plan, "the sampler repeated itself")

    def failed(self) -> None:
        """Plans that have failed, once more."""
        for plan in self._scheduler.forget_failures():
            if self._plans.contains(plan):
                self._study.enqueue(self._plans.parameters(plan), "retry of a failed plan")

    def put_aside(self, wanted: int) -> None:
        """The best `wanted` of the plans that were put aside and fit today's limits, cap or front."""
        posterior = self._scheduler.posterior
        front = expected_front(posterior)
        trained = {record.plan for record in posterior.records.values() if record.is_confirmed}
        gains = {
            record.plan: gain_of_put_aside(posterior, number, record, front)
            for number, record in posterior.records.items()
            if record.plan not in trained and self._plans.contains(record.plan)
        }
        least = self._scheduler.least_gain * front.hypervolume
        improving = sorted((plan for plan, gain in gains.items() if gain > least), key=lambda plan: -gains[plan])
        for plan in improving[:wanted]:
            self._study.enqueue(self._plans.parameters(plan), "the limits or the front have changed")

    def other_deployments(self, number: int, record: Record) -> None:
        """The weights of a trained plan in every other deployment in which they may be on the front."""
        if not record.was_trained or record.keys is None:
            return
        for plan in self._in_other_deployments(record.plan):
            expected = self._expected(record, plan.deployment)
            if expected is not None and self._scheduler.may_gain(replace(expected, number=number)):
                self._study.enqueue_untried(self._places, plan, f"another deployment of trial {number}")

    def _in_other_deployments(self, plan: Plan) -> list[Plan]:
        backbone = plan.backbone
        deployments = [deployment for name, deployment in self._leaders if name == backbone]
        qat = [deployment.at("int8_qat") for deployment in deployments if deployment.precision == "int8_ptq"]
        others = [
            replace(plan, deployments=(deployment,))
            for deployment in (*deployments, *qat)
            if deployment != plan.deployment
        ]
        return [other for other in others if self._plans.contains(other)]

    def _expected(self, record: Record, deployment: Deployment) -> RunningTrial | None:
        """A trained plan in another deployment: its figures, moved like those of its unpruned backbone."""
        backbone, own = record.plan.backbone, record.plan.deployment
        here, there = (self._leaders.get((backbone, deployed)) for deployed in (own, deployment))
        if own.precision in TRAINED:
            here = self._quantized_in_training(backbone, own)
        if deployment.precision in TRAINED:
            there = self._quantized_in_training(backbone, deployment)
            rounded = replace(record.plan, deployments=(deployment.at("int8_ptq"),))
            lost = self._scheduler.posterior.lost_in(rounded)
            least = POLICY.equality.accuracy_of_rounding
            if all(lost.get(name, 0.0) < least for name in self._scheduler.posterior.goals.qualities):
                return None
        if here is None or there is None or record.keys is None:
            return None
        qualities = {}
        for name in self._scheduler.posterior.goals.qualities:
            now, before, after = (metrics.value(name) for metrics in (record.metrics, here.metrics, there.metrics))
            if now is None or before is None or after is None:
                return None
            deviation = POLICY.equality.accuracy_of_deployments * split(name)[0].width
            qualities[name] = Estimate(now + after - before, deviation)
        plan = replace(record.plan, deployments=(deployment,))
        costs = _moved(record.metrics, here.metrics, there.metrics)
        return RunningTrial(0, plan, record.keys, costs, None, record.rung, qualities)

    def _quantized_in_training(self, backbone: str, deployment: Deployment) -> LeaderboardEntry | None:
        """The costs of int8 after training with the qualities of fp32."""
        int8, fp32 = (self._leaders.get((backbone, deployment.at(precision))) for precision in ("int8_ptq", "fp32"))
        if int8 is None or fp32 is None:
            return None
        whole = {name: Figure(value) for name, value in fp32.metrics.values.items() if is_quality(name)}
        return replace(int8, metrics=int8.metrics | Metrics(whole))


def _moved(figures: Metrics, before: Metrics, after: Metrics) -> Metrics:
    """Costs in proportion to those of another model, at the better end of what that leaves open."""

    def moved(name: str, figure: Figure) -> Figure:
        old, new = before.value(name), after.value(name)
        if figure.value is None or not old or new is None:
            return Figure(None, reason="it is not known of the unpruned model")
        most = 1.0 + POLICY.equality.cost_of_deployments
        better = 1.0 / most if split(name)[0].direction == "minimize" else most
        return Figure(figure.value * new / old * better)

    return Metrics({name: moved(name, figure) for name, figure in figures.figures.items() if not is_quality(name)})
