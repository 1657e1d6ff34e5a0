"""Holds forecasts to their results: what finished trainings show of the error that all forecasts share.

    result - forecast = error of all forecasts + error of those of its backbone + its own

The first two have Gaussian priors around 0; the last has the deviation that the forecast states, times a factor that
results may raise. A line with a prior corrects itself slowly where all its forecasts are off by the same, and not at
all where the deviations that it states are too small; this does not depend on how a forecast was made.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vitsearch.core.figures import Estimate
from vitsearch.core.priors import Prior
from vitsearch.search.forecast.quality_model import FinishedTraining, QualityModel, RefittedModel

FitLine: TypeAlias = Callable[[Sequence[FinishedTraining], Prior, Collection[str]], QualityModel]

ROUNDS = 4
"""The factor and the errors depend on each other; a few rounds settle them."""


@dataclass(frozen=True)
class Residual:
    """The result of a training minus its forecast, and the deviation that the forecast states; as shares of the
    metric's span."""

    backbone: str
    error: float
    deviation: float


@dataclass(frozen=True, eq=False)
class Calibration:
    """The errors that forecasts share: mean and covariance of (all, one per backbone), and the `factor` of what they
    state."""

    prior: Prior
    backbones: Mapping[str, int]
    mean: NDArray[np.floating[Any]]
    covariance: NDArray[np.floating[Any]]
    factor: float

    @classmethod
    def fit(cls, residuals: Sequence[Residual], prior: Prior, backbones: Iterable[str] = ()) -> Calibration:
        """The posterior in closed form for a given factor, and the likeliest factor for given errors, in turn."""
        names = sorted({*backbones, *(residual.backbone for residual in residuals)})
        places = {name: index for index, name in enumerate(names, start=1)}
        precision = np.diag([prior.common_error**-2, *([prior.family_error**-2] * len(names))])
        rows = np.zeros((len(residuals), len(precision)))
        rows[:, 0] = 1.0
        rows[range(len(residuals)), [places[residual.backbone] for residual in residuals]] = 1.0
        errors = np.array([residual.error for residual in residuals])
        variances = np.array([residual.deviation**2 for residual in residuals])
        mean: NDArray[np.floating[Any]] = np.zeros(len(names) + 1)
        factor = 1.0
        covariance: NDArray[np.floating[Any]] = np.linalg.inv(precision)
        for _ in range(ROUNDS if residuals else 0):
            weighted = rows.T / (factor * variances)
            covariance = np.linalg.inv(precision + weighted @ rows)
            mean = covariance @ (weighted @ errors)
            rest = float(np.sum((errors - rows @ mean) ** 2 / variances))
            factor = max(1.0, (prior.noise_degrees + rest) / (prior.noise_degrees + len(residuals)))
        return cls(prior, places, mean, covariance, factor)

    def correct(self, backbone: str, forecast: Estimate) -> Estimate:
        """A forecast of a plan of this backbone, corrected by the results of others."""
        row = np.zeros(len(self.mean))
        row[0] = 1.0
        family_variance = self.prior.family_error**2
        if backbone in self.backbones:
            row[self.backbones[backbone]] = 1.0
            family_variance = 0.0
        variance = self.factor * forecast.deviation**2 + float(row @ self.covariance @ row) + family_variance
        shared = math.sqrt(self.factor) * np.array(forecast.shared), row @ self._loadings
        return Estimate(forecast.mean + float(row @ self.mean), math.sqrt(variance), tuple(np.concatenate(shared)))

    @cached_property
    def _loadings(self) -> NDArray[np.floating[Any]]:
        return np.linalg.cholesky(self.covariance)


@dataclass(frozen=True)
class CalibratedModel:
    """A line from rung 0 to the result, and the errors that its forecasts were found to share."""

    line: QualityModel
    calibration: Calibration

    @classmethod
    def fit(
        cls,
        observed: Sequence[FinishedTraining],
        prior: Prior,
        backbones: Collection[str] = (),
        fit_line: FitLine = QualityModel.fit,
    ) -> CalibratedModel:
        """The line that is likeliest by the results, and the errors that they leave."""
        line = fit_line(observed, prior, backbones)
        residuals = []
        for training in observed:
            forecast = line.predict(training.start)
            residuals.append(Residual(training.start.backbone, -training.drop - forecast.mean, forecast.deviation))
        return cls(line, Calibration.fit(residuals, prior, backbones))

    def predict(self, start: RefittedModel) -> Estimate:
        """What the metric gains against its base by the fine-tune, as a share of its span."""
        return self.calibration.correct(start.backbone, self.line.predict(start))
