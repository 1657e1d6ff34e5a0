"""What each knob did to each objective of a study on its device, which knobs matter, what predictions were worth."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from vitsearch.core.figures import Z_95, Metrics
from vitsearch.core.record import Record
from vitsearch.storage.ledger import Ledger
from vitsearch.study.current import CurrentFigures
from vitsearch.study.devices import shown_target
from vitsearch.study.results.effects import BackboneEffects, Effect
from vitsearch.study.results.objectives import ObjectiveEffects, objective_effects
from vitsearch.study.study import Study


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
        return abs(self.error) <= math.hypot(Z_95 * self.deviation, half)

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"error": self.error, "holds": self.holds}


@dataclass(frozen=True)
class Explanation:
    study: str
    emulated: bool
    objectives: tuple[ObjectiveEffects, ...]
    predictions: tuple[Prediction, ...]
    shown_devices: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "study": self.study,
            "emulated": self.emulated,
            "devices": list(self.shown_devices),
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
    """The effects of the knobs in all trials of a study, and its predictions."""
    space, records = study.space(), study.records()
    current = CurrentFigures(ledger, space.measure.threads, study.fleets)
    figures = {number: current.now(record)[0] for number, record in records.items()}
    objectives = objective_effects(space.objectives, records, figures)
    devices = tuple(shown_target(name, study.devices) for name in space.device_names)
    return Explanation(study.name, study.is_emulated, objectives, tuple(_predictions(records, figures)), devices)


def _predictions(records: Mapping[int, Record], figures: Mapping[int, Metrics]) -> Iterator[Prediction]:
    for number, record in records.items():
        measured, proxy = figures[number].value("accuracy"), record.proxy
        if not record.is_confirmed or measured is None or proxy is None:
            continue
        low, high = record.metrics.intervals.get("accuracy", (measured, measured))
        yield Prediction(number, proxy.predicted_accuracy, proxy.deviation, measured, low, high, record.rung > 0)
