"""The table of metrics."""

from __future__ import annotations

import pytest

from vitsearch.core.metrics import METRICS, at_device, metrics_on, split

UNITS = {"_ms": "ms", "_mj": "mJ", "_w": "W", "_mb": "MB", "_ips": "1/s", "_m": "M"}


def test_metric_names_are_fixed():
    assert set(METRICS) == {
        "latency_ms_p50", "latency_ms_p95", "latency_ms_sustained_p50", "cpu_ms_p50", "throughput_ips",
        "latency_ms_p50_raw", "cpu_ms_p50_raw",
        "energy_mj", "power_w", "peak_memory_mb", "size_mb", "load_ms", "accuracy", "macs_m", "params_m",
        "accuracy_top5", "accuracy_balanced", "recall_min", "f1_macro", "cosine", "neighbours", "knn_accuracy",
    }  # fmt: skip


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_a_name_carries_its_unit(metric):
    base = metric.name.removesuffix("_raw").removesuffix("_p50").removesuffix("_p95").removesuffix("_sustained")
    named = next((unit for end, unit in UNITS.items() if base.endswith(end)), "")
    assert metric.unit == named


def test_only_shares_and_throughput_are_maximized():
    assert {name for name, metric in METRICS.items() if metric.direction == "maximize"} == {
        "accuracy",
        "accuracy_top5",
        "accuracy_balanced",
        "recall_min",
        "f1_macro",
        "cosine",
        "neighbours",
        "knn_accuracy",
        "throughput_ips",
    }


def test_metrics_that_screening_does_not_give():
    assert {name for name, metric in METRICS.items() if not metric.screened and not metric.is_quality} == {
        "latency_ms_p95", "latency_ms_sustained_p50", "energy_mj", "power_w",
    }  # fmt: skip
    assert not any(metric.screened for metric in METRICS.values() if metric.is_quality)


def test_a_name_may_carry_its_device():
    assert split("cpu_ms_p50") == (METRICS["cpu_ms_p50"], None)
    assert split("cpu_ms_p50@pi") == (METRICS["cpu_ms_p50"], "pi")


def test_an_unknown_metric_is_an_error():
    with pytest.raises(KeyError, match="latency_ms"):
        split("latency_ms@pi")


def test_a_metric_of_another_device_is_not_measured_on_this_one():
    assert at_device("cpu_ms_p50", "pi") == "cpu_ms_p50@pi"
    assert metrics_on("pi", ["accuracy", "cpu_ms_p50@pi", "energy_mj@nano"]) == ["accuracy", "cpu_ms_p50@pi"]
