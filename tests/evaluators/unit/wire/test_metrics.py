"""What a declaration of a metric must say: a new one is complete where these tests pass."""

import pytest

from vitsearch_agent.wire.measure_protocol import SCREEN
from vitsearch_agent.wire.measurement import Contention, Latency, Measurement, Power, Reading
from vitsearch_agent.wire.metrics import DEVICE_METRICS, PHASES, Figure

TIMES = Latency(700, 2.0, 2.5, 2.6, 2.7, 2.1, 1.9, 3.0, 1.95, 2.05)
METRICS = [pytest.param(metric, id=name) for name, metric in DEVICE_METRICS.items()]
FURTHER = {"peak_power_w": Reading(6.5, None)}
NOTHING = dict.fromkeys(Measurement._fields)
WHOLE = Measurement(
    **dict(
        NOTHING,
        protocol=SCREEN,
        latency_ms=TIMES,
        cpu_ms=TIMES,
        sustained=TIMES,
        concurrent=TIMES,
        load_ms=12.5,
        throughput_ips=476.2,
        peak_memory_mb=30.5,
        gpu_memory_mb=310.5,
        power=Power(4.5, 2.1, 9.0, 4.8, "ina3221", "module", False, 20.0, 200, 0.01, FURTHER),
        contention=Contention(0.01, 1.0),
        basis="raw",
        reasons={},
    )
)
OPTIONAL = (
    "cpu_ms",
    "sustained",
    "concurrent",
    "load_ms",
    "throughput_ips",
    "peak_memory_mb",
    "gpu_memory_mb",
    "power",
)


def lacking(names):
    """A measurement of which nothing is known but a latency, and why."""
    short = TIMES._replace(p95=None)
    return WHOLE._replace(**dict.fromkeys(OPTIONAL), latency_ms=short, reasons={name: f"no {name}" for name in names})


@pytest.mark.parametrize("metric", METRICS)
def test_a_metric_says_what_it_is(metric):
    assert metric.name.isidentifier()
    assert metric.name == metric.name.lower()
    assert metric.unit
    assert metric.title
    assert metric.direction in ("minimize", "maximize")
    assert set(metric.phases) <= set(PHASES)
    assert set(metric.grows_with) <= {"batch", "threads", "streams"}
    assert metric.form.format(1.0)


@pytest.mark.parametrize("metric", METRICS)
def test_a_metric_is_read_from_a_whole_measurement(metric):
    figure = metric.figure(WHOLE)
    assert figure.value > 0
    assert (figure.low is not None) == metric.has_interval


@pytest.mark.parametrize("metric", METRICS)
def test_a_missing_metric_has_its_reason(metric):
    without = lacking(metric.reasons)
    if metric.figure(without) is not None:
        assert metric.reasons == ("latency_ms",), "every measurement has a latency"
        return
    assert metric.reason(without) == f"no {metric.reasons[0]}"
    assert metric.reason(without._replace(reasons={})) is None


@pytest.mark.parametrize("metric", METRICS)
def test_a_metric_that_is_forecast_follows_one_that_is_screened(metric):
    if metric.forecast is not None:
        assert metric.forecast.scatter > 0
        followed = metric.forecast.proportional_to
        assert followed is None or DEVICE_METRICS[followed].forecast is None
        assert not metric.has_interval, "a screening takes all medians with their intervals"


def test_a_further_metric_of_the_power_phase_has_a_reason_of_its_own():
    power = DEVICE_METRICS["power_w"]._replace(read=lambda measurement: measurement.power.further.get("other"))
    counted = WHOLE._replace(power=WHOLE.power._replace(further={"other": Reading(None, "only counted")}))
    assert power.figure(counted) is None
    assert power.reason(counted._replace(reasons={"power": "a note on the others"})) == "only counted"
    found = WHOLE._replace(power=WHOLE.power._replace(further={"other": Reading(5.0, None)}))
    assert power.figure(found) == Figure(5.0, None, None)


def test_a_metric_of_a_phase_is_not_expected_without_it():
    sustained = DEVICE_METRICS["latency_ms_sustained_p50"]
    assert not sustained.was_asked_for(WHOLE)
    assert sustained.was_asked_for(WHOLE._replace(protocol=SCREEN._replace(soak_s=10.0)))
