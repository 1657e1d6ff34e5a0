"""The figures of a model: values, intervals and reasons."""

from __future__ import annotations

import asyncio
import json

import pytest

from vitsearch.core.figures import NO_REASON, Figure, Metrics, metrics_of
from vitsearch.core.metrics import METRICS
from vitsearch.testing.fakes import FakeDevice
from vitsearch_evaluators.wire.protocol import CONFIRM


@pytest.fixture
def result(tmp_path, plan):
    file = tmp_path / "model"
    file.write_text(json.dumps({"cost_ms": 2.0}))
    found = asyncio.run(FakeDevice().measure(file, plan.deployment, CONFIRM, 0)).to_json()
    return json.loads(json.dumps(found))


def test_every_figure_is_a_metric_that_a_device_measures(result):
    assert set(metrics_of(result).figures) == {name for name, metric in METRICS.items() if metric.on_device}


def test_values_and_intervals_have_the_names_of_their_metrics(result):
    metrics = metrics_of(result)
    assert metrics.value("cpu_ms_p50") == 2.0
    assert metrics.value("throughput_ips") == 500.0
    assert metrics.intervals == {"latency_ms_p50": (1.98, 2.02), "cpu_ms_p50": (1.98, 2.02)}


def test_a_figure_that_was_not_measured_is_none_with_the_reason_of_the_device(result):
    metrics = metrics_of(result)
    assert metrics.value("energy_mj") is None
    assert metrics.reasons["energy_mj"] == metrics.reasons["power_w"] == "a fake has no meter"


def test_too_few_runs_are_the_reason_for_a_missing_quantile(result):
    result["latency_ms"]["p95"] = None
    metrics = metrics_of(result)
    assert metrics.value("latency_ms_p95") is None
    assert metrics.reasons["latency_ms_p95"] == "1000 runs are too few for a 95th percentile"


def test_a_program_without_cpu_time_has_no_value_and_no_interval_for_it(result):
    result["reasons"]["cpu_ms"] = "the program does not report it"
    metrics = metrics_of(result | {"cpu_ms": None})
    assert metrics.value("cpu_ms_p50") is None
    assert set(metrics.intervals) == {"latency_ms_p50"}
    assert metrics.reasons["cpu_ms_p50"] == "the program does not report it"


def test_a_device_that_gives_no_reason_is_named_as_such(result):
    result["reasons"] = {}
    assert metrics_of(result | {"peak_memory_mb": None}).reasons["peak_memory_mb"] == NO_REASON


def test_every_missing_figure_has_a_reason(result):
    missing = result | dict.fromkeys(("cpu_ms", "throughput_ips", "peak_memory_mb", "load_ms"))
    metrics = metrics_of(missing)
    assert set(metrics.reasons) == {name for name, value in metrics.values.items() if value is None}


def test_json_keeps_every_figure():
    metrics = Metrics(
        {"accuracy": Figure(0.9, 0.88, 0.92), "energy_mj": Figure(None, reason="no meter"), "size_mb": Figure(1.0)}
    )
    assert Metrics.from_json(json.loads(json.dumps(metrics.to_json()))) == metrics


def test_later_figures_replace_earlier_ones():
    both = Metrics({"size_mb": Figure(1.0), "load_ms": Figure(2.0)}) | Metrics({"size_mb": Figure(3.0)})
    assert both.values == {"size_mb": 3.0, "load_ms": 2.0}
