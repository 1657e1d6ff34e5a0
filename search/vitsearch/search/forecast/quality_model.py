"""Predicts a metric of the task that a plan will have after its fine-tune, from rung 0, with an error that can be held
to it.

    value = base + offset of its backbone + a * sqrt(divergence) + b * (what is lost at rung 0)  +- noise

The divergence is that of the refitted, untrained model from the unpruned base, in the unit of the task
(classification: KL in nats). All else is a share of the metric's span. A Gaussian prior keeps the line
sane from the first plan on: a line that was free collapsed when the first trainings were all of light cuts (KL about
0), and then called an 88 % cut perfect.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitsearch.core.figures import Estimate
from vitsearch.core.priors import Prior


@dataclass(frozen=True)
class RefittedModel:
    """A refitted, untrained model: its divergence from its base, and what of a metric it has lost, as a share of the
    metric's span. `lost_error` is the standard deviation of that, from the number of images."""

    backbone: str
    divergence: float
    lost: float = 0.0
    lost_error: float = 0.0


@dataclass(frozen=True)
class FinishedTraining:
    """One finished training: its rung 0, and what of a metric it lost against its base after all rungs."""

    start: RefittedModel
    drop: float


@dataclass(frozen=True, eq=False)
class QualityModel:
    """The line of one metric and what is left open of it: mean and covariance of (a, b, offsets), and the noise."""

    prior: Prior
    offsets: Mapping[str, int]
    mean: NDArray[np.float64]
    covariance: NDArray[np.float64]
    noise: float

    @classmethod
    def fit(cls, observed: Sequence[FinishedTraining], prior: Prior, backbones: Iterable[str] = ()) -> QualityModel:
        """The posterior of the line, in closed form (Bishop 2006, section 3.3); plans with nothing cut say nothing of
        the slope and are welcome as they are."""
        names = sorted({*backbones, *(training.start.backbone for training in observed)})
        offsets = {name: index for index, name in enumerate(names)}
        prior_mean = np.array([prior.slope, prior.lost, *([0.0] * len(offsets))])
        precision = np.diag([prior.slope_error**-2, prior.lost_error**-2, *([prior.offset_error**-2] * len(offsets))])
        inputs = [_row(offsets, training.start, prior) for training in observed]
        rows = np.array(inputs).reshape(len(observed), len(prior_mean))
        seen = np.array([-training.drop for training in observed])
        mean, covariance, variance = prior_mean, np.linalg.inv(precision), prior.noise**2
        for _ in range(4):  # the noise and the line depend on each other; a few rounds settle it
            covariance = np.linalg.inv(precision + rows.T @ rows / variance)
            mean = covariance @ (precision @ prior_mean + rows.T @ seen / variance)
            rest = float(np.sum((seen - rows @ mean) ** 2))
            variance = (prior.noise_degrees * prior.noise**2 + rest) / (prior.noise_degrees + len(observed))
        return cls(prior, offsets, mean, covariance, math.sqrt(variance))

    def predict(self, start: RefittedModel) -> Estimate:
        """What the metric gains against its base by the fine-tune (it mostly loses), as a share of its span, with the
        error of the line and of a single training."""
        row = np.array(_row(self.offsets, start, self.prior))
        offset_variance = 0.0 if start.backbone in self.offsets else self.prior.offset_error**2
        variance = float(row @ self.covariance @ row) + offset_variance + self.noise**2
        variance += float(self.mean[1] ** 2) * _believed(start, self.prior)[1]
        return Estimate(float(row @ self.mean), math.sqrt(variance), tuple((row @ self._loadings).tolist()))

    @cached_property
    def _loadings(self) -> NDArray[np.floating[Any]]:
        """A square root of the covariance: the line is off by its product with independent standard errors."""
        return np.linalg.cholesky(self.covariance)


def _row(offsets: Mapping[str, int], start: RefittedModel, prior: Prior) -> list[float]:
    """The inputs of the line; the offset of an unknown backbone is not among them."""
    chosen = [0.0] * len(offsets)
    if start.backbone in offsets:
        chosen[offsets[start.backbone]] = 1.0
    return [math.sqrt(max(0.0, start.divergence)), -_believed(start, prior)[0], *chosen]


def _believed(start: RefittedModel, prior: Prior) -> tuple[float, float]:
    """What a model has lost, by what its images say and what is usual, and the variance of that: the recall of nine
    images says little. A noise that was measured has the error of the images already."""
    if prior.is_measured or not start.lost_error:
        return start.lost, 0.0
    trust = prior.lost_spread**2 / (prior.lost_spread**2 + start.lost_error**2)
    return trust * start.lost, trust * start.lost_error**2
