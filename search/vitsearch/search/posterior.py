"""What a study knows of its models, finished and unfinished, and how far that may be off.

Decisions use the posterior, never one value: a cost is the pooled one of all measurements of its graph, and an accuracy
that is only predicted counts with its error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from types import MappingProxyType

from vitsearch.core.figures import NO_METRICS, Metrics
from vitsearch.core.pareto import Loss, front, loss
from vitsearch.core.plan import Deployment, Plan
from vitsearch.core.policy import POLICY
from vitsearch.core.record import Keys, ProxyScore, Record, RunningTrial, trainings
from vitsearch.pipeline.jobs import Evaluation
from vitsearch.search.forecast.accuracy_model import (
    AccuracyModel,
    FinishedTraining,
    PredictedAccuracy,
    RefittedModel,
)
from vitsearch.search.forecast.cost_model import predict_costs
from vitsearch.search.goals import Goals

NOTHING_LOST: Mapping[tuple[str, Deployment], float] = MappingProxyType({})


def as_recorded(keys: Keys) -> Metrics:
    return NO_METRICS


class Posterior:
    """One per run; holds the records of all finished trials, and their `plans`.

    `device_metrics` is what is known of a graph now: more than when its record was written, if it was measured again
    or the reference times have moved. `changes` names the graphs of which more became known, in order (None: all).
    """

    def __init__(
        self,
        goals: Goals,
        records: Mapping[int, Record],
        base_accuracy: Mapping[str, float],
        device_metrics: Callable[[Keys], Metrics] = as_recorded,
        changes: Callable[[], Sequence[str | None]] = tuple,
        lost_accuracy: Mapping[tuple[str, Deployment], float] = NOTHING_LOST,
    ) -> None:
        """`lost_accuracy` is what a backbone loses in a deployment beside fp32."""
        self.goals = goals
        self.records: dict[int, Record] = {}
        self.plans: set[Plan] = set()
        self.base_accuracy = base_accuracy
        self.trained: dict[str, int] = {}
        self._device_metrics = device_metrics
        self._lost_accuracy = lost_accuracy
        self._model: AccuracyModel | None = None
        self._feasible: dict[int, Record] = {}
        self._changes = changes
        self._taken_in = 0
        self._losses: dict[int, Loss] = {}
        self._by_graph: dict[str, list[int]] = {}
        self._front: list[tuple[int, Loss]] | None = None
        self._best_accuracy: dict[str, float] = {}
        for number, record in sorted(records.items()):
            self.add(number, record)

    def add(self, number: int, record: Record) -> None:
        """A trial has ended. `trained` has the first trial of each training (`trainings`)."""
        self.records[number] = record
        self.plans.add(record.plan)
        self._model = None
        if not record.is_confirmed:
            return
        if all(value <= 0.0 for value in self.goals.constraints_of(record, self.metrics_now(record)).values()):
            self._feasible[number] = record
            self._by_graph.setdefault(record.keys.graph_key if record.keys else "", []).append(number)
            self._see([number])
        accuracy, backbone = record.metrics.value("accuracy"), record.plan.backbone
        if accuracy is not None:
            self._best_accuracy[backbone] = max(accuracy, self._best_accuracy.get(backbone, 0.0))
        for key in trainings({number: record}):
            self.trained[key] = min(number, self.trained.get(key, number))

    # ---- accuracy

    def cap(self, backbone: str) -> float:
        """The best accuracy known for this backbone, trained or not, and a margin; never above 1."""
        best = max(self.base_accuracy.get(backbone, 1.0), self._best_accuracy.get(backbone, 0.0))
        return min(1.0, best + self.goals.margin)

    def predict(self, trial: RunningTrial, base_accuracy: float, evaluation: Evaluation) -> RunningTrial:
        """The trial with its proxy score and the accuracy that is predicted from it."""
        start = RefittedModel(trial.plan.backbone, evaluation.kl, max(0.0, base_accuracy - evaluation.accuracy))
        predicted = self._predicted(base_accuracy - self.lost_in(trial.plan), start)
        return trial.with_proxy(
            ProxyScore(evaluation.accuracy, evaluation.kl, start.lost, predicted.accuracy, predicted.deviation)
        )

    def as_trained(self, trial: RunningTrial) -> RunningTrial:
        """A trial whose weights were trained for another deployment, with the accuracy that they have there."""
        trial = replace(trial, rung=trial.plan.recipe.rungs[-1])
        first = self.trained.get(trial.keys.weights_key)
        accuracy = None if first is None else self.records[first].metrics.value("accuracy")
        if first is None or accuracy is None:
            return trial
        moved = accuracy + self.lost_in(self.records[first].plan) - self.lost_in(trial.plan)
        return replace(trial, accuracy=moved, deviation=POLICY.equality.accuracy_of_deployments)

    def lost_in(self, plan: Plan) -> float:
        """The accuracy that the unpruned model loses in the deployment of a plan beside fp32."""
        return self._lost_accuracy.get((plan.backbone, plan.deployment), 0.0)

    def accuracy_of(self, record: Record) -> PredictedAccuracy | None:
        """The accuracy of a finished trial: found, or predicted from its rung 0 as the line lies now."""
        accuracy, base = record.metrics.value("accuracy"), self.base_accuracy.get(record.plan.backbone)
        if record.outcome == "confirmed" and accuracy is not None:
            return PredictedAccuracy(accuracy, POLICY.equality.accuracy_of_trainings)
        if record.proxy is None or base is None:
            return None
        start = RefittedModel(record.plan.backbone, record.proxy.kl, record.proxy.lost)
        return self._predicted(base - self.lost_in(record.plan), start)

    def _predicted(self, base_accuracy: float, start: RefittedModel) -> PredictedAccuracy:
        """What is so near to its base that it is not trained has the accuracy that it has; more would be luck."""
        predicted = self._accuracy_model().predict(base_accuracy, start)
        return replace(predicted, deviation=0.0) if start.kl < POLICY.rung_zero.small_kl else predicted

    def _accuracy_model(self) -> AccuracyModel:
        if self._model is None:
            self._model = AccuracyModel.fit(list(self._observed()))
        return self._model

    def _observed(self) -> Iterable[FinishedTraining]:
        for number in self.trained.values():
            record = self.records[number]
            base = self.base_accuracy.get(record.plan.backbone)
            accuracy = record.metrics.value("accuracy")
            if record.proxy and accuracy is not None and base is not None:
                start = RefittedModel(record.plan.backbone, record.proxy.kl, record.proxy.lost)
                yield FinishedTraining(start, base - self.lost_in(record.plan) - accuracy)

    # ---- costs

    def metrics_now(self, record: Record) -> Metrics:
        return record.metrics if record.keys is None else record.metrics | self._device_metrics(record.keys)

    def expected_values(self, trial: RunningTrial, accuracy: float | None) -> dict[str, float | None]:
        """The metrics of a trial if it had this accuracy; what only a confirmation measures is predicted."""
        confirmed = (record.metrics for record in self._feasible.values())
        costs = predict_costs(self.goals.objectives, trial.metrics, chain([self.goals.baseline], confirmed))
        return costs | {"accuracy": accuracy}

    # ---- the front

    def front_losses(self) -> list[tuple[int, Loss]]:
        """Losses of those confirmed, feasible trials that no other one dominates, as they are known now."""
        changes = self._changes()
        for graph in changes[self._taken_in :]:
            self._see(list(self._feasible) if graph is None else self._by_graph.get(graph, []))
        self._taken_in = len(changes)
        if self._front is None:
            points = sorted(self._losses.items())
            self._front = [points[index] for index in front([point for _, point in points])]
        return self._front

    def _see(self, numbers: Iterable[int]) -> None:
        """Compute the losses of these trials again."""
        for number in numbers:
            self._front = None
            point = loss(self.goals.objectives, self.metrics_now(self._feasible[number]).values)
            if point is None:
                self._losses.pop(number, None)
            else:
                self._losses[number] = point
