"""The table of metrics."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from vitsearch.core.metrics import METRICS, at_device, declare, metrics_on, quality, split
from vitsearch.errors import TaskError

UNITS = {"_ms": "ms", "_mj": "mJ", "_w": "W", "_mb": "MB", "_ips": "1/s", "_m": "M"}


NAMES = tuple(METRICS)
"""Before any test: a task of one's own adds its metrics."""


def test_metric_names_are_fixed():
    assert set(NAMES) == {
        "latency_ms_p50", "latency_ms_p95", "latency_ms_sustained_p50", "cpu_ms_p50", "throughput_ips",
        "latency_ms_concurrent_p50", "latency_ms_concurrent_p95", "latency_ms_p50_raw", "cpu_ms_p50_raw",
        "energy_mj", "power_w", "peak_power_w", "peak_memory_mb", "gpu_memory_mb", "size_mb", "load_ms",
        "macs_m", "params_m",
        "accuracy", "accuracy_top5", "accuracy_balanced", "recall_min", "f1_macro", "cosine", "neighbours",
        "knn_accuracy", "mean_iou", "iou_min", "pixel_accuracy",
    }  # fmt: skip


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_a_name_carries_its_unit(metric):
    base = re.sub(r"(_sustained|_concurrent)?(_p50|_p95)?(_raw)?$", "", metric.name)
    named = next((unit for end, unit in UNITS.items() if base.endswith(end)), "")
    assert metric.unit == named


def test_only_shares_and_throughput_are_maximized():
    assert {name for name in NAMES if METRICS[name].direction == "maximize"} == {
        "accuracy",
        "accuracy_top5",
        "accuracy_balanced",
        "recall_min",
        "f1_macro",
        "cosine",
        "neighbours",
        "knn_accuracy",
        "mean_iou",
        "iou_min",
        "pixel_accuracy",
        "throughput_ips",
    }


def test_metrics_that_screening_does_not_give():
    assert {name for name, metric in METRICS.items() if not metric.screened and not metric.is_quality} == {
        "latency_ms_p95", "latency_ms_sustained_p50", "latency_ms_concurrent_p95", "energy_mj", "power_w",
        "peak_power_w",
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


ends = st.integers(-1000, 1000).map(float)
shares = st.floats(-1.0, 2.0)


@st.composite
def spans(draw):
    """Qualities of which more is better, and of which less is."""
    worst, best = draw(ends), draw(ends)
    assume(worst != best)
    return quality("likeness", worst, best)


@given(spans())
def test_the_best_value_has_no_error_and_the_worst_one_all(metric):
    worst, best = metric.span
    assert (metric.error(best), metric.error(worst)) == (0.0, 1.0)
    assert (metric.at_error(0.0), metric.at_error(1.0)) == (best, worst)
    assert metric.gain(best, worst) == 1.0
    assert metric.width == abs(best - worst)


@given(spans(), shares, shares)
def test_a_better_value_has_less_error_and_is_a_gain(metric, share, other):
    value, before = metric.at_error(share), metric.at_error(other)
    assert metric.error(value) == pytest.approx(share, abs=1e-9)
    assert metric.gain(value, before) == pytest.approx(other - share, abs=1e-9)
    if abs(share - other) > 1e-6:
        is_better = value > before if metric.direction == "maximize" else value < before
        assert is_better == (share < other)


@given(spans(), shares, st.floats(-1.0, 1.0))
def test_a_value_that_is_moved_is_better_by_that_and_never_beyond_the_best(metric, share, by):
    value = metric.at_error(share)
    assert metric.gain(metric.shifted(value, by), value) == pytest.approx(by, abs=1e-9)
    assert metric.error(metric.moved(value, by)) == pytest.approx(max(0.0, share - by), abs=1e-9)


def test_a_quality_is_better_towards_its_best_value():
    higher, lower = quality("likeness"), quality("median_error", worst=180.0, best=0.0, unit="degrees")
    assert (higher.direction, higher.is_share, higher.width) == ("maximize", True, 1.0)
    assert (lower.direction, lower.is_share, lower.width) == ("minimize", False, 180.0)
    assert higher.is_quality
    assert lower.is_quality
    assert not METRICS["cpu_ms_p50"].is_quality


@pytest.mark.parametrize("name", ["", "Likeness", "like ness", "like-ness", "1st", "likeness@pi"])
def test_a_name_that_no_space_file_could_state_is_refused(name):
    with pytest.raises(TaskError, match="is not a valid name of a metric: allowed are small letters, digits and _"):
        quality(name)


def test_a_quality_without_a_span_is_refused():
    with pytest.raises(TaskError, match="metric likeness: worst and best are both 0.5"):
        quality("likeness", 0.5, 0.5)


@pytest.fixture
def likeness():
    """A name that is free, and free again after the test."""
    yield "likeness"
    METRICS.pop("likeness", None)


def test_a_metric_is_declared_once(likeness):
    own = quality(likeness, worst=0.1)
    declare([own, METRICS["accuracy"]])
    declare([replace(own)])
    assert split(likeness) == (own, None)
    with pytest.raises(TaskError, match="metric likeness: another metric has this name"):
        declare([quality(likeness, worst=0.2)])
    with pytest.raises(TaskError, match="metric cpu_ms_p50: another metric has this name"):
        declare([quality("cpu_ms_p50")])


@pytest.mark.parametrize(
    ("name", "value", "is_possible"),
    [
        ("accuracy", 1.0, True),
        ("accuracy", 1.5, False),
        ("accuracy", -0.1, False),
        ("cosine", -0.1, True),
        ("cosine", 1.0 + 1e-7, True),
        ("cosine", 1.1, False),
        ("latency_ms_p50", -0.1, False),
    ],
)
def test_a_value_that_no_model_can_have_is_told(name, value, is_possible):
    assert METRICS[name].is_possible(value) == is_possible


@pytest.mark.parametrize("metric", [*METRICS.values(), quality("mean_cost", worst=0.5, best=0.0)], ids=lambda m: m.name)
@given(value=st.floats(-3, 3))
def test_the_nearest_possible_value_is_one_that_a_model_can_have(metric, value):
    nearest = metric.nearest_possible(value)
    assert metric.is_possible(nearest)
    if metric.is_possible(value):
        assert nearest == pytest.approx(value, abs=1e-5)


def test_a_count_of_images_is_at_best_all_of_them():
    with pytest.raises(TaskError, match="metric warm: a share of the images that are right is at best 1"):
        quality("warm", worst=1.0, best=0.0, is_count=True)
