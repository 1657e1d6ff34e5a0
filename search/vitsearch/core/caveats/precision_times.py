"""The times of a model beside those of the same graph in another precision, as one study measured them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vitsearch.core.figures import Figure, Metrics, ratio
from vitsearch.core.metrics import SHOWN_TIMES, split
from vitsearch.core.plan import Plan

REFERENCES = ("fp32", "fp16")
"""The precisions that others are held against."""
TIMES = tuple(reversed(SHOWN_TIMES))
"""The CPU time first: it depends less on other work."""


Graph = tuple[object, ...]
"""What the time of a file depends on, besides its precision."""


@dataclass(frozen=True)
class TimeRatio:
    """`ratio` is the time of a model over that of the model `name`, which is the same graph in `precision`."""

    metric: str
    precision: str
    name: str
    ratio: Figure

    def __str__(self) -> str:
        span = "no interval" if self.ratio.low is None else f"{self.ratio.low:.2f} to {self.ratio.high:.2f}"
        return f"here its {self.metric} is {self.ratio.value:.2f} ({span}) times that of {self.precision}, {self.name}"


def graph_of(plan: Plan) -> Graph:
    """The same value for two plans that differ in their precision and training alone."""
    return plan.backbone, plan.resolution, plan.window_size, plan.compression, plan.deployment.at("fp32")


def time_ratio(
    metrics: Metrics, name: str, precision: str, reference: Metrics, objectives: Sequence[str]
) -> TimeRatio | None:
    """A model beside the one called `name`, by the first time among the objectives, else by the CPU time or latency;
    None where no time of both is known."""
    of_objectives = [objective for objective in objectives if split(objective)[0].name in TIMES]
    for metric in (*of_objectives, *TIMES):
        own, base = metrics.figures.get(metric), reference.figures.get(metric)
        if own is not None and base is not None and (times := ratio(own, base)) is not None:
            return TimeRatio(metric, precision, name, times)
    return None
