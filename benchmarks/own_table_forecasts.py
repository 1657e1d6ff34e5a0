"""Forecasts of accuracy for our own table, by what was trained, each with its leave-one-out error."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from own_table_rows import Built

from vitsearch.core.priors import prior_of
from vitsearch.search.forecast.quality_model import FinishedTraining, QualityModel
from vitsearch.study.auto_sampler.encoding import Encoding, Knob, Points
from vitsearch.study.auto_sampler.gaussian_process import ERRORS, GaussianProcess


@dataclass(frozen=True)
class Forecast:
    """Accuracy after a rung, from rung 0, with its leave-one-out error."""

    name: str
    error: float
    model: Any

    @classmethod
    def of(cls, name: str, trained: Sequence[Built], epochs: int) -> Forecast:
        pairs = [(shape, rung.validation) for shape in trained for rung in shape.rungs if rung.epochs == epochs]
        misses = []
        for left_out, (shape, accuracy) in enumerate(pairs):
            model = FORECASTS[name]([pair for i, pair in enumerate(pairs) if i != left_out])
            misses.append(model.predict_one(shape) - accuracy)
        return cls(name, float(np.sqrt(np.mean(np.square(misses)))), FORECASTS[name](pairs))

    def predict(self, shape: Built) -> float:
        return float(self.model.predict_one(shape))


class Line:
    """The line of the product (`vitsearch.search.forecast.quality_model`)."""

    def __init__(self, pairs: Iterable[tuple[Built, float]]) -> None:
        observed = [FinishedTraining(shape.start, shape.base - accuracy) for shape, accuracy in pairs]
        self._model = QualityModel.fit(observed, prior_of("accuracy"))

    def predict_one(self, shape: Built) -> float:
        return min(1.0, shape.base + self._model.predict(shape.start).mean)


class Process:
    """A Gaussian process over backbone, resolution, divergence, loss at rung 0 and size, of what the line leaves."""

    def __init__(self, pairs: Sequence[tuple[Built, float]]) -> None:
        self._line = Line(pairs)
        rest = np.array([accuracy - self._line.predict_one(shape) for shape, accuracy in pairs])
        points = encoded([shape for shape, _ in pairs])
        self._process = GaussianProcess.fit(points, rest, np.zeros(len(rest)), ERRORS)

    def predict_one(self, shape: Built) -> float:
        return self._line.predict_one(shape) + float(self._process.predict(encoded([shape]))[0][0])


def encoded(shapes: Sequence[Built]) -> Points:
    knobs = (
        Knob("backbone", ("efficientvit_fmnist", "mobilevit_fmnist", "vit_fmnist_p4")),
        Knob("resolution", low=20, high=28),
        Knob("divergence", low=0, high=1),
        Knob("lost", low=0, high=0.2),
        Knob("size", low=0, high=5),
    )
    rows = [
        {
            "backbone": shape.backbone,
            "resolution": shape.resolution,
            "divergence": math.sqrt(shape.kl),
            "lost": shape.start.lost,
            "size": math.log(shape.macs_m),
        }
        for shape in shapes
    ]
    encoding = Encoding(knobs)
    return encoding.points(encoding.positions(rows))


FORECASTS: Mapping[str, Any] = {"line": Line, "process": Process}
