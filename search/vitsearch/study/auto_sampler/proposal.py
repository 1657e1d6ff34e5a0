"""How much each candidate can be expected to add to what a study has reached."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from vitsearch.study.auto_sampler.candidates import Candidates
from vitsearch.study.auto_sampler.encoding import Floats, Points
from vitsearch.study.auto_sampler.gaussian_process import (
    COSTS,
    ERRORS,
    FIT_POINTS,
    GaussianProcess,
    Hyperparameters,
    Settings,
    fit_hyperparameters,
)
from vitsearch.study.auto_sampler.improvement import expected_improvement, hypervolume, pareto
from vitsearch.study.auto_sampler.observations import Objective, Observations

REFIT_EACH_BELOW, REFIT_EVERY = 30, 5
"""Points of a model: with fewer, each new one refits it; with more, every fifth."""
LARGEST, LOWEST_KEPT = 400, 300
"""Of more points, the lowest and a random rest stay in a model."""
REFERENCE_MARGIN = 0.1
COST_QUANTILE = 0.95
"""Of the predicted costs of the candidates: a reference taken from the front alone forgets its ends."""
FEW_REACHED = 3
CONSTRAINT_CLIP = 3.0
BEST_CASE = 2.0
"""Deviations from the mean of a model that count as possible."""
MEMORY = 32
"""Fits that are remembered."""


@dataclass(frozen=True)
class CandidateScores:
    """What is asked is the candidate of the highest score. `hypervolume` is what the study has reached, in units of
    the scores; None where these are not hypervolumes."""

    scores: Floats
    hypervolume: float | None = None

    def share(self, row: int) -> float | None:
        """The expected improvement by a candidate as a share of what is reached; None where it is not known."""
        return float(self.scores[row]) / self.hypervolume if self.hypervolume else None


class Proposals:
    """Fits and scores. A fit depends on the observations alone; it is remembered only to save its time."""

    def __init__(self, seed: int, tolerances: Sequence[float] | None = None) -> None:
        self._seed = seed
        self._tolerances = tolerances
        self._fits: OrderedDict[bytes, Hyperparameters] = OrderedDict()

    def scores(
        self, observed: Observations, at: Candidates, candidates: Candidates, fixed: Floats | None, number: int
    ) -> CandidateScores:
        """The expected improvement of each candidate. `at` are the observed plans, encoded; `fixed` (objectives,) is
        the scaled reference point, NaN where the rule decides."""
        means, deviations = np.empty((len(candidates), 0)), np.empty((len(candidates), 0))
        believed = observed.values.copy()
        for k, objective in enumerate(observed.objectives):
            expected, prior = _priors(at, candidates, objective, k)
            model = self._model(observed, _points(at, objective), k, expected)
            missing = observed.running & np.isnan(observed.values[:, k])
            pending = _points(at, objective).take(missing)
            if len(pending):
                believed[missing, k] = model.predict(pending)[0] + expected[missing]
            mean, deviation = model.believing(pending).predict(_points(candidates, objective))
            means, deviations = np.column_stack([means, mean + prior]), np.column_stack([deviations, deviation])
        best = _best(candidates, observed.objectives, means, deviations)
        if self._tolerances is not None:
            deviations = np.sqrt(np.maximum(deviations**2 - np.square(self._tolerances), 0.0))
        front = np.concatenate([observed.reached, believed[observed.running]])
        reference = reference_point(observed, front, means, fixed)
        rng = np.random.default_rng([self._seed, number])
        gains = expected_improvement(means, deviations, front, reference, rng)
        gains = gains * self._feasibility(observed, at.points, candidates.points)
        gains[_are_dominated(best, front)] = 0.0
        reached = hypervolume(front, reference)
        if gains.max(initial=0.0) > 0:
            return CandidateScores(gains, reached)
        # Nothing can add anything, or everything is far behind the reference point: towards that.
        behind: Floats = np.maximum((means - reference) / np.maximum(deviations, 1e-9), 0).sum(axis=1)
        return CandidateScores(-behind, reached)

    def _model(self, observed: Observations, points: Points, k: int, expected: Floats) -> GaussianProcess:
        """What objective `k` is beyond what was `expected` of each plan."""
        rows = np.flatnonzero(~np.isnan(observed.values[:, k]))
        settings = COSTS if observed.objectives[k].is_cost else ERRORS
        beyond = observed.values[rows, k] - expected[rows]
        return self._process(points.take(rows), beyond, observed.deviations[rows, k], settings)

    def _feasibility(self, observed: Observations, at: Points, candidates: Points) -> Floats:
        """The probability that a candidate meets all constraints."""
        chance = np.ones(len(candidates))
        for column in observed.constraints.T:
            rows = np.flatnonzero(~np.isnan(column))
            if not (column[rows] > 0).any():
                continue
            unit = float(np.median(np.abs(column[rows]))) or 1.0
            targets = np.clip(column[rows] / unit, -CONSTRAINT_CLIP, CONSTRAINT_CLIP)
            model = self._process(at.take(rows), targets, np.zeros(len(rows)), ERRORS)
            mean, deviation = model.predict(candidates)
            chance *= ndtr(-mean / deviation)
        return chance

    def _process(self, points: Points, targets: Floats, deviations: Floats, settings: Settings) -> GaussianProcess:
        hyperparameters = self._hyperparameters(points, targets, deviations, settings)
        if len(points) > LARGEST:
            order = np.argsort(targets, kind="stable")
            rest = np.random.default_rng(self._seed).permutation(order[LOWEST_KEPT:])
            kept = np.sort(np.concatenate([order[:LOWEST_KEPT], rest[: LARGEST - LOWEST_KEPT]]))
            points, targets, deviations = points.take(kept), targets[kept], deviations[kept]
        return GaussianProcess(points, targets, deviations, hyperparameters)

    def _hyperparameters(
        self, points: Points, targets: Floats, deviations: Floats, settings: Settings
    ) -> Hyperparameters:
        count = len(points)
        rows = np.arange(count if count < REFIT_EACH_BELOW else count // REFIT_EVERY * REFIT_EVERY)
        if len(rows) > FIT_POINTS:
            rows = np.sort(np.random.default_rng([self._seed, len(rows)]).permutation(rows)[:FIT_POINTS])
        data = (points.take(rows), targets[rows], deviations[rows], settings)
        key = repr(settings).encode() + b"".join(part.tobytes() for part in (data[0].similarity, data[1], data[2]))
        if key not in self._fits:
            self._fits[key] = fit_hyperparameters(*data)
            while len(self._fits) > MEMORY:
                self._fits.popitem(last=False)
        return self._fits[key]


def reference_point(observed: Observations, front: Floats, predicted: Floats, fixed: Floats | None) -> Floats:
    """A point (objectives,) a little beyond the `front` (n, objectives); in costs at least where most candidates are by
    `predicted` (candidates, objectives). `fixed` (objectives,) overrides it where it is not NaN.
    """
    reached = front if len(front) else observed.values[observed.valued]
    best = reached[pareto(reached)] if len(reached) else predicted
    reference: Floats = best.max(axis=0) + REFERENCE_MARGIN * np.maximum(np.ptp(best, axis=0), 1e-9)
    is_cost = np.array([objective.is_cost for objective in observed.objectives])
    if len(best) < FEW_REACHED and len(reached):
        usual = np.where(is_cost, np.quantile(reached, 0.75, axis=0), np.median(reached, axis=0))
        reference = np.maximum(reference, usual)
    usual = np.quantile(predicted, COST_QUANTILE, axis=0)
    reference = np.where(is_cost, np.maximum(reference, usual), reference)
    return reference if fixed is None else np.where(np.isnan(fixed), reference, fixed)


def _points(candidates: Candidates, objective: Objective) -> Points:
    return candidates.cost_points if objective.is_cost else candidates.points


def _priors(at: Candidates, candidates: Candidates, objective: Objective, k: int) -> tuple[Floats, Floats]:
    """What is expected of the observed plans and of the candidates before their like was tried, scaled. Where nothing
    is, the same value stands for both: it is taken off before a fit and added afterwards."""
    if not candidates.prior.shape[1]:
        return np.zeros(len(at)), np.zeros(len(candidates))
    observed, proposed = (objective.all_scaled(each.prior[:, k, 0]) for each in (at, candidates))
    both = np.concatenate([observed, proposed])
    expected = both[~np.isnan(both)]
    usual = np.median(expected) if len(expected) else 0.0
    return np.where(np.isnan(observed), usual, observed), np.where(np.isnan(proposed), usual, proposed)


def _best(candidates: Candidates, objectives: Sequence[Objective], means: Floats, deviations: Floats) -> Floats:
    """The best that each plan may turn out to be: what its model leaves open, and no better than what is possible."""
    best: Floats = means - BEST_CASE * deviations
    if candidates.prior.shape[1]:
        possible = [objective.all_scaled(candidates.prior[:, k, 1]) for k, objective in enumerate(objectives)]
        best = np.fmax(best, np.column_stack(possible))
    return best


def _are_dominated(best: Floats, front: Floats) -> npt.NDArray[np.bool_]:
    """Which plans a point of the front dominates even at their best."""
    best_known = front[pareto(front)]
    no_better: npt.NDArray[np.bool_] = np.all(best_known <= best[:, None], axis=2)
    return np.asarray(np.any(no_better, axis=1))
