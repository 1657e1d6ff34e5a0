"""How much worse than the baseline a model is for its batch and threads alone."""

from __future__ import annotations

import pytest

from vitsearch.core.limits import reference_values
from vitsearch.core.metrics import METRICS
from vitsearch.core.run_sizes import ONE, RunSizes


def test_one_image_and_one_thread_worsen_nothing():
    assert {ONE.worsening(name) for name in METRICS} == {1.0}


@pytest.mark.parametrize(
    ("metric", "factor"),
    [("latency_ms_p50", 8.0), ("latency_ms_p95", 8.0), ("cpu_ms_p50", 16.0), ("throughput_ips", 2.0), ("size_mb", 1.0)],
)
def test_a_run_takes_at_most_as_much_longer_as_it_has_images(metric, factor):
    assert RunSizes((1, 8), (1, 2)).worsening(metric) == factor


def test_streams_change_the_latency_beside_other_runs_alone():
    sizes = RunSizes((1, 2), (1,), (4, 1, 2))
    assert sizes.worsening("latency_ms_concurrent_p50") == 8.0
    assert sizes.worsening("latency_ms_p50") == 2.0


def test_the_baseline_has_the_first_batch():
    assert RunSizes((8, 1)).worsening("latency_ms_p50") == 1.0
    assert RunSizes((8, 1)).worsening("throughput_ips") == 8.0


def test_the_corner_leaves_room_for_the_largest_batch():
    seen = {"latency_ms_p50": 2.0, "throughput_ips": 100.0, "size_mb": 3.0}
    one, eight = (reference_values([*seen], (), seen, sizes) for sizes in (ONE, RunSizes((1, 8))))
    assert eight["latency_ms_p50"] == pytest.approx(8 * one["latency_ms_p50"])
    assert (eight["throughput_ips"], eight["size_mb"]) == (one["throughput_ips"], one["size_mb"])
