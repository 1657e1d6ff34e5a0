"""What is believed of a metric of a task before the first training of a study (`search/forecast/quality_model.py`)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Prior:
    """What is believed of the line before the first training; errors are standard deviations.

    Attributes:
        slope: What a unit of the root of the divergence costs.
        lost: The share of what is lost at rung 0 that remains after the fine-tune: more of it after a short one.
        offset_error: How far a backbone's fine-tunes lie above or below the line.
        noise: The scatter of single trainings around the line.
        noise_degrees: How many plans the belief in this noise counts for.
        lost_spread: How far what cut models have lost lies apart: what few images say of it is believed as far as their
            error allows.
        common_error: How far the results of a study lie above or below all forecasts of the line together
            (`search/forecast/calibration.py`).
        family_error: The same of the forecasts of one backbone, beside that.
        is_measured: Whether trainings stand behind it.
    """

    slope: float = -0.03
    slope_error: float = 0.06
    lost: float = 0.3
    lost_error: float = 0.3
    offset_error: float = 0.012
    noise: float = 0.015
    noise_degrees: float = 3
    lost_spread: float = 0.1
    common_error: float = 0.03
    family_error: float = 0.02
    is_measured: bool = False


WEAK = Prior()
"""Of a metric of which nothing was measured: three times as wide as that of accuracies, and sooner overruled."""
PRIORS = {
    "accuracy": Prior(
        slope_error=0.02,
        lost_error=0.2,
        offset_error=0.004,
        noise=0.0055,
        noise_degrees=5,
        common_error=0.01,
        family_error=0.01,
        is_measured=True,
    ),
}
"""By metric. That of accuracies is near the one under which 70 trainings of three families, of 1 and of 24 epochs, were
likeliest as they came (`benchmarks/predictions.py`); its errors in common are wider than those trainings ask for (.05
nats each), so that a study whose forecasts are all too low by .02 finds out."""


def prior_of(metric: str) -> Prior:
    return PRIORS.get(metric, WEAK)
