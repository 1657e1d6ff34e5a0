"""What a search wants: its objectives, its limits, and the corner from which hypervolume is measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from vitsearch.core.figures import NO_METRICS, Metrics
from vitsearch.core.limits import Bound, constraints, screened
from vitsearch.core.metrics import is_quality
from vitsearch.core.pareto import Loss
from vitsearch.core.plan import Deployment
from vitsearch.core.priors import PRIOR_IMAGES, Prior, prior_of
from vitsearch.core.record import Record
from vitsearch.tasks import CLASSIFICATION, Task

FITS = "fits"
"""The constraint that a model breaks which the device cannot hold or run."""


@dataclass(frozen=True)
class Goals:
    """What does not change while a study runs: objectives, limits, the corner from which hypervolume is measured, how
    much better than the best known quality a backbone's plans may become (`margin`; nothing becomes better where
    nothing is trained), the metrics of the unpruned baseline, the task, the images that a training sees, how the
    baseline ran, and what earlier studies teach of metrics, by name."""

    objectives: tuple[str, ...]
    bounds: tuple[Bound, ...]
    reference: Loss
    margin: float = 0.0
    baseline: Metrics = NO_METRICS
    task: Task = CLASSIFICATION
    training_images: int = PRIOR_IMAGES
    baseline_deployment: Deployment | None = None
    priors: Mapping[str, Prior] = field(default_factory=dict)

    @property
    def qualities(self) -> tuple[str, ...]:
        """The metrics of the task that are predicted of a plan, the first objective among them first; the first one of
        the task where no objective or limit names any."""
        names = dict.fromkeys([*self.objectives, *(bound.metric for bound in self.bounds)])
        return tuple(name for name in names if is_quality(name)) or (self.task.metrics[0].name,)

    def prior_of(self, metric: str) -> Prior:
        """What is believed of a metric before the first training."""
        return self.priors.get(metric, prior_of(metric)).after(self.training_images)

    def screened_constraints(self, metrics: Metrics) -> dict[str, float]:
        """By how much the limits that a screening measurement can judge are broken."""
        return constraints(screened(self.bounds), metrics.values)

    def constraints_of(self, record: Record, metrics: Metrics) -> dict[str, float]:
        """By how much a finished trial with these `metrics` breaks today's limits, which may be others than those of
        its time. Whether the device can hold a model is a limit too."""
        if record.outcome == "off_space":
            return {}  # no plan of the space is like it
        fits = {FITS: 1.0 if record.outcome == "does_not_fit" else -1.0}
        return constraints(self.bounds, metrics.values) | fits
