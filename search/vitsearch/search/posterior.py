"""What a study knows of its models, finished and unfinished, and how far that may be off.

Decisions use the posterior, never one value: a cost is the pooled one of all measurements of its graph, and a quality
that is only predicted counts with its error.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from types import MappingProxyType

from vitsearch.core.figures import NO_METRICS, Estimate, Estimates, Metrics
from vitsearch.core.metrics import split
from vitsearch.core.pareto import Loss, front, loss
from vitsearch.core.plan import Deployment, Plan
from vitsearch.core.policy import POLICY
from vitsearch.core.record import Keys, ProxyFigure, ProxyScore, Record, RunningTrial, trainings
from vitsearch.search.forecast.calibration import CalibratedModel
from vitsearch.search.forecast.cost_model import CostForecast, predict_costs
from vitsearch.search.forecast.quality_model import FinishedTraining, RefittedModel
from vitsearch.search.goals import Goals
from vitsearch.stages import Evaluation

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
        self._models: dict[str, CalibratedModel] = {}
        self._prior_models: dict[str, CalibratedModel] = {}
        self._tests: dict[str, set[str]] = {}
        self._confirmed: dict[int, Record] = {}
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
        if record.outcome != "off_space":  # its plan stands in for one that the file lacks
            self.plans.add(record.plan)
        if record.rung and record.keys is not None:
            self._tests.setdefault(record.plan.backbone, set()).add(record.keys.weights_key)
        self._models.clear()
        if not record.is_confirmed:
            return
        self._confirmed[number] = record
        self._by_graph.setdefault(record.keys.graph_key if record.keys else "", []).append(number)
        self._see([number])
        best = self._best.setdefault(record.plan.backbone, {})
        for name in self.goals.qualities:
            if (value := record.metrics.value(name)) is not None:
                best[name] = _better(name, value, best.get(name, value))
        for key in trainings({number: record}):
            self.trained[key] = min(number, self.trained.get(key, number))

    # ---- qualities

    def has_results(self, backbone: str) -> bool:
        """Whether any training of a backbone was held against its forecast."""
        return bool(self._tests.get(backbone))

    def is_tested(self, backbone: str) -> bool:
        """Whether enough trainings of a backbone were held against their forecasts."""
        return len(self._tests.get(backbone, ())) >= POLICY.training.tests_of_backbone

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
            figures[name] = ProxyFigure(value, lost, value, 0.0, evaluation.errors.get(name, 0.0) / metric.width)
        return self.forecast(trial.with_proxy(ProxyScore(evaluation.divergence, is_near, figures)))

    def forecast(self, trial: RunningTrial) -> RunningTrial:
        """The trial with what is predicted of it by now, while rung 0 is all that it has."""
        return self._forecast_by(self._model, trial)

    def forecast_before_results(self, trial: RunningTrial) -> RunningTrial:
        """The same as it was before any training."""
        return self._forecast_by(self._prior_model, trial)

    def _forecast_by(self, model: Callable[[str], CalibratedModel], trial: RunningTrial) -> RunningTrial:
        if trial.rung or trial.proxy is None:
            return trial
        estimates, figures = self._forecasts_by(model, trial.plan, trial.proxy), dict(trial.proxy.figures)
        for name, estimate in estimates.items():
            figures[name] = replace(
                figures[name], predicted=estimate.mean, deviation=estimate.deviation, shared=estimate.shared
            )
        return trial.with_proxy(replace(trial.proxy, figures=figures))

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
            if not self.goals.prior_of(name).is_measured:
                deviation = max(deviation, errors.get(name, 0.0))
            estimates[name] = Estimate(metric.shifted(evaluated[name], -lost.get(name, 0.0)), deviation)
        return trial.after_rung(rung, estimates)

    def _known(self, *qualities: Container[str]) -> list[str]:
        """The predicted metrics that have a value in all of these: of images of five classes there is no
        `accuracy_top5`."""
        return [name for name in self.goals.qualities if all(name in values for values in qualities)]

    def lost_in(self, plan: Plan) -> Qualities:
        """What the unpruned model loses in the deployment of a plan beside fp32, as a share of each metric's span."""
        return self._lost.get((plan.backbone, plan.deployment), NO_QUALITIES)

    def qualities_of(self, record: Record) -> Estimates:
        """The qualities of a finished trial: evaluated, or predicted from its rung 0 as the line lies now."""
        estimates = {} if record.proxy is None else self._forecasts(record.plan, record.proxy)
        if record.outcome == "confirmed":
            for name in self.goals.qualities:
                width, value = split(name)[0].width, record.metrics.value(name)
                if value is not None:
                    estimates[name] = Estimate(value, POLICY.equality.accuracy_of_trainings * width)
        return estimates

    def _forecasts(self, plan: Plan, proxy: ProxyScore) -> dict[str, Estimate]:
        return self._forecasts_by(self._model, plan, proxy)

    def _forecasts_by(
        self, model: Callable[[str], CalibratedModel], plan: Plan, proxy: ProxyScore
    ) -> dict[str, Estimate]:
        """What is so near to its base that it is not trained has the quality of that, but for what a few images
        differ by: no line of fine-tunes says anything of it."""
        base, estimates, lost = self.bases.get(plan.backbone, NO_QUALITIES), {}, self.lost_in(plan)
        for name in self._known(base, proxy.figures):
            metric, figure = split(name)[0], proxy.figures[name]
            if proxy.is_near:
                change = Estimate(0.0, POLICY.equality.accuracy_of_refitted)
            else:
                change = model(name).predict(RefittedModel(plan.backbone, proxy.divergence, figure.lost, figure.error))
            shared = tuple(float(each) * metric.width for each in change.shared)
            mean = metric.moved(base[name], change.mean - lost.get(name, 0.0))
            estimates[name] = Estimate(mean, change.deviation * metric.width, shared)
        return estimates

    def _model(self, name: str) -> CalibratedModel:
        if name not in self._models:
            self._models[name] = self._fit(name, list(self._observed(name)))
        return self._models[name]

    def _prior_model(self, name: str) -> CalibratedModel:
        if name not in self._prior_models:
            self._prior_models[name] = self._fit(name, [])
        return self._prior_models[name]

    def _fit(self, name: str, observed: Sequence[FinishedTraining]) -> CalibratedModel:
        return CalibratedModel.fit(observed, self.goals.prior_of(name), self.bases)

    def _observed(self, name: str) -> Iterable[FinishedTraining]:
        for number in self.trained.values():
            record = self.records[number]
            base = self.bases.get(record.plan.backbone, NO_QUALITIES).get(name)
            training = finished_training(record, name, base, self.lost_in(record.plan).get(name, 0.0))
            if training is not None:
                yield training

    # ---- costs

    def metrics_now(self, record: Record) -> Metrics:
        return record.metrics if record.keys is None else record.metrics | self._device_metrics(record.keys)

    def predicted_costs(self, trial: RunningTrial) -> dict[str, CostForecast]:
        """The objectives of a trial that only a confirmation measures, as they are predicted."""
        confirmed = ((record.plan.deployment, record.metrics) for record in self._confirmed.values())
        baseline = (self.goals.baseline_deployment, self.goals.baseline)
        return predict_costs(self.goals.objectives, trial, chain([baseline], confirmed))

    def expected_values(self, trial: RunningTrial, qualities: Qualities) -> dict[str, float | None]:
        """The metrics of a trial if it had these qualities; what only a confirmation measures is predicted."""
        costs = dict.fromkeys(self.goals.objectives) | trial.metrics.values
        predicted = {name: forecast.value for name, forecast in self.predicted_costs(trial).items()}
        return {**costs, **predicted, **dict.fromkeys(self.goals.qualities), **qualities}

    # ---- the front

    def front_losses(self) -> list[tuple[int, Loss]]:
        """Losses of those confirmed, feasible trials that no other one dominates, as they are known now."""
        changes = self._changes()
        for graph in changes[self._taken_in :]:
            self._see(list(self._confirmed) if graph is None else self._by_graph.get(graph, []))
        self._taken_in = len(changes)
        if self._front is None:
            points = sorted(self._losses.items())
            self._front = [points[index] for index in front([point for _, point in points])]
        return self._front

    def _see(self, numbers: Iterable[int]) -> None:
        """Compute the losses of these trials again. A measurement may bring one within the limits, or out of them."""
        for number in numbers:
            self._front = None
            record, metrics = self._confirmed[number], self.metrics_now(self._confirmed[number])
            is_feasible = all(value <= 0.0 for value in self.goals.constraints_of(record, metrics).values())
            point = loss(self.goals.objectives, metrics.values) if is_feasible else None
            if point is None:
                self._losses.pop(number, None)
            else:
                self._losses[number] = point


def finished_training(record: Record, name: str, base: float | None, lost: float) -> FinishedTraining | None:
    """What a training shows of a forecast.

    Args:
        record: Of the first trial that has its weights.
        name: A metric of the task.
        base: Its value of the unpruned model.
        lost: What that loses in the deployment of the trial beside fp32, as a share of the metric's span.

    Returns:
        None where the metric was not forecast or not measured.
    """
    value = record.metrics.value(name)
    if record.proxy is None or name not in record.proxy.figures or value is None or base is None:
        return None
    figure = record.proxy.figures[name]
    start = RefittedModel(record.plan.backbone, record.proxy.divergence, figure.lost, figure.error)
    return FinishedTraining(start, split(name)[0].gain(base, value) - lost)


def _better(name: str, value: float, other: float) -> float:
    return max(value, other, key=lambda each: -split(name)[0].error(each))
