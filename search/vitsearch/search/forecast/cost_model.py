"""Predicts costs: of a training, and those that only a confirmation measurement takes.

A soak or a power phase lasts minutes, too long for models that are only screened. Energy and sustained
latency are predicted as the screened latency times the median ratio of the confirmed models (at first only the
baseline), power as their median.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from statistics import median

from vitsearch.core.figures import Metrics
from vitsearch.core.metrics import at_device, split
from vitsearch.core.record import RunningTrial

PROPORTIONAL_TO: Mapping[str, str | None] = {
    "energy_mj": "latency_ms_p50",
    "latency_ms_sustained_p50": "latency_ms_p50",
    "latency_ms_p95": "latency_ms_p50",
    "latency_ms_concurrent_p95": "latency_ms_concurrent_p50",
    "power_w": None,
}
"""The screened metric that a cost is in proportion to; None: it is about the same for all models."""


OVERHEAD_S = 15.0
"""Export, evaluation and measurement of a plan that is trained."""
TRAINING_MACS_PER_S = 2e10
"""Of a core that multiplies in fp32; a step takes three times the MACs of an inference. Only ratios of prices count."""


def training_seconds(trial: RunningTrial) -> float:
    """Roughly what the training of a plan takes, and what follows it."""
    macs = (trial.metrics.value("macs_m") or 0.0) * 1e6
    return OVERHEAD_S + 3.0 * macs * trial.plan.recipe.images / TRAINING_MACS_PER_S


def predict_costs(objectives: Iterable[str], screen: Metrics, confirmed: Iterable[Metrics]) -> dict[str, float | None]:
    """The values of `screen`, completed with predictions; None where there is none yet."""
    missing = [name for name in objectives if screen.value(name) is None]
    confirmed_metrics = list(confirmed) if any(split(name)[0].name in PROPORTIONAL_TO for name in missing) else []
    return screen.values | {name: _predicted(name, screen, confirmed_metrics) for name in missing}


def _predicted(name: str, screen: Metrics, confirmed_metrics: list[Metrics]) -> float | None:
    metric, device = split(name)
    if metric.name not in PROPORTIONAL_TO:
        return None
    screened = PROPORTIONAL_TO[metric.name]
    if screened is not None and device is not None:
        screened = at_device(screened, device)
    seen = _scale(screen, screened)
    if seen is None:
        return None
    ratios = [
        value / scale
        for metrics in confirmed_metrics
        if (value := metrics.value(name)) is not None and (scale := _scale(metrics, screened))
    ]
    return median(ratios) * seen if ratios else None


def _scale(metrics: Metrics, screened: str | None) -> float | None:
    return 1.0 if screened is None else metrics.value(screened)
