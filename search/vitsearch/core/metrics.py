"""The metrics and their names, the same in space files, database, JSON and reports.

A *cost* is what a device, or the file itself, takes: costs differ by a factor. A *quality* is what a task makes of a
model's outputs, such as an accuracy (`vitsearch.tasks`): qualities differ by a share of the way from the worst to the
best value.

`latency_ms_p50` and `cpu_ms_p50` are, on a machine that others use too, those of a quiet machine, by reference
models that ran beside each model; `..._raw` are the times as they were read. On a quiet device both are the same.
Other times, such as `latency_ms_p95`, are as they were read.

A study with several devices writes `latency_ms_p50@nano`; `split` separates metric and device.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, cast

from vitsearch.errors import TaskError
from vitsearch_agent.wire.metrics import DEVICE_METRICS, PHASES, DeviceMetric

Direction = Literal["maximize", "minimize"]
ROUNDING = 1e-6
"""A perfect value may be off by so much of the span: a cosine of equal vectors is 1.0000001."""


@dataclass(frozen=True)
class Metric:
    """One metric, with all that is known of it.

    Attributes:
        name: The same in space files, database, JSON and reports.
        unit: Empty for a share.
        direction: The better one.
        title: What a sentence calls a cost.
        span: Of a quality: its worst value, as good as an answer at random or none, and its best one.
        is_count: Whether it is the share of the images that are right.
        is_signed: Whether a quality may be negative.
        is_compared: Whether it is shown beside the objectives of a model.
        measured: What is known of it if a device measures it.
    """

    name: str
    unit: str
    direction: Direction
    title: str = ""
    span: tuple[float, float] | None = None
    is_count: bool = False
    is_signed: bool = False
    is_compared: bool = False
    measured: DeviceMetric | None = None

    @property
    def on_device(self) -> bool:
        """Whether a device measures it."""
        return self.measured is not None

    @property
    def screened(self) -> bool:
        """Whether it is known before a training: by the file, or by a screening measurement."""
        return self.span is None and (self.measured is None or self.measured.forecast is None)

    @property
    def is_of_file(self) -> bool:
        """Whether it is counted in the exported file, exactly."""
        return self.span is None and self.measured is None

    @property
    def has_interval(self) -> bool:
        """Whether it is a median with its interval."""
        return self.measured is not None and self.measured.has_interval

    @property
    def is_raw(self) -> bool:
        """Whether it is a time as it was read, of which another metric shows what a quiet machine takes."""
        return self.measured is not None and self.measured.is_raw

    @property
    def is_of_a_run(self) -> bool:
        """Whether it is the time of a run, which has as many images as its batch."""
        return self.measured is not None and self.measured.is_of_a_run

    @property
    def is_quality(self) -> bool:
        return self.span is not None

    @property
    def is_share(self) -> bool:
        """Whether it is a share of something good, up to 1: two of them differ by points."""
        return self.span is not None and self.span[1] == 1.0 and 0.0 <= self.span[0] < 1.0 and not self.unit

    @property
    def is_share_of_images(self) -> bool:
        """Whether it is a share whose worst value is none of them; of what may be negative, such as a cosine, not."""
        return self.is_share and not self.is_signed

    @property
    def width(self) -> float:
        """From the worst value of a quality to its best one; what is said of shares counts times this."""
        worst, best = self.span or (0.0, 1.0)
        return abs(best - worst)

    def is_possible(self, value: float) -> bool:
        """Whether a model can have this value: a cost is at least 0; a quality no better than perfect, and if it is a
        share of images at least 0."""
        if self.span is None:
            return value >= 0.0
        return self.error(value) >= -ROUNDING and (value >= 0.0 or not self.is_share_of_images)

    def nearest_possible(self, value: float) -> float:
        """The value nearest to this one that a model can have."""
        if self.span is None:
            return max(0.0, value)
        possible = self.moved(value, 0.0)
        return max(0.0, possible) if self.is_share_of_images else possible

    @property
    def allowed(self) -> str:
        """What `is_possible` allows, in words."""
        if self.span is None:
            return "from 0"
        if self.is_share_of_images:
            return "0 to 1"
        return f"{'at most' if self.direction == 'maximize' else 'at least'} {self.span[1]:g}"

    def error(self, value: float) -> float:
        """How far a value of a quality is from the best one, as a share of its span."""
        worst, best = self.span or (0.0, 1.0)
        return (best - value) / (best - worst)

    def at_error(self, error: float) -> float:
        """The value of a quality that is so far from the best one."""
        worst, best = self.span or (0.0, 1.0)
        return best - error * (best - worst)

    def gain(self, value: float, before: float) -> float:
        """By how much a value of a quality is better than another one, as a share of its span."""
        worst, best = self.span or (0.0, 1.0)
        return (value - before) / (best - worst)

    def shifted(self, value: float, by: float) -> float:
        """The value of a quality that is better `by` a share of its span."""
        worst, best = self.span or (0.0, 1.0)
        return value + by * (best - worst)

    def moved(self, value: float, by: float) -> float:
        """The same, but not beyond the best value."""
        worst, best = self.span or (0.0, 1.0)
        return min(best, self.shifted(value, by)) if best > worst else max(best, self.shifted(value, by))


def quality(
    name: str,
    worst: float = 0.0,
    best: float = 1.0,
    unit: str = "",
    *,
    is_count: bool = False,
    is_signed: bool = False,
) -> Metric:
    """A metric of a task.

    Args:
        name: Its name in space files and results: a word in small letters, such as `recall_min`.
        worst: A value as good as an answer at random or none. It scales what the search knows of accuracies, whose
            worst value is 0 and best 1; a model may be worse.
        best: The value of a perfect model. Below `worst` where less is better.
        unit: Empty for shares.
        is_count: Whether it is the share of the images that are right: `best` is 1, and it has no unit.
        is_signed: Whether a quality may be negative.

    Returns:
        The metric, known after an evaluation only.

    Raises:
        TaskError: `name` is no such word, or worst and best are equal.
    """
    if not name.isidentifier() or name != name.lower():
        raise TaskError(f"{name!r} is not a valid name of a metric: allowed are small letters, digits and _")
    if worst == best:
        raise TaskError(f"metric {name}: worst and best are both {worst:g}")
    if is_count and (best != 1.0 or unit):
        raise TaskError(f"metric {name}: a share of the images that are right is at best 1, without a unit")
    direction: Direction = "maximize" if best > worst else "minimize"
    span = float(worst), float(best)
    return Metric(name, unit, direction, span=span, is_count=is_count, is_signed=is_signed)


def _of_device(metric: DeviceMetric) -> Metric:
    direction = cast(Direction, metric.direction)
    return Metric(
        metric.name,
        metric.unit,
        direction,
        metric.title,
        is_compared=metric.is_compared,
        measured=metric,
    )


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        quality("accuracy", is_count=True),
        quality("accuracy_top5", is_count=True),
        quality("accuracy_balanced"),
        quality("recall_min"),
        quality("f1_macro"),
        quality("cosine", is_signed=True),
        quality("neighbours"),
        quality("knn_accuracy", is_count=True),
        quality("mean_iou"),
        quality("iou_min"),
        quality("pixel_accuracy"),
        *map(_of_device, DEVICE_METRICS.values()),
        Metric("size_mb", "MB", "minimize", "size of the file", is_compared=True),
        Metric("params_m", "M", "minimize", "parameters", is_compared=True),
        Metric("macs_m", "M", "minimize", "multiplications and additions", is_compared=True),
    )
}

TIMES = tuple(name for name, metric in METRICS.items() if metric.has_interval)
"""How long one run takes, as every measurement gives it."""
SHOWN_TIMES = tuple(name for name in TIMES if not METRICS[name].is_raw)
"""Those that decide."""
COMPARED = tuple(name for name, metric in METRICS.items() if metric.is_compared)
"""What is shown beside the objectives of a model."""
NEEDS = {phase: tuple(name for name, each in DEVICE_METRICS.items() if phase in each.phases) for phase in PHASES}
"""A phase, which has a length in the section `measure` -> the metrics that need it."""


def declare(metrics: Iterable[Metric]) -> None:
    """Make the metrics of a task known in this process.

    Raises:
        TaskError: Another metric has the name of one of them.
    """
    for metric in metrics:
        if METRICS.setdefault(metric.name, metric) != metric:
            raise TaskError(f"metric {metric.name}: another metric has this name: {METRICS[metric.name]}")


def is_quality(name: str) -> bool:
    return split(name)[0].is_quality


def split(name: str) -> tuple[Metric, str | None]:
    """Split `"cpu_ms_p50@pi"` into the metric and `"pi"`. Raises KeyError for an unknown metric."""
    base, _, device = name.partition("@")
    return METRICS[base], device or None


def at_device(name: str, device: str) -> str:
    """The name of a metric on one device of several: `cpu_ms_p50@pi`."""
    return f"{name}@{device}"


def metrics_on(device: str, names: Iterable[str]) -> list[str]:
    """Those of `names` that need a measurement on `device`: all but the ones of other devices."""
    return [name for name in names if split(name)[1] in (None, device)]


def needs_confirmation(names: Iterable[str]) -> bool:
    """Whether any of these objectives and limits is measured by the confirmation protocol alone."""
    metrics = [split(name)[0] for name in names]
    return any(metric.on_device and not metric.screened for metric in metrics)
