"""What each knob did to each objective of a study on its device, which knobs matter, what predictions were worth."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from vitsearch.core.metrics import split
from vitsearch.core.record import Record
from vitsearch.storage.ledger import Ledger
from vitsearch.storage.measurements import DeviceResults
from vitsearch.study.front import read_models
from vitsearch.study.knob_values import knob_values
from vitsearch.study.results.effects import (
    BackboneEffects,
    Effect,
    Observation,
    explained,
    importances,
    main_effects,
    unique,
)
from vitsearch.study.study import Study

SMALL_CHANGE, SMALL_LOSS = 0.05, 0.005
"""A gain that is certainly smaller counts as none: as a share of a cost, and as accuracy."""
LEAST_EXPLAINED = 0.5
"""Below this share of the variance, single effects say little."""


@dataclass(frozen=True)
class ObjectiveEffects:
    """Of one objective. The effects on costs are differences of logarithms: :meth:`change` makes shares of them.

    ``measured`` and ``predicted`` count the models; only accuracies are predicted.
    """

    name: str
    backbones: tuple[BackboneEffects, ...]
    importances: Mapping[str, float]
    explained: float | None
    measured: int
    predicted: int

    @property
    def is_accuracy(self) -> bool:
        return split(self.name)[0].name == "accuracy"

    def change(self, difference: float) -> float:
        """The change that a difference means: of a cost as a share, of an accuracy as it is."""
        return difference if self.is_accuracy else math.expm1(difference)

    def to_json(self) -> dict[str, Any]:
        return {
            "objective": self.name,
            "measured": self.measured,
            "predicted": self.predicted,
            "explained": self.explained,
            "importances": dict(self.importances),
            "backbones": [self._backbone_json(one) for one in self.backbones],
        }

    def _backbone_json(self, found: BackboneEffects) -> dict[str, Any]:
        effects = [
            asdict(effect)
            | {name: self.change(getattr(effect, name)) for name in ("estimate", "low", "high")}
            | {"verdict": self.verdict(effect)}
            for effect in found.effects
        ]
        return {
            "backbone": found.backbone,
            "models": found.models,
            "r_squared": found.r_squared,
            "effects": effects,
        }

    def verdict(self, effect: Effect) -> str:
        """``better``, ``worse``, ``nothing`` (a gain is certainly small) or ``open``."""
        sign = 1.0 if split(self.name)[0].direction == "maximize" else -1.0
        ends = [sign * self.change(end) for end in (effect.low, effect.high)]
        if min(ends) > 0.0:
            return "better"
        if max(ends) < 0.0:
            return "worse"
        return "nothing" if max(ends) < (SMALL_LOSS if self.is_accuracy else SMALL_CHANGE) else "open"


@dataclass(frozen=True)
class Prediction:
    """An accuracy that was predicted without training, with one standard ``deviation``, and what was measured."""

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
    def holds(self) -> bool:
        """Whether the difference is within 95 % of its error: that of the prediction and of the validation images."""
        half = (self.high - self.low) / 2
        return abs(self.error) <= math.hypot(1.96 * self.deviation, half)

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"error": self.error, "holds": self.holds}


@dataclass(frozen=True)
class Explanation:
    study: str
    emulated: bool
    objectives: tuple[ObjectiveEffects, ...]
    predictions: tuple[Prediction, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "study": self.study,
            "emulated": self.emulated,
            "objectives": [one.to_json() for one in self.objectives],
            "lines": list(self.lines()),
            "predictions": [one.to_json() for one in self.predictions],
        }

    def lines(self) -> Iterator[str]:
        """What a person should know, one sentence for each: what gains nothing, and what makes it worse."""
        for one in self.objectives:
            if one.is_accuracy:
                continue
            for found in one.backbones:
                for effect in found.effects:
                    if (text := _line(one, found, effect)) is not None:
                        yield text

    def calibration(self) -> str | None:
        """How good the predictions were, in one line; None where nothing can be compared."""
        found = self.predictions
        if not found:
            return None
        bias = sum(one.error for one in found) / len(found)
        rms = math.sqrt(sum(one.error**2 for one in found) / len(found))
        holding = sum(one.holds for one in found)
        return (
            f"{len(found)} predicted accuracies were measured later: error {rms:.4f} (root mean square), "
            f"{bias:+.4f} on average; {holding} of {len(found)} lie within their 95 % interval"
        )


def _line(one: ObjectiveEffects, found: BackboneEffects, effect: Effect) -> str | None:
    verdict = one.verdict(effect)
    if verdict not in ("nothing", "worse") or effect.knob.startswith("backend"):
        return None
    span = f"{100 * one.change(effect.estimate):+.0f} % ({100 * one.change(effect.low):+.0f} to "
    span += f"{100 * one.change(effect.high):+.0f} %)"
    place = effect.knob.partition(" in ")[2]
    what = effect.to if effect.knob.startswith("quantization") else f"{effect.knob} {effect.to}"
    where = f"{found.backbone} in {place}" if place else found.backbone
    says = "gains nothing" if verdict == "nothing" else "makes it worse"
    return f"{what} {says} for {where} here: {one.name} {span} against {effect.start}"


def read_explanation(study: Study, ledger: Ledger) -> Explanation:
    """The effects of the knobs in all trials with a measurement, unpruned models among them."""
    space, records = study.space(), study.records()
    models = read_models(study, ledger)
    known = {point.trial: point.metrics.values for point in (*models.points, *models.others)}
    costs = _Costs(ledger, space.measure.threads)
    objectives = []
    for name in space.objectives:
        is_accuracy = split(name)[0].name == "accuracy"
        found = _accuracies(records, known) if is_accuracy else costs.of(name, records)
        observed = unique((key, one) for key, one, _ in found)
        kinds = {key: is_predicted for key, _, is_predicted in reversed(found)}
        predicted = sum(kinds.values())
        shares = importances(observed)
        objectives.append(
            ObjectiveEffects(
                name,
                tuple(main_effects(observed)),
                shares,
                explained(observed) if shares else None,
                len(kinds) - predicted,
                predicted,
            )
        )
    return Explanation(study.name, study.is_emulated, tuple(objectives), tuple(_predictions(records, known)))


_Found = list[tuple[str, Observation, bool]]
"""The key of a result, its observation, and whether it is predicted."""
_Values = Mapping[int | None, Mapping[str, float | None]]


class _Costs:
    """The costs of graphs as they are known now."""

    def __init__(self, ledger: Ledger, threads: int) -> None:
        self._ledger = ledger
        self._threads = threads
        self._devices: dict[str, DeviceResults] = {}

    def of(self, name: str, records: Mapping[int, Record]) -> _Found:
        found: _Found = []
        for record in records.values():
            keys = record.keys
            if keys is None:
                continue
            if keys.device_id not in self._devices:
                self._devices[keys.device_id] = DeviceResults(self._ledger, keys.device_id, self._threads)
            pooled = self._devices[keys.device_id].pooled(keys.graph_key)
            value = record.metrics.value(name) if pooled is None else (record.metrics | pooled.metrics).value(name)
            if value is not None and value > 0.0:
                found.append((keys.graph_key, Observation(knob_values(record.plan), math.log(value)), False))
        return found


def _accuracies(records: Mapping[int, Record], known: _Values) -> _Found:
    """Measured accuracies; for plans that were not confirmed, the predicted ones."""
    found: _Found = []
    for number, record in records.items():
        if record.keys is None:
            continue
        key = f"{record.keys.weights_key} {record.keys.graph_key}"
        measured = known.get(number, {}).get("accuracy")
        predicted = None if record.proxy is None else record.proxy.predicted_accuracy
        value = predicted if measured is None else measured
        if value is not None:
            found.append((key, Observation(knob_values(record.plan), value), measured is None))
    return sorted(found, key=lambda one: one[2])  # measured ones first: they count where both are known


def _predictions(records: Mapping[int, Record], known: _Values) -> Iterator[Prediction]:
    for number, record in records.items():
        measured, proxy = known.get(number, {}).get("accuracy"), record.proxy
        if not record.is_confirmed or measured is None or proxy is None:
            continue
        low, high = record.metrics.intervals.get("accuracy", (measured, measured))
        yield Prediction(number, proxy.predicted_accuracy, proxy.deviation, measured, low, high, record.rung > 0)
