"""Predicts the accuracy that a plan will have after its fine-tune, from rung 0, with an error that can be held to it.

    accuracy = base + offset of its backbone + a * sqrt(KL) + b * (accuracy lost at rung 0)  +- noise

KL (nats) is the divergence of the refitted, untrained model from the unpruned base. A Gaussian prior keeps the line
sane from the first plan on: a line that was free collapsed when the first trainings were all of light cuts (KL about
0), and then called an 88 % cut perfect. The prior is near that under which 70 trainings of three families, of 1 and of
24 epochs, were likeliest as they came (`benchmarks/predictions.py`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

SLOPE, SLOPE_ERROR = -0.03, 0.02
"""Accuracy for a unit of sqrt(KL)."""
LOST, LOST_ERROR = 0.3, 0.2
"""The share of what is lost at rung 0 that remains after the fine-tune: more of it after a short one."""
OFFSET_ERROR = 0.004
"""How far a backbone's fine-tunes lie above or below the line, as one standard deviation."""
NOISE, NOISE_DEGREES = 0.0055, 8
"""The scatter of accuracies around the line, and how many plans this prior counts for."""


@dataclass(frozen=True)
class RefittedModel:
    """A refitted, untrained model: its divergence from its base (nats), and the accuracy that it has lost."""

    backbone: str
    kl: float
    lost: float = 0.0


@dataclass(frozen=True)
class FinishedTraining:
    """One finished training: its rung 0, and the accuracy that it lost against its base after all rungs."""

    start: RefittedModel
    drop: float


@dataclass(frozen=True)
class PredictedAccuracy:
    """An accuracy with one standard deviation."""

    accuracy: float
    deviation: float


@dataclass(frozen=True, eq=False)
class AccuracyModel:
    """The line and what is left open of it: mean and covariance of (a, b, offsets), and the noise."""

    offsets: Mapping[str, int]
    mean: NDArray[np.float64] = field(default_factory=lambda: np.array([SLOPE, LOST]))
    covariance: NDArray[np.float64] = field(default_factory=lambda: np.diag([SLOPE_ERROR**2, LOST_ERROR**2]))
    noise: float = NOISE

    @classmethod
    def fit(cls, observed: Sequence[FinishedTraining]) -> AccuracyModel:
        """The posterior of the line, in closed form (Bishop 2006, section 3.3); plans with nothing cut say nothing of
        the slope and are welcome as they are."""
        offsets = {name: index for index, name in enumerate(sorted({training.start.backbone for training in observed}))}
        prior_mean = np.array([SLOPE, LOST, *([0.0] * len(offsets))])
        prior = np.diag([SLOPE_ERROR**-2, LOST_ERROR**-2, *([OFFSET_ERROR**-2] * len(offsets))])
        rows = np.array([_row(offsets, training.start) for training in observed]).reshape(
            len(observed), len(prior_mean)
        )
        seen = np.array([-training.drop for training in observed])
        mean, covariance, variance = prior_mean, np.linalg.inv(prior), NOISE**2
        for _ in range(4):  # the noise and the line depend on each other; a few rounds settle it
            covariance = np.linalg.inv(prior + rows.T @ rows / variance)
            mean = covariance @ (prior @ prior_mean + rows.T @ seen / variance)
            rest = float(np.sum((seen - rows @ mean) ** 2))
            variance = (NOISE_DEGREES * NOISE**2 + rest) / (NOISE_DEGREES + len(observed))
        return cls(offsets, mean, covariance, math.sqrt(variance))

    def predict(self, base_accuracy: float, start: RefittedModel) -> PredictedAccuracy:
        """The accuracy after the fine-tune, with the error of the line and of a single training."""
        row = np.array(_row(self.offsets, start))
        offset_variance = 0.0 if start.backbone in self.offsets else OFFSET_ERROR**2
        variance = float(row @ self.covariance @ row) + offset_variance + self.noise**2
        return PredictedAccuracy(min(1.0, base_accuracy + float(row @ self.mean)), math.sqrt(variance))


NO_OBSERVATIONS = AccuracyModel({})


def _row(offsets: Mapping[str, int], start: RefittedModel) -> list[float]:
    """The inputs of the line; the offset of an unknown backbone is not among them."""
    chosen = [0.0] * len(offsets)
    if start.backbone in offsets:
        chosen[offsets[start.backbone]] = 1.0
    return [math.sqrt(max(0.0, start.kl)), -start.lost, *chosen]
