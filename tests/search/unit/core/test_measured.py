"""A device's answer as metrics of the study."""

from __future__ import annotations

import asyncio
import json

import pytest

from vitsearch.core.measured import values_of
from vitsearch.core.metrics import METRICS
from vitsearch.testing.fakes import FakeDevice
from vitsearch_evaluators.wire.protocol import CONFIRM


@pytest.fixture
def result(tmp_path, plan):
    file = tmp_path / "model"
    file.write_text(json.dumps({"cost_ms": 2.0}))
    found = asyncio.run(FakeDevice().measure(file, plan.deployment, CONFIRM, 0)).to_json()
    return json.loads(json.dumps(found))


def test_every_value_is_a_metric_that_a_device_measures(result):
    values, _ = values_of(result)
    assert set(values) == {name for name, metric in METRICS.items() if metric.on_device}


def test_values_stand_under_their_names(result):
    values, errors = values_of(result)
    assert values["cpu_ms_p50"] == 2.0
    assert values["throughput_ips"] == 500.0
    assert errors == {"latency_ms_p50": (1.98, 2.02), "cpu_ms_p50": (1.98, 2.02)}


def test_what_was_not_measured_is_none(result):
    result["latency_ms"]["p95"] = None
    values, _ = values_of(result)
    assert values["energy_mj"] is None
    assert values["latency_ms_p95"] is None


def test_a_program_that_tells_no_cpu_time_has_none_and_no_interval_for_it(result):
    values, errors = values_of(result | {"cpu_ms": None})
    assert values["cpu_ms_p50"] is None
    assert set(errors) == {"latency_ms_p50"}
