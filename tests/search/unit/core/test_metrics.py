"""The one table of metric names."""

from __future__ import annotations

import pytest

from vitsearch.core.metrics import METRICS, split

UNITS = {"_ms": "ms", "_mj": "mJ", "_w": "W", "_mb": "MB", "_ips": "1/s", "_m": "M"}


def test_the_names_are_those_of_the_design():
    assert set(METRICS) == {
        "latency_ms_p50", "latency_ms_p95", "latency_ms_sustained_p50", "cpu_ms_p50", "throughput_ips",
        "energy_mj", "power_w", "peak_memory_mb", "size_mb", "load_ms", "accuracy", "macs_m", "params_m",
    }  # fmt: skip


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_a_name_carries_its_unit(metric):
    base = metric.name.removesuffix("_p50").removesuffix("_p95").removesuffix("_sustained")
    named = next((unit for end, unit in UNITS.items() if base.endswith(end)), "")
    assert metric.unit == named


def test_more_is_better_for_two():
    assert {name for name, metric in METRICS.items() if metric.direction == "maximize"} == {
        "accuracy",
        "throughput_ips",
    }


def test_what_a_screen_cannot_tell():
    assert {name for name, metric in METRICS.items() if not metric.screened} == {
        "accuracy", "latency_ms_p95", "latency_ms_sustained_p50", "energy_mj", "power_w",
    }  # fmt: skip


def test_a_name_may_carry_its_device():
    assert split("cpu_ms_p50") == (METRICS["cpu_ms_p50"], None)
    assert split("cpu_ms_p50@pi") == (METRICS["cpu_ms_p50"], "pi")


def test_an_unknown_metric_is_an_error():
    with pytest.raises(KeyError, match="latency_ms"):
        split("latency_ms@pi")
