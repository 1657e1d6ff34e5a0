"""The metrics that a device measures: one declaration for each, read by the agent and the search.

It says what tables, bundles, their verification, forecasts and pages do with the metric, so a new one needs an entry
here and the code that measures it.
"""

from typing import Any, Callable, Mapping, NamedTuple, Optional, Tuple, Union

from vitsearch_agent.base import json_reader
from vitsearch_agent.wire.measurement import Latency, Measurement, Reading
from vitsearch_agent.wire.paired import Milliseconds

PHASES = ("throughput", "soak", "power", "idle")
"""The phases of a measurement beside its timed runs; each has a length `..._s` in the protocol."""


class Figure(NamedTuple):
    """A measured value with its 95 % interval, None where it has none."""

    value: float
    low: Optional[float]
    high: Optional[float]

    @classmethod
    def from_json(cls, value: Any, where: str = "figure") -> "Figure":
        return cls(**json_reader.read_object(value, _FIGURE, where))


_FIGURE = json_reader.of_fields(Figure)


class Forecast(NamedTuple):
    """How a metric that only a confirmation measures is expected of a model that was only screened.

    Attributes:
        proportional_to: The screened metric that it is in proportion to; None where it is about the same for all
            models.
        scatter: The standard deviation, on a log scale, of what it is multiplied by between models that run in other
            ways.
    """

    proportional_to: Optional[str]
    scatter: float = 0.3


class DeviceMetric(NamedTuple):
    """One metric of a measurement.

    Attributes:
        name: The same in space files, database, JSON and reports.
        unit: Of its value.
        title: What a sentence calls it: "latency, median".
        read: Its value in a measurement, its median with the interval, or a reading; None where it was not measured.
        reasons: The names under which `Measurement.reasons` says why there is none; the first one there counts.
        direction: The better one.
        phases: Those of `PHASES` that it needs.
        forecast: How it is expected; None for a metric that every screening measures.
        grows_with: Of "batch", "threads" and "streams" those that may worsen it in proportion, for they change the run
            that is timed.
        has_interval: Whether `read` gives a median with its interval, by which measurements are pooled; others are
            pooled by their median.
        is_raw: Whether it is a time as it was read, of which another metric shows what a quiet machine takes.
        is_common: Whether every device measures it, so that its absence is explained in a table.
        is_compared: Whether it is shown beside the objectives of a model.
        heading: Of its column in a table of measurements; empty for none.
        form: Of a cell in this column.
    """

    name: str
    unit: str
    title: str
    read: Callable[[Measurement], Union[None, float, Milliseconds, Reading]]
    reasons: Tuple[str, ...]
    direction: str = "minimize"
    phases: Tuple[str, ...] = ()
    forecast: Optional[Forecast] = None
    grows_with: Tuple[str, ...] = ()
    has_interval: bool = False
    is_raw: bool = False
    is_common: bool = True
    is_compared: bool = False
    heading: str = ""
    form: str = "{:.3f}"

    @property
    def is_of_a_run(self) -> bool:
        """Whether it is the time of a run, which has as many images as its batch."""
        return "batch" in self.grows_with and self.direction == "minimize"

    def figure(self, measurement: Measurement) -> Optional[Figure]:
        """Read the metric out of a measurement.

        Args:
            measurement: Of any runtime and protocol.

        Returns:
            Its value, with the interval if it has one; None where it was not measured.
        """
        value = self.read(measurement)
        if isinstance(value, Milliseconds):
            return Figure(value.p50, value.low, value.high)
        if isinstance(value, Reading):
            value = value.number
        return None if value is None else Figure(value, None, None)

    def reason(self, measurement: Measurement) -> Optional[str]:
        """Look up why a measurement lacks the metric.

        Args:
            measurement: One without it.

        Returns:
            The reason that the device gave; None if it gave none.
        """
        value = self.read(measurement)
        if isinstance(value, Reading):
            return value.reason
        return next((measurement.reasons[name] for name in self.reasons if name in measurement.reasons), None)

    def was_asked_for(self, measurement: Measurement) -> bool:
        """Whether the protocol of a measurement has the phases that the metric needs."""
        return all(getattr(measurement.protocol, f"{phase}_s") > 0 for phase in self.phases if phase != "idle")


def _as_read(times: Optional[Latency]) -> Optional[Milliseconds]:
    return None if times is None else Milliseconds(times.p50, times.ci95_low, times.ci95_high)


def _of_times(field: str, quantile: str) -> Callable[[Measurement], Optional[float]]:
    def read(measurement: Measurement) -> Optional[float]:
        times = getattr(measurement, field)
        return None if times is None else getattr(times, quantile)

    return read


def _of_power(field: str) -> Callable[[Measurement], Optional[float]]:
    def read(measurement: Measurement) -> Optional[float]:
        return None if measurement.power is None else getattr(measurement.power, field)

    return read


def _further_of_power(name: str) -> Callable[[Measurement], Optional[Reading]]:
    def read(measurement: Measurement) -> Optional[Reading]:
        power = measurement.power
        return None if power is None else power.further.get(name, Reading(None, None))

    return read


_WHILE_METERED = ("power", "idle")
_POWER_OF_DEVICES = 0.6931
"""ln 2: a GPU may draw several times the power of a CPU."""

DEVICE_METRICS: Mapping[str, DeviceMetric] = {
    metric.name: metric
    for metric in (
        DeviceMetric(
            "latency_ms_p50",
            "ms",
            "latency, median",
            read=lambda measurement: measurement.shown_latency_ms,
            reasons=("latency_ms",),
            grows_with=("batch",),
            has_interval=True,
            is_compared=True,
            heading="p50 ms",
        ),
        DeviceMetric(
            "latency_ms_p95",
            "ms",
            "latency, 95th percentile",
            read=_of_times("latency_ms", "p95"),
            reasons=("latency_ms_p95",),
            forecast=Forecast("latency_ms_p50"),
            grows_with=("batch",),
        ),
        DeviceMetric(
            "latency_ms_sustained_p50",
            "ms",
            "latency under load, median",
            read=_of_times("sustained", "p50"),
            reasons=("sustained",),
            phases=("soak",),
            forecast=Forecast("latency_ms_p50"),
            grows_with=("batch",),
            heading="sustained",
        ),
        DeviceMetric(
            "latency_ms_concurrent_p50",
            "ms",
            "latency beside other runs, median",
            read=_of_times("concurrent", "p50"),
            reasons=("concurrent",),
            phases=("throughput",),
            grows_with=("batch", "streams"),
            heading="concurrent",
        ),
        DeviceMetric(
            "latency_ms_concurrent_p95",
            "ms",
            "latency beside other runs, 95th percentile",
            read=_of_times("concurrent", "p95"),
            reasons=("concurrent_p95", "concurrent"),
            phases=("throughput",),
            forecast=Forecast("latency_ms_concurrent_p50"),
            grows_with=("batch", "streams"),
        ),
        DeviceMetric(
            "cpu_ms_p50",
            "ms",
            "CPU time, median",
            read=lambda measurement: measurement.shown_cpu_ms,
            reasons=("cpu_ms",),
            grows_with=("batch", "threads"),
            has_interval=True,
            heading="CPU ms",
        ),
        DeviceMetric(
            "latency_ms_p50_raw",
            "ms",
            "latency as read, median",
            read=lambda measurement: _as_read(measurement.latency_ms),
            reasons=("latency_ms",),
            grows_with=("batch",),
            has_interval=True,
            is_raw=True,
        ),
        DeviceMetric(
            "cpu_ms_p50_raw",
            "ms",
            "CPU time as read, median",
            read=lambda measurement: _as_read(measurement.cpu_ms),
            reasons=("cpu_ms",),
            grows_with=("batch", "threads"),
            has_interval=True,
            is_raw=True,
        ),
        DeviceMetric(
            "throughput_ips",
            "1/s",
            "throughput",
            read=lambda measurement: measurement.throughput_ips,
            reasons=("throughput_ips",),
            direction="maximize",
            phases=("throughput",),
            grows_with=("batch", "threads"),
            heading="images/s",
            form="{:.1f}",
        ),
        DeviceMetric(
            "energy_mj",
            "mJ",
            "energy of an inference",
            read=_of_power("energy_mj"),
            reasons=("power",),
            phases=_WHILE_METERED,
            forecast=Forecast("latency_ms_p50", _POWER_OF_DEVICES),
            heading="mJ",
            form="{:.2f}",
        ),
        DeviceMetric(
            "power_w",
            "W",
            "power under load",
            read=_of_power("mean_w"),
            reasons=("power",),
            phases=_WHILE_METERED,
            forecast=Forecast(None, _POWER_OF_DEVICES),
            heading="W",
            form="{:.2f}",
        ),
        DeviceMetric(
            "peak_power_w",
            "W",
            "highest power under load",
            read=_further_of_power("peak_power_w"),
            reasons=("power",),
            phases=_WHILE_METERED,
            forecast=Forecast(None, _POWER_OF_DEVICES),
            heading="peak W",
            form="{:.2f}",
        ),
        DeviceMetric(
            "peak_memory_mb",
            "MB",
            "peak memory",
            read=lambda measurement: measurement.peak_memory_mb,
            reasons=("peak_memory_mb",),
            is_compared=True,
            heading="memory MB",
            form="{:.1f}",
        ),
        DeviceMetric(
            "gpu_memory_mb",
            "MB",
            "memory of the GPU",
            read=lambda measurement: measurement.gpu_memory_mb,
            reasons=("gpu_memory_mb",),
            is_common=False,
            heading="GPU MB",
            form="{:.1f}",
        ),
        DeviceMetric(
            "load_ms",
            "ms",
            "time to load",
            read=lambda measurement: measurement.load_ms,
            reasons=("load_ms",),
        ),
    )
}
