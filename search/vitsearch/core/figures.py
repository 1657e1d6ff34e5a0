"""The figures of a model: each with its value and interval, or with the reason why there is none."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from vitsearch.core.metrics import METRICS, split
from vitsearch.errors import UnknownName
from vitsearch_agent.base.normal import Z_95 as Z_95
from vitsearch_agent.wire.metrics import DEVICE_METRICS, DeviceMetric
from vitsearch_agent.wire.protocol import Measurement

NO_REASON = "the device gave no reason"


@dataclass(frozen=True)
class Figure:
    """One figure of a model. A figure that was not measured has the value None and a `reason`.

    Attributes:
        value: In the metric's unit.
        low: The lower end of its 95 % interval, where there is one.
        high: The upper end.
        reason: Why there is no value.
        note: What to know before the value is believed.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    reason: str | None = None
    note: str | None = None

    def times(self, factor: float) -> Figure:
        """Multiply the figure and its interval.

        Args:
            factor: What they are multiplied by.

        Returns:
            A figure of the same reason and note.
        """
        value, low, high = (None if end is None else end * factor for end in (self.value, self.low, self.high))
        return replace(self, value=value, low=low, high=high)


@dataclass(frozen=True)
class Estimate:
    """What is expected of a metric: its mean, and one standard deviation.

    Attributes:
        mean: In the metric's unit.
        deviation: Of all errors together.
        shared: What of that it has in common with the other estimates of its study: how far it moves with each of a
            number of independent, standard normal errors. Empty for none.
    """

    mean: float
    deviation: float = 0.0
    shared: tuple[float, ...] = ()

    @property
    def own_deviation(self) -> float:
        """The deviation of what no other estimate shares."""
        return math.sqrt(max(0.0, self.deviation**2 - sum(loading**2 for loading in self.shared)))

    @property
    def text(self) -> str:
        """The mean with half its 95 % interval, as it is shown."""
        return f"{self.mean:.4f}" + (f" ± {Z_95 * self.deviation:.3f}" if self.deviation else "")


Estimates = Mapping[str, Estimate]
"""Of a model, by metric. A metric that is missing is not known and breaks no limit."""


def means(estimates: Estimates) -> dict[str, float]:
    return {name: estimate.mean for name, estimate in estimates.items()}


@dataclass(frozen=True)
class PrintedMetrics:
    """The figures of a model as `--json` prints them."""

    values: Mapping[str, float | None]
    """Each metric; null where it was not measured."""
    intervals: Mapping[str, tuple[float, float]]
    """Lower and upper end of the 95 % interval, of metrics that have one."""
    reasons: Mapping[str, str]
    """Why a metric was not measured."""
    notes: Mapping[str, str]
    """What to know before a value is believed."""


@dataclass(frozen=True)
class Metrics:
    """The figures of a model. A metric without a figure was not asked for.

    Attributes:
        figures: By the names in `vitsearch.core.metrics`; `METRIC@DEVICE` is that of one device of a fleet.
    """

    figures: Mapping[str, Figure]

    def value(self, name: str) -> float | None:
        """Look up the value of a metric.

        Args:
            name: A metric, such as `latency_ms_p50`.

        Returns:
            The value in the metric's unit; None for one that was not measured (`reasons` says why) or not asked for.

        Raises:
            UnknownName: It is no metric, or names a device that is none of those with figures of this metric.
        """
        figure = self.figures.get(name)
        if figure is None:
            self._require(name)
            return None
        return figure.value

    def _require(self, name: str) -> None:
        metric, _, device = name.partition("@")
        if name.endswith("@") or metric not in METRICS:
            raise UnknownName("metric", name, {*METRICS, *self.figures})
        of_devices = [key for key in self.figures if key.startswith(f"{metric}@")]
        if device and of_devices:
            raise UnknownName("metric of a device", name, of_devices)

    @property
    def values(self) -> dict[str, float | None]:
        """The value of each figure, by its name; None for what was not measured."""
        return {name: figure.value for name, figure in self.figures.items()}

    @property
    def known(self) -> dict[str, float]:
        """The values of the figures that have one, by their names."""
        return {name: figure.value for name, figure in self.figures.items() if figure.value is not None}

    @property
    def intervals(self) -> dict[str, tuple[float, float]]:
        """The 95 % intervals (low, high) of the figures that have one, by their names."""
        return {
            name: (figure.low, figure.high)
            for name, figure in self.figures.items()
            if figure.low is not None and figure.high is not None
        }

    @property
    def reasons(self) -> dict[str, str]:
        """Why a figure is missing, by its name."""
        return {name: figure.reason for name, figure in self.figures.items() if figure.reason is not None}

    @property
    def notes(self) -> dict[str, str]:
        """What to know before a figure is believed, by its name."""
        return {name: figure.note for name, figure in self.figures.items() if figure.note is not None}

    def __or__(self, other: Metrics) -> Metrics:
        """These figures, replaced by those of `other` where it has them."""
        return Metrics({**self.figures, **other.figures})

    def at_end(self, better: bool) -> Metrics:
        """Move each figure to one end of its interval.

        Args:
            better: Whether to the better end (the lower one of a cost), or to the worse one.

        Returns:
            The moved figures; those without an interval as they are.
        """

        def moved(name: str, figure: Figure) -> Figure:
            if figure.low is None or figure.high is None:
                return figure
            lower_is_better = split(name)[0].direction == "minimize"
            return Figure(figure.low if lower_is_better == better else figure.high)

        return Metrics({name: moved(name, figure) for name, figure in self.figures.items()})

    def on_device(self, name: str) -> Metrics:
        """Pick the figures of one device of a fleet.

        Args:
            name: The device, as the space file names it.

        Returns:
            Its figures by the plain names of their metrics, and those that need no device.

        Raises:
            UnknownName: There are figures of devices, and none of this one.
        """
        devices = {key.partition("@")[2] for key in self.figures if "@" in key}
        if name not in devices and any(split(key)[0].on_device for key in self.figures):
            raise UnknownName("device with figures", name, devices)
        here = {key.partition("@")[0]: figure for key, figure in self.figures.items() if key.endswith(f"@{name}")}
        plain = {key: figure for key, figure in self.figures.items() if "@" not in key and not split(key)[0].on_device}
        return Metrics(plain | here)

    def printed(self) -> PrintedMetrics:
        return PrintedMetrics(self.values, self.intervals, self.reasons, self.notes)

    def to_json(self) -> dict[str, Any]:
        intervals = {name: list(pair) for name, pair in self.intervals.items()}
        return {"values": self.values, "intervals": intervals, "reasons": self.reasons, "notes": self.notes}

    @classmethod
    def of(
        cls,
        values: Mapping[str, float | None],
        intervals: Mapping[str, Sequence[float]] | None = None,
        reasons: Mapping[str, str] | None = None,
        notes: Mapping[str, str] | None = None,
    ) -> Metrics:
        """Make figures from the four views of the JSON form.

        Args:
            values: The values by name; None for what was not measured.
            intervals: (low, high) of those that have an interval.
            reasons: Why values are missing.
            notes: What to know before values are believed.

        Returns:
            One figure for each of `values`.
        """
        figures = {}
        for name, value in values.items():
            low, high = (intervals or {}).get(name, (None, None))
            figures[name] = Figure(value, low, high, (reasons or {}).get(name), (notes or {}).get(name))
        return cls(figures)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Metrics:
        return cls.of(value["values"], value["intervals"], value["reasons"], value["notes"])


NO_METRICS = Metrics({})


def ratio(cost: Figure, other: Figure) -> Figure | None:
    """One cost over another with its 95 % interval, that of two independent errors of their logarithms; None where one
    of them is not known, without an interval where one of them has none."""
    if not cost.value or not other.value:
        return None
    quotient, halves = cost.value / other.value, [_half_of_log(cost), _half_of_log(other)]
    if None in halves:
        return Figure(quotient)
    half = math.hypot(*(half for half in halves if half is not None))
    return Figure(quotient, quotient / math.exp(half), quotient * math.exp(half))


def _half_of_log(figure: Figure) -> float | None:
    """Half an interval, in natural logarithms."""
    if figure.low is None or figure.high is None or figure.low <= 0.0:
        return None
    return math.log(figure.high / figure.low) / 2


def metrics_of(measurement: Measurement) -> Metrics:
    """Read the figures out of a device's answer.

    Args:
        measurement: One measurement.

    Returns:
        Milliseconds, images per second, millijoules, watts and megabytes by the names of the metrics.
    """

    def figure(metric: DeviceMetric) -> Figure:
        measured = metric.figure(measurement)
        return Figure(None, reason=metric.reason(measurement) or NO_REASON) if measured is None else Figure(*measured)

    return Metrics({name: figure(metric) for name, metric in DEVICE_METRICS.items()})


def metrics_of_file(size_bytes: int, detail: Mapping[str, Any]) -> Metrics:
    """What is counted in an exported file.

    Args:
        size_bytes: Of the file, with those beside it.
        detail: What the export noted: `macs_m` and `params_m`.

    Returns:
        The metrics that need no device, but for those of the task.
    """
    counted = {"size_mb": size_bytes / 1e6, "params_m": detail["params_m"], "macs_m": detail["macs_m"]}
    return Metrics({name: Figure(value) for name, value in counted.items()})
