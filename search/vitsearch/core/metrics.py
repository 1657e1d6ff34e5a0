"""The metrics and their names, the same in space files, database, JSON and reports.

`latency_ms_p50` and `cpu_ms_p50` are, on a machine that others use too, those of a quiet machine, by reference
models that ran beside each model; `..._raw` are the times as they were read. On a quiet device both are the same.
Other times, such as `latency_ms_p95`, are as they were read.

A study with several devices writes `latency_ms_p50@nano`; `split` separates metric and device.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Direction = Literal["maximize", "minimize"]


@dataclass(frozen=True)
class Metric:
    """One metric. `direction` is the better one; `on_device`: a device measures it;
    `screened` whether the screening measurement before training gives it."""

    name: str
    unit: str
    direction: Direction
    on_device: bool
    screened: bool

    @property
    def is_share(self) -> bool:
        """Whether it is a share of images: two of them differ by points, not by a factor."""
        return not self.unit


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("accuracy", "", "maximize", on_device=False, screened=False),
        Metric("accuracy_balanced", "", "maximize", on_device=False, screened=False),
        Metric("recall_min", "", "maximize", on_device=False, screened=False),
        Metric("f1_macro", "", "maximize", on_device=False, screened=False),
        Metric("latency_ms_p50", "ms", "minimize", on_device=True, screened=True),
        Metric("latency_ms_p95", "ms", "minimize", on_device=True, screened=False),
        Metric("latency_ms_sustained_p50", "ms", "minimize", on_device=True, screened=False),
        Metric("cpu_ms_p50", "ms", "minimize", on_device=True, screened=True),
        Metric("latency_ms_p50_raw", "ms", "minimize", on_device=True, screened=True),
        Metric("cpu_ms_p50_raw", "ms", "minimize", on_device=True, screened=True),
        Metric("throughput_ips", "1/s", "maximize", on_device=True, screened=True),
        Metric("energy_mj", "mJ", "minimize", on_device=True, screened=False),
        Metric("power_w", "W", "minimize", on_device=True, screened=False),
        Metric("peak_memory_mb", "MB", "minimize", on_device=True, screened=True),
        Metric("load_ms", "ms", "minimize", on_device=True, screened=True),
        Metric("size_mb", "MB", "minimize", on_device=False, screened=True),
        Metric("macs_m", "M", "minimize", on_device=False, screened=True),
        Metric("params_m", "M", "minimize", on_device=False, screened=True),
    )
}

OF_CLASSES = ("accuracy_balanced", "recall_min", "f1_macro")
"""What is shown beside every accuracy (`vitsearch.core.confusion`); a limit may bound it, it is no objective yet. The
search does not predict it: a model is judged by it once its file was evaluated."""
QUALITIES = ("accuracy", *OF_CLASSES)
"""Metrics of a file's answers: shares of images, which no measurement of a device gives."""
TIMES = ("latency_ms_p50", "cpu_ms_p50", "latency_ms_p50_raw", "cpu_ms_p50_raw")
"""How long one run takes, as every measurement gives it."""
NEEDS = {
    "throughput": ("throughput_ips",),
    "soak": ("latency_ms_sustained_p50",),
    "power": ("energy_mj", "power_w"),
    "idle": ("energy_mj", "power_w"),
}
"""A key of the section `measure` -> the metrics that need it."""


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
