"""What a study knows of its models, finished and unfinished, and how far that may be off.

Decisions use the posterior, never one value: a cost is the pooled one of all measurements of its graph, and a quality
that is only predicted counts with its error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from types import MappingProxyType

from vitsearch.core.figures import NO_METRICS, Estimate, Estimates, Metrics
from vitsearch.core.metrics import split
from vitsearch.core.pareto import Loss, front, loss
from vitsearch.core.plan import Deployment, Plan
from vitsearch.core.policy import POLICY
from vitsearch.core.priors import prior_of
from vitsearch.core.record import Keys, ProxyFigure, ProxyScore, Record, RunningTrial, trainings
from vitsearch.pipeline.jobs import Evaluation
from vitsearch.search.forecast.cost_model import predict_costs
from vitsearch.search.forecast.quality_model import FinishedTraining, QualityModel, RefittedModel
from vitsearch.search.goals import Goals

Qualities = Mapping[str, float]
"""Values of metrics of the task."""
Lost = Mapping[tuple[str, Deployment], Qualities]
"""What a backbone loses in a deployment beside fp32, by metric, as a share of the metric's span."""
NOTHING_LOST: Lost = MappingProxyType({})
NO_QUALITIES: Qualities = MappingProxyType({})


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
        bases: Mapping[str, Qualities],
        device_metrics: Callable[[Keys], Metrics] = as_recorded,
        changes: Callable[[], Sequence[str | None]] = tuple,
        lost: Lost = NOTHING_LOST,
    ) -> None:
        """`bases` are the qualities of the unpruned models, by backbone."""
        self.goals = goals
        self.records: dict[int, Record] = {}
        self.plans: set[Plan] = set()
        self.bases = bases
        self.trained: dict[str, int] = {}
        self._device_metrics = device_metrics
        self._lost = lost
        self._models: dict[str, QualityModel] = {}
        self._feasible: dict[int, Record] = {}
        self._changes = changes
        self._taken_in = 0
        self._losses: dict[int, Loss] = {}
        self._by_graph: dict[str, list[int]] = {}
        self._front: list[tuple[int, Loss]] | None = None
        self._best: dict[str, dict[str, float]] = {}
        for number, record in sorted(records.items()):
            self.add(number, record)

    def add(self, number: int, record: Record) -> None:
        """A trial has ended. `trained` has the first trial of each training (`trainings`)."""
        self.records[number] = record
        self.plans.add(record.plan)
        self._models.clear()
        if not record.is_confirmed:
            return
        if all(value <= 0.0 for value in self.goals.constraints_of(record, self.metrics_now(record)).values()):
            self._feasible[number] = record
            self._by_graph.setdefault(record.keys.graph_key if record.keys else "", []).append(number)
            self._see([number])
        best = self._best.setdefault(record.plan.backbone, {})
        for name in self.goals.qualities:
            if (value := record.metrics.value(name)) is not None:
                best[name] = _better(name, value, best.get(name, value))
        for key in trainings({number: record}):
            self.trained[key] = min(number, self.trained.get(key, number))

    # ---- qualities

    def caps(self, backbone: str) -> dict[str, float]:
        """The best qualities known for this backbone, trained or not, and a margin; never better than perfect."""
        base, best, caps = self.bases.get(backbone, NO_QUALITIES), self._best.get(backbone, {}), {}
        for name in self.goals.qualities:
            metric = split(name)[0]
            start = base.get(name, metric.at_error(0.0))
            caps[name] = metric.moved(_better(name, best.get(name, start), start), self.goals.margin)
        return caps

    def predict(self, trial: RunningTrial, base: Qualities, evaluation: Evaluation) -> RunningTrial:
        """The trial with its proxy score and the qualities that are predicted from it: those that have a value."""
        figures, is_near = {}, evaluation.divergence < self.goals.task.divergence.small
        for name in self._known(base, evaluation.qualities):
            metric, value = split(name)[0], evaluation.qualities[name]
            lost = max(0.0, metric.gain(base[name], value))
            error = evaluation.errors.get(name, 0.0) / metric.width
            start = RefittedModel(trial.plan.backbone, evaluation.divergence, lost, error)
            predicted = self._predicted(name, trial.plan, base[name], start, is_near)
            figures[name] = ProxyFigure(value, lost, predicted.mean, predicted.deviation, error)
        return trial.with_proxy(ProxyScore(evaluation.divergence, is_near, figures))

    def as_trained(self, trial: RunningTrial) -> RunningTrial:
        """A trial whose weights were trained for another deployment, with the qualities that they have there."""
        trial = replace(trial, rung=trial.plan.recipe.rungs[-1])
        first = self.trained.get(trial.keys.weights_key)
        if first is None:
            return trial
        record, trained = self.records[first], dict(trial.qualities)
        there, here = self.lost_in(record.plan), self.lost_in(trial.plan)
        for name in self.goals.qualities:
            metric, value = split(name)[0], record.metrics.value(name)
            if value is not None:
                moved = metric.shifted(value, there.get(name, 0.0) - here.get(name, 0.0))
                trained[name] = Estimate(moved, POLICY.equality.accuracy_of_deployments * metric.width)
        return replace(trial, qualities=trained)

    def after_rung(
        self, trial: RunningTrial, rung: int, evaluated: Qualities, errors: Qualities = NO_QUALITIES
    ) -> RunningTrial:
        """A trial after a rung with these qualities on the holdout. Their `errors`, from its number of images, count
        where no measured deviation has them."""
        lost, estimates = self.lost_in(trial.plan), {}
        for name in self._known(evaluated):
            metric = split(name)[0]
            deviation = POLICY.equality.accuracy_of_rungs * metric.width
            if not prior_of(name).is_measured:
                deviation = max(deviation, errors.get(name, 0.0))
            estimates[name] = Estimate(metric.shifted(evaluated[name], -lost.get(name, 0.0)), deviation)
        return trial.after_rung(rung, estimates)

    def _known(self, *qualities: Qualities) -> list[str]:
        """The predicted metrics that have a value in all of these: of images of five classes there is no
        `accuracy_top5`."""
        return [name for name in self.goals.qualities if all(name in values for values in qualities)]

    def lost_in(self, plan: Plan) -> Qualities:
        """What the unpruned model loses in the deployment of a plan beside fp32, as a share of each metric's span."""
        return self._lost.get((plan.backbone, plan.deployment), NO_QUALITIES)

    def qualities_of(self, record: Record) -> Estimates:
        """The qualities of a finished trial: evaluated, or predicted from its rung 0 as the line lies now."""
        base, estimates = self.bases.get(record.plan.backbone, NO_QUALITIES), {}
        for name in self.goals.qualities:
            metric, value = split(name)[0], record.metrics.value(name)
            figure = None if record.proxy is None else record.proxy.figures.get(name)
            if record.outcome == "confirmed" and value is not None:
                estimates[name] = Estimate(value, POLICY.equality.accuracy_of_trainings * metric.width)
            elif record.proxy is not None and figure is not None and name in base:
                start = RefittedModel(record.plan.backbone, record.proxy.divergence, figure.lost, figure.error)
                estimates[name] = self._predicted(name, record.plan, base[name], start, record.proxy.is_near)
        return estimates

    def _predicted(self, name: str, plan: Plan, base: float, start: RefittedModel, is_near: bool) -> Estimate:
        """What is so near to its base that it is not trained has the quality that it has; more would be luck."""
        metric, change = split(name)[0], self._model(name).predict(start)
        mean = metric.moved(base, change.mean - self.lost_in(plan).get(name, 0.0))
        return Estimate(mean, 0.0 if is_near else change.deviation * metric.width)

    def _model(self, name: str) -> QualityModel:
        if name not in self._models:
            self._models[name] = QualityModel.fit(list(self._observed(name)), prior_of(name))
        return self._models[name]

    def _observed(self, name: str) -> Iterable[FinishedTraining]:
        metric = split(name)[0]
        for number in self.trained.values():
            record = self.records[number]
            base = self.bases.get(record.plan.backbone, NO_QUALITIES).get(name)
            value = record.metrics.value(name)
            if record.proxy and name in record.proxy.figures and value is not None and base is not None:
                figure = record.proxy.figures[name]
                start = RefittedModel(record.plan.backbone, record.proxy.divergence, figure.lost, figure.error)
                yield FinishedTraining(start, metric.gain(base, value) - self.lost_in(record.plan).get(name, 0.0))

    # ---- costs

    def metrics_now(self, record: Record) -> Metrics:
        return record.metrics if record.keys is None else record.metrics | self._device_metrics(record.keys)

    def expected_values(self, trial: RunningTrial, qualities: Qualities) -> dict[str, float | None]:
        """The metrics of a trial if it had these qualities; what only a confirmation measures is predicted."""
        confirmed = (record.metrics for record in self._feasible.values())
        costs = predict_costs(self.goals.objectives, trial.metrics, chain([self.goals.baseline], confirmed))
        return {**costs, **dict.fromkeys(self.goals.qualities), **qualities}

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


def _better(name: str, value: float, other: float) -> float:
    return max(value, other, key=lambda each: -split(name)[0].error(each))
