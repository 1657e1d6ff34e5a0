"""What is believed of a metric of a task before the first training of a study (`search/forecast/quality_model.py`)."""

from __future__ import annotations

from dataclasses import dataclass, replace

PRIOR_IMAGES = 4096
"""Images of the trainings after which the priors hold as they are written."""


@dataclass(frozen=True)
class Prior:
    """What is believed of the line before the first training; errors are standard deviations.

    Attributes:
        slope: What a unit of the root of the divergence costs.
        lost: The share of what is lost at rung 0 that remains after the fine-tune.
        lost_decay: How much less of it remains after a longer one, as a power of its images.
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
    lost_decay: float = 0.0
    offset_error: float = 0.012
    noise: float = 0.015
    noise_degrees: float = 3
    lost_spread: float = 0.1
    common_error: float = 0.03
    family_error: float = 0.02
    is_measured: bool = False

    def after(self, images: int) -> Prior:
        """What is believed where a fine-tune sees so many images."""
        return replace(self, lost=min(1.0, self.lost * (PRIOR_IMAGES / images) ** self.lost_decay))


WEAK = Prior()
"""Of a metric of which nothing was measured: three times as wide as that of accuracies, and sooner overruled."""
PRIORS = {
    "accuracy": Prior(
        slope=-0.04,
        slope_error=0.012,
        lost=0.4,
        lost_error=0.12,
        lost_decay=0.5,
        offset_error=0.004,
        noise=0.0055,
        noise_degrees=5,
        common_error=0.01,
        family_error=0.01,
        is_measured=True,
    ),
}
"""By metric. That of accuracies is near the one under which 49 trainings of three families, after one epoch of 4,096
images and after three, were likeliest as they came (`benchmarks/predictions.py`): .30 to .50 of what rung 0 lost
remained after one, .13 to .42 after three. Its errors in common are wider than those trainings ask for (.05 nats each),
so that a study whose forecasts are all too low by .02 finds out."""


def prior_of(metric: str) -> Prior:
    return PRIORS.get(metric, WEAK)
