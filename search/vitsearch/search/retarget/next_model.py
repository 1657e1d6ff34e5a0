"""Which model of a study is measured next on another device.

Each metric of a model is a normal distribution: narrow where it was measured, wide where it is predicted from other
models. Costs are in natural logarithms.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from vitsearch.core.figures import Estimate, Estimates
from vitsearch.core.metrics import is_quality, split
from vitsearch.core.pareto import front
from vitsearch.search.goals import Goals
from vitsearch.study.auto_sampler.improvement import expected_improvement

Floats = npt.NDArray[np.float64]
DRAWS = 256
UNLIMITED = 1e6
"""A loss that is worse than any."""
LEAST_DEVIATION = 1e-9


def scaled(name: str, value: float) -> float:
    """A value on the scale of the estimates: costs in natural logarithms."""
    return value if is_quality(name) else math.log(max(value, 1e-9))


def unscaled(name: str, value: float) -> float:
    return value if is_quality(name) else math.exp(value)


def losses_of(goals: Goals, values: Mapping[str, Floats]) -> Floats:
    """The losses (models, objectives) of `vitsearch.core.pareto` for `values`, by metric (models,) on the scale of the
    estimates; those that break a limit are worse than any."""
    rows = np.column_stack([_loss(name, values[name]) for name in goals.objectives])
    for bound in goals.bounds:
        if bound.metric in values:
            edge = scaled(bound.metric, bound.value)
            seen = values[bound.metric]
            rows[seen > edge if bound.sense == "<=" else seen < edge] = UNLIMITED
    return rows


def _loss(name: str, values: Floats) -> Floats:
    metric = split(name)[0]
    if metric.span is not None:
        worst, best = metric.span
        return (best - values) / (best - worst)
    return values if metric.direction == "minimize" else -values


def chances(goals: Goals, models: Sequence[Estimates]) -> Floats:
    """The chance (models,) of each model to be on the front of all, over what each may turn out to be."""
    means, deviations = _columns(models)
    rng, counts = np.random.default_rng(0), np.zeros(len(models))
    for _ in range(DRAWS):
        drawn = {name: means[name] + deviations[name] * rng.standard_normal(len(models)) for name in sorted(means)}
        losses = losses_of(goals, drawn)
        within = np.flatnonzero(losses[:, 0] < UNLIMITED)
        counts[within[front([tuple(row) for row in losses[within].tolist()])]] += 1.0
    return counts / DRAWS


def gains(goals: Goals, measured: Sequence[Estimates], models: Sequence[Estimates]) -> Floats:
    """The hypervolume (models,) that each model is expected to add to the front of those that were measured."""
    means, deviations = _columns(models)
    measured_losses = losses_of(goals, _columns(measured)[0]) if measured else np.empty((0, len(goals.objectives)))
    expected = losses_of(replace(goals, bounds=()), means)
    spread = np.column_stack([deviations[name] for name in goals.objectives])
    reference, rng = np.asarray(goals.reference, dtype=float), np.random.default_rng(0)
    return expected_improvement(expected, spread, measured_losses, reference, rng) * _within_limits(
        goals, means, deviations
    )


def _columns(models: Sequence[Estimates]) -> tuple[dict[str, Floats], dict[str, Floats]]:
    """Means and deviations by metric, of all models; NaN for what is not known."""
    names = {name for model in models for name in model}
    unknown = Estimate(math.nan)
    rows = {name: [model.get(name, unknown) for model in models] for name in names}
    means = {name: np.array([estimate.mean for estimate in row]) for name, row in rows.items()}
    return means, {name: np.array([estimate.deviation for estimate in row]) for name, row in rows.items()}


def _within_limits(goals: Goals, means: Mapping[str, Floats], deviations: Mapping[str, Floats]) -> Floats:
    """The chance of each model to break no limit."""
    chance = np.ones(len(means[goals.objectives[0]]))
    for bound in goals.bounds:
        if bound.metric in means:
            sign = 1.0 if bound.sense == "<=" else -1.0
            room = sign * (scaled(bound.metric, bound.value) - means[bound.metric])
            spread = np.maximum(deviations[bound.metric], LEAST_DEVIATION)
            chance = chance * np.where(np.isnan(room), 1.0, ndtr((room + LEAST_DEVIATION) / spread))
    return chance
