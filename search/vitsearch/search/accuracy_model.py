"""Predicts the accuracy that a plan will have after its fine-tune from rung 0.

``accuracy = base + offset + slope * sqrt(KL)``, where KL (nats) is the divergence of the refitted,
untrained model from the unpruned base. Two parameters, fitted again whenever a training ends. On
vit_fmnist_p4 the leave-one-out error was half a point, which is the noise of the accuracies themselves.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

ENOUGH_POINTS = 5
DEFAULT_SPREAD = 0.02
"""Uncertainty of a prediction before there are points to fit; at least ``MIN_SPREAD`` afterwards."""
MIN_SPREAD = 0.005
DEFAULT_SLOPE = -0.07
"""Used before there are points to fit: between the light and the heavy plans of vit_fmnist_p4."""


@dataclass(frozen=True)
class Observed:
    """One finished training: its rung-0 divergence, and the accuracy that it lost against its base."""

    kl: float
    drop: float


@dataclass(frozen=True)
class AccuracyModel:
    """``spread`` is one standard deviation of what the line leaves unexplained."""

    offset: float = 0.0
    slope: float = DEFAULT_SLOPE
    spread: float = DEFAULT_SPREAD

    @classmethod
    def fit(cls, observed: Sequence[Observed]) -> AccuracyModel:
        """Least squares on sqrt(KL). The default slope stays while there are too few points or all have the same KL;
        a rising line is flattened."""
        if len(observed) < ENOUGH_POINTS:
            return cls()
        xs = [math.sqrt(max(0.0, point.kl)) for point in observed]
        ys = [-point.drop for point in observed]
        mean_x, mean_y = sum(xs) / len(xs), sum(ys) / len(ys)
        sum_squares = sum((x - mean_x) ** 2 for x in xs)
        if sum_squares < 1e-9:
            return cls(offset=mean_y - DEFAULT_SLOPE * mean_x)
        slope = sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True)) / sum_squares
        slope = min(slope, 0.0)
        offset = mean_y - slope * mean_x
        residual = sum((y - offset - slope * x) ** 2 for x, y in zip(xs, ys, strict=True)) / (len(xs) - 2)
        return cls(offset, slope, max(MIN_SPREAD, math.sqrt(residual)))

    def accuracy(self, base_accuracy: float, kl: float) -> float:
        return base_accuracy + self.offset + self.slope * math.sqrt(max(0.0, kl))

    def upper(self, accuracy: float) -> float:
        """The optimistic estimate by which candidates are ranked: one spread better, so that trainings can correct a
        wrong line."""
        return min(1.0, accuracy + self.spread)
