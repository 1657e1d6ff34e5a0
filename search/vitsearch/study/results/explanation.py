"""What each knob did to each objective of a study on its device, which knobs matter, what predictions were worth."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from vitsearch.core.figures import Z_95, Metrics
from vitsearch.core.metrics import split
from vitsearch.core.policy import POLICY
from vitsearch.core.priors import prior_of
from vitsearch.core.record import Record
from vitsearch.storage.ledger import Ledger
from vitsearch.study.current_figures import CurrentFigures
from vitsearch.study.devices import shown_target
from vitsearch.study.dropped_backbones import DroppedBackbone, dropped_backbones
from vitsearch.study.front import Front, read_models
from vitsearch.study.results.backbone_standing import BackboneStanding, standings
from vitsearch.study.results.effects import BackboneEffects, Effect, student
from vitsearch.study.results.objectives import ObjectiveEffects, objective_effects
from vitsearch.study.study import Study

FEWEST_RANKED, LEAST_RANK_CORRELATION = 5, 0.3


@dataclass(frozen=True)
class EvaluatedPrediction:
    """A metric of the task that was predicted without training, with one standard `deviation`, and what was `measured`,
    with its own 95 % interval from `low` to `high`, that of a finite number of images."""

    metric: str
    trial: int
    predicted: float
    deviation: float
    measured: float
    low: float
    high: float
    was_trained: bool

    @property
    def error(self) -> float:
        return self.measured - self.predicted

    @property
    def interval(self) -> tuple[float, float]:
        """Where a measured value lies with 95 % probability: the error of the prediction, and that of a value on
        these images. No model is better than perfect."""
        half, metric = math.hypot(Z_95 * self.deviation, (self.high - self.low) / 2), split(self.metric)[0]
        return metric.nearest_possible(self.predicted - half), metric.nearest_possible(self.predicted + half)

    @property
    def holds(self) -> bool:
        """Whether what was measured lies within `interval`."""
        low, high = self.interval
        return low <= self.measured <= high


@dataclass(frozen=True)
class PredictionCalibration:
    """What the predictions of a study were worth, at least one of them."""

    predictions: tuple[EvaluatedPrediction, ...]

    @property
    def bias(self) -> float:
        """The mean error."""
        return sum(prediction.error for prediction in self.predictions) / len(self.predictions)

    @property
    def rms(self) -> float:
        return math.sqrt(sum(prediction.error**2 for prediction in self.predictions) / len(self.predictions))

    @property
    def bias_interval(self) -> tuple[float, float] | None:
        """The 95 % interval of the mean error, from the scatter of the errors; None for a single one."""
        n = len(self.predictions)
        if n < 2:
            return None
        scatter = math.sqrt(sum((prediction.error - self.bias) ** 2 for prediction in self.predictions) / (n - 1))
        half = student(n - 1) * scatter / math.sqrt(n)
        return self.bias - half, self.bias + half

    def common(self) -> str | None:
        """What the errors have in common, as a sentence: all on one side, or a mean that scatter does not explain."""
        errors, span = [prediction.error for prediction in self.predictions], self.bias_interval
        if span is None:
            return None
        low, high = span
        is_common = low > 0 or high < 0
        side = "higher" if self.bias > 0 else "lower"
        mean = f"{self.bias:+.4f} ({low:+.4f} to {high:+.4f})"
        if all(error > 0 for error in errors) or all(error < 0 for error in errors):
            least, most = sorted(map(abs, (min(errors), max(errors))))
            which = "Both" if len(errors) == 2 else f"All {len(errors)}"
            text = f"{which} came out {side} than predicted, by {least:.4f} to {most:.4f}"
            return f"{text}: an error in common, {mean}" if is_common else text
        return f"They came out {side} than predicted: an error in common, {mean}" if is_common else None

    def order(self) -> str | None:
        """Whether the predictions had the order of the results, as a sentence; None where few plans were trained."""
        from scipy.stats import spearmanr  # slow to import

        trained = [each for each in self.predictions if each.was_trained]
        predicted, measured = [each.predicted for each in trained], [each.measured for each in trained]
        if len(trained) < FEWEST_RANKED or min(len(set(predicted)), len(set(measured))) < 2:
            return None
        rank_correlation = float(spearmanr(predicted, measured).statistic)
        text = f"Rank correlation of predictions and results: {rank_correlation:.2f} ({len(trained)} trained plans)"
        if rank_correlation >= LEAST_RANK_CORRELATION:
            return text
        return (
            f"{text}: what plans are before training says little of what they become here, and each result counts more"
        )

    def lines(self) -> Iterator[str]:
        """How good the predictions were; the intervals are those that the table shows."""
        n = len(self.predictions)
        name = self.predictions[0].metric
        count = f"{n} predicted value{' of' if n == 1 else 's of'} {name} {'was' if n == 1 else 'were'} measured later"
        holding = sum(prediction.holds for prediction in self.predictions)
        lie = "lies within its" if holding == 1 else "lie within their"
        yield (
            f"{count}: error {self.rms:.4f} (root mean square), {self.bias:+.4f} on average; {holding} of {n} "
            f"{lie} 95 % interval, which has the errors of the prediction and of these validation images"
        )
        if (shared := self.common()) is not None:
            yield shared
        if (order := self.order()) is not None:
            yield order
        if not prior_of(name).is_measured:
            yield (
                f"Before the first training nothing is measured of how {name} falls with a cut, unless search.prior "
                f"names earlier studies: without them its predictions begin with errors "
                f"{prior_of(name).noise / prior_of('accuracy').noise:.0f} times those of accuracy"
            )


@dataclass(frozen=True)
class Explanation:
    study: str
    emulated: bool
    objectives: tuple[ObjectiveEffects, ...]
    predictions: tuple[EvaluatedPrediction, ...]
    shown_devices: tuple[str, ...] = ()
    dropped: tuple[DroppedBackbone, ...] = ()
    backbones: tuple[BackboneStanding, ...] = ()
    ending: tuple[str, ...] = ()
    """Why its last search ended, a sentence each."""

    def lines(self) -> Iterator[str]:
        """What a person should know, one sentence for each: what gains nothing, and what makes it worse."""
        for objective in self.objectives:
            if objective.is_quality:
                continue
            for backbone in objective.backbones:
                for effect in backbone.effects:
                    if (text := _line(objective, backbone, effect)) is not None:
                        yield text

    @property
    def calibration(self) -> PredictionCalibration | None:
        """What the predictions were worth; None where nothing can be compared."""
        return PredictionCalibration(self.predictions) if self.predictions else None


def _line(objective: ObjectiveEffects, backbone: BackboneEffects, effect: Effect) -> str | None:
    verdict = objective.verdict(effect)
    knob = effect.knob
    is_longer_run = knob == "batch" and split(objective.name)[0].is_of_a_run  # nothing to be told of
    if verdict not in ("nothing", "worse") or knob == "backend" or is_longer_run:
        return None
    span = f"{100 * objective.change(effect.estimate):+.0f} % ({100 * objective.change(effect.low):+.0f} to "
    span += f"{100 * objective.change(effect.high):+.0f} %)"
    what = effect.to if knob == "quantization" else f"{knob} {effect.to}"
    where = f"{backbone.backbone} in {effect.at}" if effect.at else backbone.backbone
    says = "makes it worse" if verdict == "worse" else f"gains at most {_most_gained(objective, effect)} %"
    return f"{what} {says} for {where} here: {objective.name} {span} against {effect.start}"


def _most_gained(objective: ObjectiveEffects, effect: Effect) -> str:
    """The gain at the better end of the interval, in percents rounded as that is."""
    return f"{max(0.0, 100 * objective.gain(effect.low), 100 * objective.gain(effect.high)):.0f}"


def read_explanation(study: Study, ledger: Ledger) -> Explanation:
    """The effects of the knobs in all trials of a study, and its predictions."""
    space, records = study.space(), study.records()
    current = CurrentFigures(ledger, study.fleets)
    figures = {number: current.now(record)[0] for number, record in records.items()}
    objectives = objective_effects(space.objectives, records, figures)
    devices = tuple(shown_target(name, study.devices) for name in space.device_names)
    predictions = tuple(predictions_of(study.space().qualities[0], records, figures))
    front, dropped = read_models(study, ledger), dropped_backbones(study)
    backbones, ending = standings(front), tuple(_ending(study, front))
    return Explanation(study.name, study.is_emulated, objectives, predictions, devices, dropped, backbones, ending)


def _ending(study: Study, front: Front) -> Iterator[str]:
    """Why the last search of a study ended, and what its shares of the hypervolume are shares of."""
    reason, corner = study.attributes.get("search_end"), study.attributes.get("reference_point")
    if reason is None or corner is None:
        return
    yield f"The last search ended: {reason}"
    least = POLICY.searching(study.space().search.least_gain).training.least_gain
    if volume := front.hypervolume(corner):
        at = ", ".join(f"{name} {value:.4g}" for name, value in corner.items())
        yield f"The front has a hypervolume of {volume:.4g} up to {at}; {least:.2%} of it are {least * volume:.2g}"


def predictions_of(
    name: str, records: Mapping[int, Record], figures: Mapping[int, Metrics]
) -> Iterator[EvaluatedPrediction]:
    """The predictions of a metric of the task for confirmed models, beside the `figures` that each trial has now."""
    for number, record in records.items():
        measured = figures[number].value(name)
        predicted = None if record.proxy is None else record.proxy.predicted.get(name)
        if not record.is_confirmed or measured is None or predicted is None:
            continue
        low, high = figures[number].intervals.get(name, (measured, measured))
        yield EvaluatedPrediction(
            name, number, predicted.mean, predicted.deviation, measured, low, high, record.rung > 0
        )
