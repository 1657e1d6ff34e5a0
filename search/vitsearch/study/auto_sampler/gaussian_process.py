"""Gaussian process with a length scale per knob, known noise of each point, and an unknown rest of noise.

Covariance of two plans: v (M(r) + sum_j a_j A_j), M the Matern-5/2 function, r^2 = sum_j w_j D_j; the additive part
only where asked for. Noise of a point: v n + its own variance. Hyperparameters maximise the posterior, with log-normal
priors; the gradient is exact. Targets are standardised.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_solve, solve_triangular
from scipy.linalg.lapack import dpotrf, dpotri, dpotrs
from scipy.optimize import minimize

from vitsearch.study.auto_sampler.encoding import Floats, Points

FIT_POINTS = 200
"""At most so many points decide the hyperparameters."""
FIRST_ITERATIONS, ITERATIONS = 12, 60
"""Of the fit from each start, and then from the best of them on."""
STARTS = ((0.0, 0.0, 0.0), (1.5, -2.0, -1.5), (-1.5, 1.5, 1.5))
"""What is added to the logarithms of weights, noise and additive weights: as expected, rough with little noise, smooth
with much."""
CHUNK = 250
"""Points that are predicted at a time: what is in work fits into the cache of a core."""
JITTER = 1e-8
LEAST_VARIANCE = 1e-10
"""Of a prediction, in standardised units."""


@dataclass(frozen=True)
class Settings:
    """What is believed of an objective before it is seen: the share of noise, and whether knobs add up."""

    noise: float
    additive: bool


ERRORS = Settings(noise=0.01, additive=False)
ADDITIVE_ERRORS = Settings(noise=0.01, additive=True)
COSTS = Settings(noise=1e-4, additive=True)
NOISE_WIDTH = 2.0
"""Of the prior of the logarithm of the noise: a cost with 3 % of noise is within two widths."""
LEAST_NOISE, MOST_NOISE = 1e-5, 1.0


@dataclass(frozen=True)
class Hyperparameters:
    """Weights `w` (knobs,) and additive weights `a` (knobs,), or () without; `noise` n and `amplitude` v."""

    weights: Floats
    noise: float
    amplitude: float
    additive: Floats

    @classmethod
    def from_logs(cls, logs: Floats, knobs: int) -> Hyperparameters:
        """Read what `Loss` takes: natural logarithms, (knobs + 2,) or (2 * knobs + 2,)."""
        raised = np.exp(logs)
        return cls(raised[:knobs], float(raised[knobs]), float(raised[knobs + 1]), raised[knobs + 2 :])


class GaussianProcess:
    """A fitted process. `targets` (n,) and `deviations` (n,) of its points are in the unit of the objective."""

    def __init__(
        self,
        points: Points,
        targets: Floats,
        deviations: Floats,
        hyperparameters: Hyperparameters,
        shared: Floats | None = None,
    ) -> None:
        self.hyperparameters = hyperparameters
        self._points = points
        self._mean = float(targets.mean())
        self._scale = float(targets.std()) or 1.0
        variances = (deviations / self._scale) ** 2
        self._shared = (np.zeros((len(points), 0)) if shared is None else shared) / self._scale
        self._factor_with(variances, (targets - self._mean) / self._scale)

    @classmethod
    def fit(
        cls, points: Points, targets: Floats, deviations: Floats, settings: Settings, shared: Floats | None = None
    ) -> GaussianProcess:
        """Fit a process to `targets` (n,) at `points`, with the standard `deviations` (n,) of their own errors and how
        far they move with errors that they have in common, `shared` (n, errors)."""
        hyperparameters = fit_hyperparameters(points, targets, deviations, settings, shared)
        return cls(points, targets, deviations, hyperparameters, shared)

    def _factor_with(self, variances: Floats, standardised: Floats) -> None:
        covariance = _covariance(self._points, self._points, self.hyperparameters)
        noise = self.hyperparameters.amplitude * self.hyperparameters.noise + variances + JITTER
        self._standardised, self._variances = standardised, variances
        self._lower = np.linalg.cholesky(covariance + self._shared @ self._shared.T + np.diag(noise))
        self._weights = cho_solve((self._lower, True), standardised)

    def predict(self, points: Points) -> tuple[Floats, Floats]:
        """Mean (n,) and standard deviation (n,) of the noise-free objective at each point."""
        parts = [self._predict(points.take(slice(at, at + CHUNK))) for at in range(0, len(points), CHUNK)]
        return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])

    def _predict(self, points: Points) -> tuple[Floats, Floats]:
        cross = _covariance(self._points, points, self.hyperparameters)
        explained = solve_triangular(self._lower, cross, lower=True, check_finite=False)
        variance = self._prior_variance(points) - np.einsum("ij,ij->j", explained, explained)
        deviation = np.sqrt(np.maximum(variance, LEAST_VARIANCE))
        return cross.T @ self._weights * self._scale + self._mean, deviation * self._scale

    def _prior_variance(self, points: Points) -> Floats:
        additive = self.hyperparameters.additive
        if not len(additive):
            return np.full(len(points), self.hyperparameters.amplitude)
        return self.hyperparameters.amplitude * (1 + points.similarity**2 @ additive[points.similarity_owners])

    def believing(self, points: Points) -> GaussianProcess:
        """The process as if each of these points had given its mean."""
        if not len(points):
            return self
        means, _ = self.predict(points)
        believer = GaussianProcess.__new__(GaussianProcess)
        believer.hyperparameters, believer._mean, believer._scale = self.hyperparameters, self._mean, self._scale
        believer._points = self._points.and_then(points)
        believer._shared = np.vstack([self._shared, np.zeros((len(points), self._shared.shape[1]))])
        standardised = np.concatenate([self._standardised, (means - self._mean) / self._scale])
        believer._factor_with(np.concatenate([self._variances, np.zeros(len(points))]), standardised)
        return believer


@dataclass(frozen=True)
class Fit:
    """The most probable hyperparameters, and the logarithm of their posterior density with that of the data, which
    compares fits of the same data on several scales."""

    hyperparameters: Hyperparameters
    evidence: float


def fit_hyperparameters(
    points: Points, targets: Floats, deviations: Floats, settings: Settings, shared: Floats | None = None
) -> Hyperparameters:
    """The most probable hyperparameters of `targets` (n,) with errors of `deviations` (n,) of their own and `shared`
    ones (n, errors)."""
    return best_fit(points, targets, deviations, settings, shared).hyperparameters


def best_fit(
    points: Points, targets: Floats, deviations: Floats, settings: Settings, shared: Floats | None = None
) -> Fit:
    """The fit of `targets` (n,), with `deviations` (n,) and `shared` (n, errors) as for `fit_hyperparameters`: of
    several starts, the one that is ahead after a few iterations."""
    scale = float(targets.std()) or 1.0
    common = (np.zeros((len(points), 0)) if shared is None else shared) / scale
    known = np.diag((deviations / scale) ** 2) + common @ common.T
    loss = Loss(points, (targets - targets.mean()) / scale, known, settings)
    tried = [_minimum(loss, start, FIRST_ITERATIONS) for start in loss.starts]
    at = min(tried, key=lambda each: each[1])[0]
    at, value = _minimum(loss, at, ITERATIONS)
    return Fit(Hyperparameters.from_logs(at, points.knobs), -value - len(targets) * math.log(scale))


def _minimum(loss: Loss, start: Floats, iterations: int) -> tuple[Floats, float]:
    result = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=loss.bounds, options={"maxiter": iterations})
    return result.x, float(result.fun)


class Loss:
    """Negative log posterior of the logarithms (weights, noise, amplitude, additive weights), and its gradient."""

    def __init__(self, points: Points, standardised: Floats, known: Floats, settings: Settings) -> None:
        """`known` (n, n) is the covariance of the errors of the targets."""
        self._knobs = points.knobs
        self._targets = standardised
        self._known = known
        self._distances = _distances(points).reshape(self._knobs, -1)
        self._similarity = points.similarity if settings.additive else np.empty((len(points), 0))
        self._owners = points.similarity_owners if settings.additive else np.empty(0, dtype=np.int64)
        additive = self._knobs if settings.additive else 0
        weight, share = math.log(3 / self._knobs), math.log(1 / self._knobs)
        self.start = np.array([weight] * self._knobs + [math.log(settings.noise), 0.0] + [share] * additive)
        self._widths = np.array([1.2] * self._knobs + [NOISE_WIDTH, 1.0] + [1.5] * additive)
        noise_bounds = (math.log(LEAST_NOISE), math.log(MOST_NOISE))
        self.bounds = [(weight - 6, weight + 4)] * self._knobs + [noise_bounds, (-6.0, 6.0)]
        self.bounds += [(share - 6, share + 6)] * additive

    @property
    def starts(self) -> list[Floats]:
        """Logarithms from which to look for a minimum, each (hyperparameters,)."""
        additive = len(self.start) - self._knobs - 2
        lowest, highest = np.array(self.bounds).T
        moves = [[w] * self._knobs + [n, 0.0] + [a] * additive for w, n, a in STARTS]
        return [np.clip(self.start + move, lowest, highest) for move in moves]

    def __call__(self, logs: Floats) -> tuple[float, Floats]:
        """The loss at `logs` (hyperparameters,), and its gradient of that shape."""
        hyperparameters = Hyperparameters.from_logs(logs, self._knobs)
        count = len(self._targets)
        root = np.sqrt(5 * (hyperparameters.weights @ self._distances)).reshape(count, count)
        decay = np.exp(-root)
        shape = (1 + root + root * root / 3) * decay
        if len(self._owners):
            shape += (self._similarity * hyperparameters.additive[self._owners]) @ self._similarity.T
        shape.flat[:: count + 1] += hyperparameters.noise
        covariance = hyperparameters.amplitude * shape + self._known
        covariance.flat[:: count + 1] += JITTER
        determinant, solved, inverse = _solve(covariance, self._targets)
        away = (logs - self.start) / self._widths
        value = 0.5 * self._targets @ solved + 0.5 * determinant + 0.5 * away @ away
        slope = 0.5 * hyperparameters.amplitude * (inverse - np.outer(solved, solved))
        by_weight = self._distances @ (slope * (-5 / 6 * (1 + root) * decay)).ravel()
        by_column = ((slope @ self._similarity) * self._similarity).sum(axis=0)
        by_share = np.bincount(self._owners, by_column, minlength=len(hyperparameters.additive))
        noise, amplitude = hyperparameters.noise * np.trace(slope), np.sum(slope * shape)
        gradient = np.concatenate(
            [hyperparameters.weights * by_weight, [noise, amplitude], hyperparameters.additive * by_share]
        )
        return float(value), gradient + away / self._widths


def _solve(matrix: Floats, right: Floats) -> tuple[float, Floats, Floats]:
    """Logarithm of the determinant, solution, and inverse. LAPACK itself: the wrappers take as long as the work."""
    lower, failed = dpotrf(matrix, lower=1, clean=1)
    if failed:
        raise np.linalg.LinAlgError("the covariance is not positive definite")
    solved, _ = dpotrs(lower, right, lower=1)
    half, _ = dpotri(lower, lower=1)
    inverse = half + np.tril(half, -1).T
    return 2 * float(np.log(np.diag(lower)).sum()), solved, inverse


def _covariance(left: Points, right: Points, hyperparameters: Hyperparameters) -> Floats:
    """Of each left point with each right one, without noise."""
    scale = np.sqrt(5 * hyperparameters.weights[left.distance_owners])
    a, b = left.distance * scale, right.distance * scale
    squared = a @ (-2 * b.T)
    squared += (a * a).sum(1)[:, None]
    squared += (b * b).sum(1)
    np.maximum(squared, 0.0, out=squared)
    root = np.sqrt(squared)
    squared /= 3
    squared += root
    squared += 1
    np.negative(root, out=root)
    squared *= np.exp(root, out=root)
    if len(hyperparameters.additive):
        squared += (left.similarity * hyperparameters.additive[left.similarity_owners]) @ right.similarity.T
    squared *= hyperparameters.amplitude
    return squared


def _distances(points: Points) -> Floats:
    """Squared distance of each pair of points, by knob: (knobs, n, n)."""
    result = np.zeros((points.knobs, len(points), len(points)))
    for column, owner in zip(points.distance.T, points.distance_owners, strict=True):
        result[owner] += (column[:, None] - column) ** 2
    return result
