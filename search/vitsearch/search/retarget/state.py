"""What is known of the models of a study on another device at one moment, and what follows from it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from vitsearch.core.figures import Z_95, Estimate, Estimates, Figure, Metrics
from vitsearch.core.metrics import split
from vitsearch.core.policy import POLICY
from vitsearch.search.goals import Goals
from vitsearch.search.retarget.candidates import RetargetCandidate
from vitsearch.search.retarget.next_model import Floats, chances, gains, scaled, unscaled
from vitsearch.search.retarget.transfer_model import PredictedCosts, TransferModel, spearman
from vitsearch.study.retargeted import Fit, Prediction


@dataclass(frozen=True)
class RetargetState:
    """`candidates` are the baseline and then the models, `metrics` what is known of each there by now: costs of its
    graph, accuracy and size of its file. `predictors` has a model for each cost; `failed` are the positions of the
    candidates that could not be measured."""

    goals: Goals
    predictors: Mapping[str, TransferModel]
    candidates: Sequence[RetargetCandidate]
    metrics: Sequence[Metrics]
    failed: frozenset[int] = frozenset()

    def is_measured(self, index: int) -> bool:
        return all(self.metrics[index].value(name) is not None for name in self.goals.objectives)

    @property
    def open(self) -> list[int]:
        """The models that are not measured yet."""
        return [index for index in self._able if not self.is_measured(index)]

    @property
    def _able(self) -> list[int]:
        """The models that have not failed."""
        return [index for index in range(1, len(self.candidates)) if index not in self.failed]

    @cached_property
    def graphs(self) -> list[int]:
        """The first candidate of each graph that was measured: models may differ in their weights alone."""
        first: dict[str, int] = {}
        for index, (candidate, candidate_metrics) in enumerate(zip(self.candidates, self.metrics, strict=True)):
            if all(candidate_metrics.value(name) is not None for name in self.predictors):
                first.setdefault(candidate.keys.graph_key, index)
        return list(first.values())

    def next(self) -> int | None:
        """The model to measure next: at first the one that narrows the predictions most, where the front may be; then
        the one that is expected to add most to the front. None when none is likely to be on it."""
        policy = POLICY.retargeting
        if len(self.graphs) < policy.first_graphs and self.open:
            return self._predictor.most_informative(self.graphs, self.open, self.chances + policy.least_weight)
        likely = [index for index in self.open if self.chances[index] >= policy.least_chance]
        return self.best(likely) if likely else None

    def best(self, among: Sequence[int]) -> int:
        """The one of these models that is expected to add most to the front, or is likeliest to be on it where none
        adds anything."""
        measured = [self.estimates[index] for index in self._able if self.is_measured(index)]
        added = gains(self.goals, measured, [self.estimates[index] for index in among])
        order = np.lexsort((self.chances[np.array(among)], added.round(6)))
        return among[int(order[-1])]

    @cached_property
    def chances(self) -> Floats:
        """The chance (candidates,) of each candidate to be on the front; the baseline and what has failed have none."""
        of_all = np.zeros(len(self.candidates))
        of_all[self._able] = chances(self.goals, [self.estimates[index] for index in self._able])
        return of_all

    @cached_property
    def estimates(self) -> list[Estimates]:
        """What each candidate is expected to have there."""
        return [self._estimates(index) for index in range(len(self.candidates))]

    def _estimates(self, index: int) -> Estimates:
        candidate, metrics = self.candidates[index], self.metrics[index]
        qualities = {}
        for name in self.goals.qualities:
            metric, value, elsewhere = split(name)[0], metrics.value(name), candidate.here.value(name)
            if value is not None:
                qualities[name] = Estimate(value)
            elif elsewhere is not None:
                qualities[name] = Estimate(elsewhere, POLICY.equality.accuracy_of_deployments * metric.width)
        return qualities | {name: self._cost(name, index) for name in self.predictors}

    def _cost(self, name: str, index: int) -> Estimate:
        figure = self.metrics[index].figures.get(name)
        if figure is not None and figure.value is not None:
            return Estimate(scaled(name, figure.value), deviation(figure))
        predicted = self.predicted[name]
        return Estimate(float(predicted.means[index]), float(predicted.deviations[index]))

    @cached_property
    def predicted(self) -> dict[str, PredictedCosts]:
        """The costs of all candidates, by metric, from those of the graphs that were measured."""
        return {name: model.predict(self.graphs, *self._measured(name)) for name, model in self.predictors.items()}

    def _measured(self, name: str) -> tuple[Floats, Floats]:
        """The costs of the graphs that were measured, and the deviations of their measurements."""
        figures = [self.metrics[index].figures[name] for index in self.graphs]
        logs = [scaled(name, figure.value or 0.0) for figure in figures]
        return np.array(logs), np.array([deviation(figure) for figure in figures])

    @property
    def _predictor(self) -> TransferModel:
        """That of the first cost."""
        return next(iter(self.predictors.values()))

    def predictions(self) -> tuple[Prediction, ...]:
        """The models that are not measured, the likeliest on the front first."""
        predictions = [self._prediction(index) for index in self.open]
        return tuple(sorted(predictions, key=lambda prediction: -prediction.chance))

    def _prediction(self, index: int) -> Prediction:
        candidate, estimates = self.candidates[index], self.estimates[index]
        assert candidate.trial is not None  # the baseline is measured first
        values = {name: unscaled(name, estimate.mean) for name, estimate in estimates.items()}
        intervals = {name: self.interval(name, index) for name in estimates}
        return Prediction(candidate.trial, candidate.plan, values, intervals, float(self.chances[index]))

    def interval(self, name: str, index: int) -> tuple[float, float]:
        """The 95 % interval of what a metric of a model is expected to be."""
        estimate = self.estimates[index][name]
        low, high = (estimate.mean + side * Z_95 * estimate.deviation for side in (-1, 1))
        return unscaled(name, low), unscaled(name, high)

    def fits(self) -> tuple[Fit, ...]:
        """How well each measured cost is predicted from those of the other graphs."""
        return tuple(self._fit(name) for name in self.predictors) if len(self.graphs) > 2 else ()

    def _fit(self, name: str) -> Fit:
        logs, deviations = self._measured(name)
        predicted = self.predictors[name].leave_one_out(self.graphs, logs, deviations)
        errors = predicted.means - logs
        covered = np.abs(errors) <= Z_95 * np.hypot(predicted.deviations, deviations)
        return Fit(
            name,
            len(logs),
            float(np.median(np.abs(np.expm1(errors)))),
            spearman(predicted.means, logs),
            float(covered.mean()),
        )


def deviation(figure: Figure) -> float:
    """That of the logarithm of a measured value."""
    if figure.low is None or figure.high is None:
        return 0.0
    return math.log(figure.high / figure.low) / (2 * Z_95)
