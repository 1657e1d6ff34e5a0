"""Predicts costs: of a training, and those that only a confirmation measurement takes.

A soak or a power phase lasts minutes, too long for models that are only screened. Energy and sustained latency are
predicted as the screened latency times the median ratio of the confirmed models (at first only the baseline), power as
their median: of those that run in the same way, where there are any. How far the ratios scatter is the error of the
prediction.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TypeAlias

from vitsearch.core.figures import Z_95, Metrics
from vitsearch.core.metrics import at_device, split
from vitsearch.core.plan import Deployment
from vitsearch.core.record import RunningTrial
from vitsearch_agent.wire.metrics import Forecast

OVERHEAD_S = 15.0
"""Export, evaluation and measurement of a plan that is trained."""
TRAINING_MACS_PER_S = 2e10
"""Of a core that multiplies in fp32; a step takes three times the MACs of an inference. Only ratios of prices count."""


def training_seconds(trial: RunningTrial) -> float:
    """Roughly what the training of a plan takes, and what follows it."""
    macs = (trial.metrics.value("macs_m") or 0.0) * 1e6
    return OVERHEAD_S + 3.0 * macs * trial.plan.recipe.images / TRAINING_MACS_PER_S


ConfirmedCosts: TypeAlias = tuple[Deployment | None, Metrics]
"""The metrics of a model that was confirmed, and how it ran; None: not known."""
SCATTER = 0.15
"""Of the ratios of models that run in the same way, on a log scale, before any of them was measured."""
PRIOR_MODELS = 2
"""The models that `SCATTER` counts for beside those that were measured."""


@dataclass(frozen=True)
class CostForecast:
    """What a confirmation is expected to measure, in the unit of the metric, and its standard deviation on a log
    scale."""

    value: float
    deviation: float


def predict_costs(
    objectives: Iterable[str], trial: RunningTrial, confirmed: Iterable[ConfirmedCosts]
) -> dict[str, CostForecast]:
    """Predict the objectives that a trial was not measured for; those of which nothing is known are left out."""
    screen = trial.metrics
    missing = {name: rule for name in objectives if screen.value(name) is None and (rule := _rule(name)) is not None}
    seen = list(confirmed) if missing else []
    forecasts = {name: _predicted(name, rule, trial, seen) for name, rule in missing.items()}
    return {name: forecast for name, forecast in forecasts.items() if forecast is not None}


def _rule(name: str) -> Forecast | None:
    """How a metric is expected; None for one that a screening measures, or no device."""
    measured = split(name)[0].measured
    return None if measured is None else measured.forecast


def _predicted(
    name: str, rule: Forecast, trial: RunningTrial, confirmed: Sequence[ConfirmedCosts]
) -> CostForecast | None:
    screened, device = rule.proportional_to, split(name)[1]
    if screened is not None and device is not None:
        screened = at_device(screened, device)
    scale, way = _scale(trial.metrics, screened), _way(trial.plan.deployment)
    alike = [(deployment, metrics) for deployment, metrics in confirmed if deployment and _way(deployment) == way]
    ratios = list(_ratios(name, screened, alike))
    between = 0.0
    if not ratios:
        ratios = list(_ratios(name, screened, confirmed))
        between = rule.scatter
    if scale is None or not ratios:
        return None
    low, high = trial.metrics.intervals.get(screened or "", (1.0, 1.0))
    of_scale = math.log(high / low) / (2 * Z_95) if low > 0.0 else 0.0
    return CostForecast(median(ratios) * scale, math.hypot(_scatter(ratios), between, of_scale))


def _way(deployment: Deployment) -> tuple[str, str, str, int]:
    """What decides on the power that a model draws."""
    return deployment.device, deployment.runtime, deployment.provider, deployment.threads


def _ratios(name: str, screened: str | None, confirmed: Iterable[ConfirmedCosts]) -> Iterator[float]:
    for _, metrics in confirmed:
        value, scale = metrics.value(name), _scale(metrics, screened)
        if value is not None and scale and value / scale > 0.0:
            yield value / scale


def _scatter(ratios: Sequence[float]) -> float:
    """The standard deviation of ratios about their median, on a log scale."""
    middle = math.log(median(ratios))
    squares = PRIOR_MODELS * SCATTER**2 + math.fsum((math.log(ratio) - middle) ** 2 for ratio in ratios)
    return math.sqrt(squares / (PRIOR_MODELS + len(ratios)))


def _scale(metrics: Metrics, screened: str | None) -> float | None:
    return 1.0 if screened is None else metrics.value(screened)
