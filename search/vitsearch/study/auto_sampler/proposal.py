"""How much each candidate can be expected to add to what a study has reached."""

from __future__ import annotations

import bisect
import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from vitsearch.study.auto_sampler.candidates import Candidates
from vitsearch.study.auto_sampler.encoding import Floats, Points
from vitsearch.study.auto_sampler.forms import AS_IT_COMES, DECLARED_COST, Data, Form, best_form
from vitsearch.study.auto_sampler.gaussian_process import (
    FIT_POINTS,
    GaussianProcess,
    Hyperparameters,
    fit_hyperparameters,
)
from vitsearch.study.auto_sampler.improvement import Improvement, hypervolume, pareto
from vitsearch.study.auto_sampler.observations import Objective, Observations

REFIT_EACH_BELOW, REFIT_EVERY = 30, 5
"""Points of a model: with fewer, each new one refits it; with more, every fifth; from 100 on every tenth, from 200 on
every twentieth, and so on."""
FORM_AGAIN = (8, 12, 18, 27, 40, 60, 90, 135, FIT_POINTS)
"""Numbers of points with which the form of a model is decided again."""
LARGEST, LOWEST_KEPT = 400, 300
"""Of more points, the lowest and a random rest stay in a model."""
REFERENCE_MARGIN, LEAST_MARGIN = 0.1, 0.01
"""Of the reference point beyond the front, as a share of its extent, and of that of all that is known."""
COST_QUANTILE = 0.95
"""Of the predicted costs of the candidates: a reference taken from the front alone forgets its ends."""
FEW_REACHED = 3
MANY_OBJECTIVES, LEAST_SHARE = 3, 0.5
"""With so many objectives a plan that is best in one of them is on the front however bad it is in the others. The
reference point of such a front is far away, and below it plans that are best in two objectives account for most of
the volume. Each trial therefore looks for gains below a point of its own, at least this share of the way from the best
values to the reference point."""
CONSTRAINT_CLIP = 3.0
BEST_CASE = 2.0
"""Deviations from the mean of a model that count as possible."""
MEMORY = 64
"""Fits that are remembered."""

Value = TypeVar("Value")


@dataclass(frozen=True)
class CandidateScores:
    """What is asked is the candidate of the highest score. `hypervolume` is what the study has reached, in units of
    the scores; None where these are not hypervolumes."""

    scores: Floats
    hypervolume: float | None = None

    def and_then(self, others: CandidateScores) -> CandidateScores:
        """These scores, then others of the same units."""
        return CandidateScores(np.concatenate([self.scores, others.scores]), self.hypervolume)

    def share(self, row: int) -> float | None:
        """The expected improvement by a candidate as a share of what is reached; None where it is not known."""
        return float(self.scores[row]) / self.hypervolume if self.hypervolume else None


@dataclass(frozen=True)
class Predictions:
    """Of each plan and objective (plans, objectives): a Gaussian, of the logarithm where `by_factors` (objectives,)."""

    means: Floats
    deviations: Floats
    by_factors: npt.NDArray[np.bool_]

    def values(self, deviations_below: float = 0.0) -> Floats:
        """The objectives so many deviations below the middle, (plans, objectives)."""
        with np.errstate(over="ignore"):
            at = self.means - deviations_below * self.deviations
            values: Floats = np.where(self.by_factors, np.exp(np.where(self.by_factors, at, 0.0)), at)
        return values

    def within(self, tolerances: Sequence[float]) -> Predictions:
        """With smaller deviations: without the part that is no reason to ask."""
        if not any(tolerances):
            return self
        borne = np.where(self.by_factors, np.array(tolerances) / self.values(), tolerances)
        deviations = np.sqrt(np.maximum(self.deviations**2 - borne**2, 0.0))
        return Predictions(self.means, deviations, self.by_factors)


@dataclass(frozen=True)
class ObjectiveModel:
    """The model of one objective, `k`, of what it is beyond what was expected of each plan."""

    process: GaussianProcess
    form: Form
    objective: Objective
    k: int
    at: Candidates

    def predict(self, candidates: Candidates) -> tuple[Floats, Floats]:
        mean, deviation = self.process.predict(_points(candidates, self.objective))
        return mean + _priors(self.at, candidates, self.objective, self.k)[1], deviation


@dataclass(frozen=True)
class Scorer:
    """Scores candidates against one state of a study. `front` (n, objectives) is what its trials are believed to have
    reached, or, while they run, to reach: the means of the models, so that no lucky measurement hides its neighbours;
    `measured` (n, objectives) has what is known in their place. `limits` are models of the constraints. Gains count
    below `aim`, what is reached below `reference`. What is predicted of the `first` candidates is known already."""

    models: Sequence[ObjectiveModel]
    limits: Sequence[GaussianProcess]
    front: Floats
    measured: Floats
    reference: Floats
    aim: Floats
    first: tuple[Candidates, Predictions]
    rng_key: tuple[int, int]

    def scores(self, candidates: Candidates) -> CandidateScores:
        """The expected improvement by each candidate, weighed by its chance to meet the constraints."""
        predicted = self.first[1] if candidates is self.first[0] else predictions(self.models, candidates)
        rng = np.random.default_rng(self.rng_key)
        counted = predicted.within([model.objective.tolerance for model in self.models])
        gains = self._improvement.expected(counted.means, counted.deviations, rng, predicted.by_factors.tolist())
        for model in self.limits:
            mean, deviation = model.predict(candidates.points)
            gains = gains * ndtr(-mean / deviation)
        optimistic = predicted.values(BEST_CASE)
        possible = _possible(candidates, [model.objective for model in self.models])
        gains[_are_dominated(np.fmax(optimistic, possible), self.front)] = 0.0
        gains[_are_dominated(np.where(np.isnan(possible), optimistic, possible), self.measured)] = 0.0
        if gains.max(initial=0.0) > 0:
            return CandidateScores(gains, self._reached)
        # Nothing can add anything, or everything is far behind the reference point: towards that.
        aim = np.where(predicted.by_factors, np.log(np.maximum(self.aim, 1e-300)), self.aim)
        behind: Floats = np.maximum((predicted.means - aim) / np.maximum(counted.deviations, 1e-9), 0).sum(axis=1)
        return CandidateScores(-behind, self._reached)

    @cached_property
    def _improvement(self) -> Improvement:
        return Improvement.of(self.front, self.aim)

    @cached_property
    def _reached(self) -> float:
        return hypervolume(self.front, self.reference)


class Proposals:
    """Fits and scores. A fit depends on the observations alone; it is remembered only to save its time."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._fits: OrderedDict[tuple[Form, bytes], Hyperparameters] = OrderedDict()
        self._forms: OrderedDict[bytes, Form] = OrderedDict()

    def scorer(self, observed: Observations, at: Candidates, candidates: Candidates, number: int) -> Scorer:
        """What scores candidates of trial `number`. `at` are the observed plans, encoded. What is predicted of the
        `candidates` decides on the reference point where none is declared."""
        believed = np.empty_like(observed.values)
        models = []
        for k, objective in enumerate(observed.objectives):
            model = self._model(observed, at, candidates, k)
            points = _points(at, objective)
            mean = model.process.predict(points)[0] + _priors(at, candidates, objective, k)[0]
            believed[:, k] = np.exp(mean) if model.form.by_factors else mean
            pending = points.take(observed.running & np.isnan(observed.values[:, k]))
            models.append(replace(model, process=model.process.believing(pending)))
        rows = observed.counted | observed.running
        front, measured = believed[rows], np.where(np.isnan(observed.values), believed, observed.values)[rows]
        predicted = predictions(models, candidates)
        reference = reference_point(observed, front, predicted.values())
        aim = aim_of(reference, front, observed.fixed_reference, np.random.default_rng([self._seed, number]))
        limits = self._limits(observed, at.points)
        first = candidates, predicted
        return Scorer(models, limits, front, measured, reference, aim, first, (self._seed, number))

    def _model(self, observed: Observations, at: Candidates, candidates: Candidates, k: int) -> ObjectiveModel:
        """What objective `k` is beyond what was expected of each plan."""
        objective = observed.objectives[k]
        expected = _priors(at, candidates, objective, k)[0]
        rows = np.flatnonzero(~np.isnan(observed.values[:, k]))
        data = Data(
            _points(at, objective).take(rows),
            observed.values[rows, k] - expected[rows],
            observed.deviations[rows, k],
            observed.shared[k][rows],
        )
        form = self._form(data, objective, may_be_by_factors=not candidates.prior.shape[1])
        return ObjectiveModel(self._process(data.in_form(form), form), form, objective, k, at)

    def _form(self, data: Data, objective: Objective, may_be_by_factors: bool) -> Form:
        if objective.is_cost:
            return DECLARED_COST
        step = bisect.bisect_right(FORM_AGAIN, len(data))
        if step == 0:
            return AS_IT_COMES
        deciding = data.take(np.arange(FORM_AGAIN[step - 1]))
        form = _remembered(
            self._forms, deciding.key, lambda: best_form(deciding, may_be_by_factors and not objective.maximised)
        )
        return AS_IT_COMES if form.by_factors and data.targets.min() <= 0 else form

    def _limits(self, observed: Observations, at: Points) -> list[GaussianProcess]:
        """Models of the constraints that some trial breaks."""
        models = []
        for column in observed.constraints.T:
            rows = np.flatnonzero(~np.isnan(column))
            if not (column[rows] > 0).any():
                continue
            unit = float(np.median(np.abs(column[rows]))) or 1.0
            targets = np.clip(column[rows] / unit, -CONSTRAINT_CLIP, CONSTRAINT_CLIP)
            data = Data(at.take(rows), targets, np.zeros(len(rows)), np.zeros((len(rows), 0)))
            models.append(self._process(data, AS_IT_COMES))
        return models

    def _process(self, data: Data, form: Form) -> GaussianProcess:
        """The model of `data` in this form."""
        hyperparameters = self._hyperparameters(data, form)
        if len(data) > LARGEST:
            order = np.argsort(data.targets, kind="stable")
            rest = np.random.default_rng(self._seed).permutation(order[LOWEST_KEPT:])
            data = data.take(np.sort(np.concatenate([order[:LOWEST_KEPT], rest[: LARGEST - LOWEST_KEPT]])))
        return GaussianProcess(data.points, data.targets, data.deviations, hyperparameters, data.shared)

    def _hyperparameters(self, data: Data, form: Form) -> Hyperparameters:
        rows = np.arange(_points_of_fit(len(data)))
        if len(rows) > FIT_POINTS:
            rows = np.sort(np.random.default_rng([self._seed, len(rows)]).permutation(rows)[:FIT_POINTS])
        of = data.take(rows)
        return _remembered(
            self._fits,
            (form, of.key),
            lambda: fit_hyperparameters(of.points, of.targets, of.deviations, form.settings, of.shared),
        )


def _points_of_fit(count: int) -> int:
    """How many of so many points were there when the model was fitted."""
    if count < REFIT_EACH_BELOW:
        return count
    step = REFIT_EVERY << max(0, int(math.log2(count / 50)))
    return count // step * step


def _remembered(memory: OrderedDict[Any, Value], key: object, make: Callable[[], Value]) -> Value:
    if key not in memory:
        memory[key] = make()
        while len(memory) > MEMORY:
            memory.popitem(last=False)
    return memory[key]


def predictions(models: Sequence[ObjectiveModel], candidates: Candidates) -> Predictions:
    """What the models predict of each candidate."""
    columns = [model.predict(candidates) for model in models]
    by_factors = np.array([model.form.by_factors for model in models], dtype=bool)
    means, deviations = (np.column_stack(part) for part in zip(*columns, strict=True))
    return Predictions(means, deviations, by_factors)


def reference_point(observed: Observations, front: Floats, predicted: Floats) -> Floats:
    """A point (objectives,) a little beyond the `front` (n, objectives); in costs at least where most candidates are by
    `predicted` (candidates, objectives). What is declared overrides it.
    """
    known = observed.values[observed.valued]
    reached = front if len(front) else known
    best = reached[pareto(reached)] if len(reached) else predicted
    extent = np.ptp(np.concatenate([known, np.quantile(predicted, (0.05, 0.95), axis=0)]), axis=0)
    least = LEAST_MARGIN * extent
    if len(best) < FEW_REACHED:  # a front without an extent of its own
        least = extent / len(best)
    reference: Floats = best.max(axis=0) + np.maximum(np.maximum(REFERENCE_MARGIN * np.ptp(best, axis=0), least), 1e-9)
    is_cost = np.array([objective.is_cost for objective in observed.objectives])
    usual = np.quantile(predicted, COST_QUANTILE, axis=0)
    reference = np.where(is_cost, np.maximum(reference, usual), reference)
    fixed = observed.fixed_reference
    return np.where(np.isnan(fixed), reference, fixed)


def aim_of(reference: Floats, front: Floats, fixed: Floats, rng: np.random.Generator) -> Floats:
    """The point (objectives,) below which a trial looks for gains: with few objectives the `reference` point of the
    `front` (n, objectives), otherwise one that is nearer where the reference is not `fixed` (objectives,)."""
    if len(reference) < MANY_OBJECTIVES or not len(front):
        return reference
    ideal = front[pareto(front)].min(axis=0)
    nearer = ideal + rng.uniform(LEAST_SHARE, 1.0) * (reference - ideal)
    return np.where(np.isnan(fixed), nearer, reference)


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


def _possible(candidates: Candidates, objectives: Sequence[Objective]) -> Floats:
    """The best that is possible of each plan, (plans, objectives), whatever its model leaves open; NaN if unknown."""
    if not candidates.prior.shape[1]:
        return np.full((len(candidates), len(objectives)), math.nan)
    return np.column_stack([objective.all_scaled(candidates.prior[:, k, 1]) for k, objective in enumerate(objectives)])


def _are_dominated(best: Floats, front: Floats) -> npt.NDArray[np.bool_]:
    """Which plans a point of the front dominates even at their best."""
    best_known = front[pareto(front)]
    no_better: npt.NDArray[np.bool_] = np.all(best_known <= best[:, None], axis=2)
    return np.asarray(np.any(no_better, axis=1))
