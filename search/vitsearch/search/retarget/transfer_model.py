"""Predicts what graphs cost on a device from what they cost on another one, after a few of them were measured there.

    log(cost there) = log(cost here) + c + family + deployment + family in deployment
                      + slopes of the logarithms (cost here, MACs, ..., and cost here in each family) + noise

A Bayesian linear model: each term has a normal prior around 0, so a device that is twice as slow with all graphs is the
constant alone, and ten graphs are enough for a model with more terms than that. How large the terms and the noise are
is not known before: predictions are the mean over a grid of both, weighted by how likely the measured costs are under
each. The intervals contain this uncertainty, that of the terms, and the noise.

The sampler's Gaussian process predicts the ratios of costs as well. But with ten points, which are few for the length
scales that it looks for, its intervals hold 54 to 65 % of the other costs, and these 85 to 91 % (ten random graphs of a
quickstart, 40 draws on each of three surfaces).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
LEVEL = 10.0
"""Deviation of the constant, in natural logarithms: a board may be a thousand times slower."""
FAMILY, DEPLOYMENT, BOTH = 0.25, 0.25, 0.15
"""Deviations of the terms of a family, a deployment, and a family in a deployment, at scale 1."""
SLOPE, FAMILY_SLOPE = 0.15, 0.1
"""Deviations of the slopes of the logarithms, over all graphs and in each family, at scale 1."""
SCALES = (0.25, 0.5, 1.0, 2.0, 4.0)
NOISES = (0.01, 0.02, 0.04, 0.08, 0.16)
"""What the grid has: factors of all deviations but that of the constant, and deviations of the noise."""
DESIGN_NOISE = 0.04
"""The noise that is assumed before anything was measured."""


@dataclass(frozen=True)
class GraphFeatures:
    """What is known of a graph before it is measured there. `deployment` is how it runs here and there; `logs` are
    natural logarithms, that of its cost here first, as many for each graph."""

    family: str
    deployment: str
    logs: tuple[float, ...]


@dataclass(frozen=True)
class PredictedCosts:
    """Natural logarithms of costs (graphs,), and one standard deviation (graphs,) of each."""

    means: Floats
    deviations: Floats


class TransferModel:
    """Predicts the costs of `graphs` there once some of them were measured."""

    def __init__(self, graphs: Sequence[GraphFeatures]) -> None:
        self._here = np.array([graph.logs[0] for graph in graphs])
        terms = _terms(graphs)
        self._similarity = terms @ terms.T

    def predict(self, measured: Sequence[int], logs: Floats, deviations: Floats) -> PredictedCosts:
        """Predict all graphs, in their order. `logs` (n,) are the measured costs of the graphs at the n positions
        `measured`, with the standard `deviations` (n,) of their measurements."""
        at = np.asarray(measured, dtype=int)
        ratios = np.asarray(logs, dtype=float) - self._here[at]
        posteriors = [
            self._posterior(at, ratios, np.asarray(deviations, dtype=float), scale, noise)
            for scale, noise in itertools.product(SCALES, NOISES)
        ]
        likelihoods = np.array([posterior.log_likelihood for posterior in posteriors])
        weights = np.exp(likelihoods - likelihoods.max())
        weights /= weights.sum()
        means = np.array([posterior.means for posterior in posteriors])
        squares = np.array([posterior.variances for posterior in posteriors]) + means**2
        mean = weights @ means
        return PredictedCosts(self._here + mean, np.sqrt(np.maximum(weights @ squares - mean**2, 0.0)))

    def leave_one_out(self, measured: Sequence[int], logs: Floats, deviations: Floats) -> PredictedCosts:
        """Predict each measured graph from all others, in the order of `measured`; `logs` and `deviations` (n,) as in
        `predict`."""
        at, logs, deviations = np.asarray(measured, dtype=int), np.asarray(logs), np.asarray(deviations)
        held_out = []
        for index in range(len(at)):
            kept = np.arange(len(at)) != index
            prediction = self.predict(at[kept], logs[kept], deviations[kept])
            held_out.append((prediction.means[at[index]], prediction.deviations[at[index]]))
        means, spreads = np.array(held_out).reshape(-1, 2).T
        return PredictedCosts(means, spreads)

    def most_informative(self, measured: Sequence[int], open_: Sequence[int], weights: Floats) -> int:
        """The one of the graphs `open_` whose measurement narrows the predictions of all most, each counted with its
        weight (graphs,)."""
        noise = DESIGN_NOISE**2
        covariance = self._covariance(1.0)
        at = np.asarray(measured, dtype=int)
        if len(at):
            measured_covariance = covariance[np.ix_(at, at)] + noise * np.eye(len(at))
            covariance = covariance - covariance[:, at] @ np.linalg.solve(measured_covariance, covariance[at])
        candidates = np.asarray(open_, dtype=int)
        narrowed = weights @ covariance[:, candidates] ** 2 / (covariance[candidates, candidates] + noise)
        return int(candidates[narrowed.argmax()])

    def _covariance(self, scale: float) -> Floats:
        return LEVEL**2 + scale**2 * self._similarity

    def _posterior(
        self, at: npt.NDArray[np.int_], ratios: Floats, deviations: Floats, scale: float, noise: float
    ) -> _GridPosterior:
        covariance = self._covariance(scale)
        lower = np.linalg.cholesky(covariance[np.ix_(at, at)] + np.diag(noise**2 + deviations**2))
        whitened = np.linalg.solve(lower, np.column_stack([ratios, covariance[at]]))
        target, cross = whitened[:, 0], whitened[:, 1:]
        log_likelihood = -0.5 * float(target @ target) - float(np.log(np.diag(lower)).sum())
        variances = np.diag(covariance) - (cross**2).sum(axis=0) + noise**2
        return _GridPosterior(cross.T @ target, variances, log_likelihood)


@dataclass(frozen=True)
class _GridPosterior:
    """Of the logarithms of the ratios of all graphs, at one point of the grid."""

    means: Floats
    variances: Floats
    log_likelihood: float


def _terms(graphs: Sequence[GraphFeatures]) -> Floats:
    """A row for each graph, a column for each term but the constant, in units of the term's prior deviation."""
    logs = np.array([graph.logs for graph in graphs])
    logs = logs - logs.mean(axis=0)
    families = _members([graph.family for graph in graphs])
    columns = [
        FAMILY * families,
        DEPLOYMENT * _members([graph.deployment for graph in graphs]),
        BOTH * _members([f"{graph.family} {graph.deployment}" for graph in graphs]),
        SLOPE * logs,
        FAMILY_SLOPE * families * logs[:, :1],
    ]
    return np.hstack(columns)


def _members(names: Sequence[str]) -> Floats:
    """A column for each name, 1 where a row has it."""
    columns = sorted(set(names))
    return np.array([[float(name == column) for column in columns] for name in names])


def spearman(first: Floats, second: Floats) -> float | None:
    """The rank correlation of two series (n,); None where all values of one are equal."""
    ranks = [_ranks(values) - (len(values) - 1) / 2 for values in (first, second)]
    spread = float(np.sqrt((ranks[0] ** 2).sum() * (ranks[1] ** 2).sum()))
    return float(ranks[0] @ ranks[1]) / spread if spread else None


def _ranks(values: Floats) -> Floats:
    """From 0; equal values share the mean of their ranks."""
    below = (values[:, None] > values).sum(axis=1)
    not_above = (values[:, None] >= values).sum(axis=1)
    ranks: Floats = (below + not_above - 1) / 2
    return ranks
