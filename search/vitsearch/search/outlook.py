"""What a study knows, and what a plan is expected to add to its front.

Decisions use the posterior, never one value: a cost is the pooled one of all measurements of its graph, and an accuracy
that is only predicted counts with its error. The expected gain is the mean of the hypervolume that is added, over what
the accuracy may become.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from types import MappingProxyType

from vitsearch.core.figures import NO_METRICS, Metrics
from vitsearch.core.limits import Bound, constraints, screened
from vitsearch.core.pareto import Loss, dominates, front, hypervolume, loss
from vitsearch.core.plan import Deployment, Plan
from vitsearch.core.policy import POLICY
from vitsearch.core.record import Keys, ProxyScore, Record, RunningTrial, trainings
from vitsearch.pipeline.jobs import Evaluation
from vitsearch.search.forecast.accuracy_model import AccuracyModel, Observed, Predicted, RungZero
from vitsearch.search.forecast.cost_model import predict_costs

NO_GAIN = "no predicted gain"
FITS = "fits"
"""The constraint that a model breaks which the device cannot hold or run."""
QUADRATURE = ((0.0, 0.53333), (-1.35563, 0.22208), (1.35563, 0.22208), (-2.85697, 0.01126), (2.85697, 0.01126))
"""Standard deviations from the mean of a normal distribution, and their weights (Gauss-Hermite, five nodes)."""


@dataclass(frozen=True)
class Goals:
    """What does not change while a study runs: objectives, limits, the corner from which hypervolume is measured, the
    metrics of the unpruned baseline, and how much better than the best known accuracy a backbone's plans may become
    (`margin`)."""

    objectives: tuple[str, ...]
    bounds: tuple[Bound, ...]
    reference: Loss
    margin: float
    baseline: Metrics = NO_METRICS


@dataclass(frozen=True)
class KnownFront:
    """The losses to which something is added, and their hypervolume."""

    losses: tuple[Loss, ...]
    hypervolume: float


NOTHING_LOST: Mapping[tuple[str, Deployment], float] = MappingProxyType({})


def as_recorded(keys: Keys) -> Metrics:
    return NO_METRICS


class Outlook:
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
        if all(value <= 0.0 for value in self.constraints_of(record, self.metrics_now(record)).values()):
            self._feasible[number] = record
            self._by_graph.setdefault(record.keys.graph_key if record.keys else "", []).append(number)
            self._see([number])
        accuracy, backbone = record.metrics.value("accuracy"), record.plan.backbone
        if accuracy is not None:
            self._best_accuracy[backbone] = max(accuracy, self._best_accuracy.get(backbone, 0.0))
        for key in trainings({number: record}):
            self.trained[key] = min(number, self.trained.get(key, number))

    # ---- the screening measurement

    def judge_screen(self, trial: RunningTrial) -> Record | None:
        """The record of a trial that is infeasible or dominated; None when it may continue.

        A trial that only the width of its intervals keeps from being as good as another is tied with it, and continues.
        """
        broken = self.screened_constraints(trial.metrics)
        if names := [name for name, value in broken.items() if value > 0]:
            return trial.to_record("infeasible", f"its screening measurement breaks {', '.join(names)}", broken)
        return self._dominated(trial, broken)

    def _dominated(self, trial: RunningTrial, broken: Mapping[str, float]) -> Record | None:
        cap = self.cap(trial.plan.backbone)
        best = loss(self.goals.objectives, trial.metrics.at_end(better=True).values | {"accuracy": cap})
        if best is None:
            return None
        for number, known in self.front_losses():
            if dominates(known, best):
                best_known = f"{cap:.4f} (best known accuracy + {self.goals.margin})"
                return trial.to_record(
                    "dominated", f"dominated by trial {number} even if it reached {best_known}", broken
                )
        return None

    def screened_constraints(self, metrics: Metrics) -> dict[str, float]:
        """By how much the limits that a screening measurement can judge are broken."""
        return constraints(screened(self.goals.bounds), metrics.values)

    def cap(self, backbone: str) -> float:
        """The best accuracy known for this backbone, trained or not, and a margin; never above 1."""
        best = max(self.base_accuracy.get(backbone, 1.0), self._best_accuracy.get(backbone, 0.0))
        return min(1.0, best + self.goals.margin)

    # ---- what is expected

    def predict(self, trial: RunningTrial, base_accuracy: float, found: Evaluation) -> RunningTrial:
        """The trial with its proxy score and the accuracy that is predicted from it."""
        start = RungZero(trial.plan.backbone, found.kl, max(0.0, base_accuracy - found.accuracy))
        predicted = self._predicted(base_accuracy - self.lost_in(trial.plan), start)
        return trial.with_proxy(
            ProxyScore(found.accuracy, found.kl, start.lost, predicted.accuracy, predicted.deviation)
        )

    def as_trained(self, trial: RunningTrial) -> RunningTrial:
        """A trial whose weights were trained for another deployment, with the accuracy that they have there."""
        trial = replace(trial, rung=trial.plan.recipe.rungs[-1])
        first = self.trained.get(trial.keys.weights_key)
        found = None if first is None else self.records[first].metrics.value("accuracy")
        if first is None or found is None:
            return trial
        moved = found + self.lost_in(self.records[first].plan) - self.lost_in(trial.plan)
        return replace(trial, accuracy=moved, deviation=POLICY.equality.accuracy_of_deployments)

    def lost_in(self, plan: Plan) -> float:
        """The accuracy that the unpruned model loses in the deployment of a plan beside fp32."""
        return self._lost_accuracy.get((plan.backbone, plan.deployment), 0.0)

    def accuracy_of(self, record: Record) -> Predicted | None:
        """The accuracy of a finished trial: found, or predicted from its rung 0 as the line lies now."""
        accuracy, base = record.metrics.value("accuracy"), self.base_accuracy.get(record.plan.backbone)
        if record.outcome == "confirmed" and accuracy is not None:
            return Predicted(accuracy, POLICY.equality.accuracy_of_trainings)
        if record.proxy is None or base is None:
            return None
        start = RungZero(record.plan.backbone, record.proxy.kl, record.proxy.lost)
        return self._predicted(base - self.lost_in(record.plan), start)

    def _predicted(self, base_accuracy: float, start: RungZero) -> Predicted:
        """What is so near to its base that it is not trained has the accuracy that it has; more would be luck."""
        found = self._accuracy_model().predict(base_accuracy, start)
        return replace(found, deviation=0.0) if start.kl < POLICY.rung_zero.small_kl else found

    def _accuracy_model(self) -> AccuracyModel:
        if self._model is None:
            self._model = AccuracyModel.fit(list(self._observed()))
        return self._model

    def _observed(self) -> Iterable[Observed]:
        for number in self.trained.values():
            record = self.records[number]
            base = self.base_accuracy.get(record.plan.backbone)
            accuracy = record.metrics.value("accuracy")
            if record.proxy and accuracy is not None and base is not None:
                start = RungZero(record.plan.backbone, record.proxy.kl, record.proxy.lost)
                yield Observed(start, base - self.lost_in(record.plan) - accuracy)

    def known(self, coming: Iterable[RunningTrial] = ()) -> KnownFront:
        """The front of the confirmed, feasible trials, and of those that are being trained as they are predicted."""
        expected = (self._allowed_loss(trial, trial.accuracy) for trial in coming)
        points = [point for _, point in self.front_losses()] + [point for point in expected if point is not None]
        losses = tuple(points[index] for index in front(points))
        return KnownFront(losses, hypervolume(losses, self.goals.reference))

    def gain(self, trial: RunningTrial, known: KnownFront) -> float:
        """The hypervolume that a trial is expected to add, with its costs at the worse end of their intervals: what is
        better only within them would be chosen for its luck, and so would what is better only within what counts as an
        equal accuracy. 0 where it is likelier to miss the reference than to reach it: the next candidate
        costs little beside a training."""
        return self.gain_as_measured(replace(trial, metrics=trial.metrics.at_end(better=False)), known)

    def gain_as_measured(self, trial: RunningTrial, known: KnownFront) -> float:
        """The same with its costs as they were measured."""
        expected = self._allowed_loss(trial, trial.accuracy)
        if expected is None or any(one >= worst for one, worst in zip(expected, self.goals.reference, strict=True)):
            return 0.0
        deviation = math.sqrt(max(trial.deviation**2 - POLICY.equality.accuracy_of_models**2, 0.0))
        if deviation == 0.0 or trial.accuracy is None:
            return self._added(expected, known)
        return sum(
            weight * self._added(self._allowed_loss(trial, min(1.0, trial.accuracy + shift * deviation)), known)
            for shift, weight in QUADRATURE
        )

    def _added(self, point: Loss | None, known: KnownFront) -> float:
        if point is None:
            return 0.0
        return max(0.0, hypervolume([*known.losses, point], self.goals.reference) - known.hypervolume)

    def losses_of(self, trial: RunningTrial) -> tuple[Loss | None, Loss | None]:
        """The predicted loss of a trial, with its costs as measured and at the worse end of their intervals."""
        at_worst = replace(trial, metrics=trial.metrics.at_end(better=False))
        return self._loss(trial, trial.accuracy), self._loss(at_worst, trial.accuracy)

    def _loss(self, trial: RunningTrial, accuracy: float | None) -> Loss | None:
        return loss(self.goals.objectives, self._values(trial, accuracy))

    def _allowed_loss(self, trial: RunningTrial, accuracy: float | None) -> Loss | None:
        """None too where a limit is broken by what is predicted: the accuracy, or an objective that no screening
        measurement has."""
        if self.predicted_to_break(replace(trial, accuracy=accuracy)):
            return None
        return self._loss(trial, accuracy)

    def predicted_to_break(self, trial: RunningTrial) -> list[str]:
        """The limits that are broken by what is predicted of a trial."""
        values = self._values(trial, trial.accuracy)
        predicted = {name for name in self.goals.objectives if trial.metrics.value(name) is None} | {"accuracy"}
        broken = constraints(self.goals.bounds, {name: values[name] for name in predicted})
        return [name for name, value in broken.items() if value > 0.0]

    def _values(self, trial: RunningTrial, accuracy: float | None) -> dict[str, float | None]:
        confirmed = (record.metrics for record in self._feasible.values())
        costs = predict_costs(self.goals.objectives, trial.metrics, chain([self.goals.baseline], confirmed))
        return costs | {"accuracy": accuracy}

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
            found = loss(self.goals.objectives, self.metrics_now(self._feasible[number]).values)
            if found is None:
                self._losses.pop(number, None)
            else:
                self._losses[number] = found

    def metrics_now(self, record: Record) -> Metrics:
        return record.metrics if record.keys is None else record.metrics | self._device_metrics(record.keys)

    def constraints_of(self, record: Record, metrics: Metrics) -> dict[str, float]:
        """By how much a finished trial with these `metrics` breaks today's limits, which may be others than those of
        its time. Whether the device can hold a model is a limit too."""
        if record.outcome == "off_space":
            return {}  # no plan of the space is like it
        fits = {FITS: 1.0 if record.outcome == "does_not_fit" else -1.0}
        return constraints(self.goals.bounds, metrics.values) | fits

    def expected_gain(self, number: int, record: Record) -> float:
        """What a trial that was put aside would add under today's limits, cap and front; 0 when still nothing."""
        if record.outcome not in ("infeasible", "dominated", "not_promoted") or record.keys is None:
            return 0.0
        trial = RunningTrial(number, record.plan, record.keys, record.metrics)
        if record.proxy is None:
            trial = replace(trial, accuracy=self.cap(record.plan.backbone))
        else:
            trial = trial.with_proxy(record.proxy)
        return 0.0 if self.judge_screen(trial) else self.gain(trial, self.known())

    def confirmed(self, trial: RunningTrial, keys: Keys, metrics: Metrics) -> Record:
        return Record(
            "confirmed",
            trial.plan,
            "",
            keys,
            metrics,
            constraints(self.goals.bounds, metrics.values),
            trial.proxy,
            trial.rung,
        )
