"""The figures of a model: values, intervals and reasons."""

from __future__ import annotations

import asyncio
import json

import pytest

from vitsearch.core.figures import NO_METRICS, NO_REASON, Figure, Metrics, metrics_of
from vitsearch.core.metrics import METRICS
from vitsearch.errors import UnknownName
from vitsearch.testing.fakes import FakeDevice, fake_times
from vitsearch_agent.wire.paired import Paired, Ratio, ReferenceTimes
from vitsearch_agent.wire.protocol import CONFIRM


@pytest.fixture
def result(tmp_path, plan):
    file = tmp_path / "model"
    file.write_text(json.dumps({"cost_ms": 2.0}))
    measurement = asyncio.run(FakeDevice().measure(file, plan.deployment, CONFIRM, 0))
    return measurement._replace(latency_ms=fake_times(2.0, 0.01), cpu_ms=fake_times(2.0, 0.01))


def test_every_figure_is_a_metric_that_a_device_measures(result):
    assert set(metrics_of(result).figures) == {name for name, metric in METRICS.items() if metric.on_device}


def test_values_and_intervals_have_the_names_of_their_metrics(result):
    metrics = metrics_of(result)
    assert metrics.value("cpu_ms_p50") == 2.0
    assert metrics.value("throughput_ips") == 500.0
    names = ("latency_ms_p50", "cpu_ms_p50", "latency_ms_p50_raw", "cpu_ms_p50_raw")
    assert metrics.intervals == dict.fromkeys(names, (1.98, 2.02))


PAIRED_TIMES = ReferenceTimes(2.0, 0.1, 2.0, 0.1, 40, False)


def test_a_shared_machine_shows_the_time_beside_the_references_and_keeps_the_raw_one(result):
    paired = Paired("0" * 64, Ratio(4.0, 0.5, 0.0, 0.1, 20.0), None, PAIRED_TIMES)
    metrics = metrics_of(result._replace(basis="paired", paired=paired))
    quiet_ms = 4.0 * (2.0 * 0.1) ** 0.5
    assert metrics.value("cpu_ms_p50") == metrics.value("latency_ms_p50") == pytest.approx(quiet_ms)
    assert metrics.intervals["cpu_ms_p50"] == pytest.approx((quiet_ms / 1.1, quiet_ms * 1.1))
    assert metrics_of(result._replace(paired=paired)).value("cpu_ms_p50") == 2.0, "a quiet device shows what was read"


def test_each_figure_moves_to_the_better_or_the_worse_end_of_its_interval():
    metrics = Metrics({"cpu_ms_p50": Figure(2.0, 1.9, 2.2), "accuracy": Figure(0.9, 0.8, 0.95), "size_mb": Figure(1.0)})
    assert metrics.at_end(better=True).values == {"cpu_ms_p50": 1.9, "accuracy": 0.95, "size_mb": 1.0}
    assert metrics.at_end(better=False).values == {"cpu_ms_p50": 2.2, "accuracy": 0.8, "size_mb": 1.0}


def test_a_figure_that_was_not_measured_is_none_with_the_reason_of_the_device(result):
    metrics = metrics_of(result)
    assert metrics.value("energy_mj") is None
    assert metrics.reasons["energy_mj"] == metrics.reasons["power_w"] == "a fake has no meter"


def test_too_few_runs_are_the_reason_for_a_missing_quantile(result):
    reasons = {"latency_ms_p95": "130 runs are needed, 64 were timed"}
    metrics = metrics_of(result._replace(latency_ms=result.latency_ms._replace(p95=None), reasons=reasons))
    assert metrics.value("latency_ms_p95") is None
    assert metrics.reasons["latency_ms_p95"] == "130 runs are needed, 64 were timed"


def test_a_program_without_cpu_time_has_no_value_and_no_interval_for_it(result):
    metrics = metrics_of(result._replace(cpu_ms=None, reasons={"cpu_ms": "the program does not report it"}))
    assert metrics.value("cpu_ms_p50") is None
    assert set(metrics.intervals) == {"latency_ms_p50", "latency_ms_p50_raw"}
    assert metrics.reasons["cpu_ms_p50"] == "the program does not report it"


def test_a_device_that_gives_no_reason_is_named_as_such(result):
    silent = result._replace(peak_memory_mb=None, reasons={})
    assert metrics_of(silent).reasons["peak_memory_mb"] == NO_REASON


def test_every_missing_figure_has_a_reason(result):
    missing = dict.fromkeys(("cpu_ms", "throughput_ips", "peak_memory_mb", "load_ms"))
    metrics = metrics_of(result._replace(**missing))
    assert set(metrics.reasons) == {name for name, value in metrics.values.items() if value is None}


def test_json_keeps_every_figure():
    metrics = Metrics(
        {"accuracy": Figure(0.9, 0.88, 0.92), "energy_mj": Figure(None, reason="no meter"), "size_mb": Figure(1.0)}
    )
    assert Metrics.from_json(json.loads(json.dumps(metrics.to_json()))) == metrics


def test_later_figures_replace_earlier_ones():
    both = Metrics({"size_mb": Figure(1.0), "load_ms": Figure(2.0)}) | Metrics({"size_mb": Figure(3.0)})
    assert both.values == {"size_mb": 3.0, "load_ms": 2.0}


def test_one_device_of_a_fleet_has_its_own_figures_under_their_plain_names():
    names = ("accuracy", "size_mb", "cpu_ms_p50", "cpu_ms_p50@nano", "cpu_ms_p50@pi5")
    metrics = Metrics({name: Figure(float(number)) for number, name in enumerate(names)})
    assert metrics.on_device("nano").values == {"accuracy": 0.0, "size_mb": 1.0, "cpu_ms_p50": 3.0}


OF_TWO_BOARDS = Metrics({"cpu_ms_p50": Figure(2.0), "cpu_ms_p50@pi": Figure(2.0), "cpu_ms_p50@nano": Figure(1.0)})


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("f1", ""),
        ("energy", "energy_mj"),
        ("cpu", "cpu_ms_p50"),
        ("acuracy", "accuracy"),
        ("CPU_MS_P50", "cpu_ms_p50"),
        ("cpu_ms_p50@", "cpu_ms_p50"),
    ],
)
def test_a_name_that_is_no_metric_is_an_error_with_the_nearest_name(name, nearest):
    with pytest.raises(UnknownName, match=f"no metric is called '{name}'") as error:
        NO_METRICS.value(name)
    assert (f"did you mean {nearest!r}?" in str(error.value)) == bool(nearest)
    assert "latency_ms_p50" in str(error.value), "the known names are said"


def test_a_device_without_figures_beside_others_that_have_them_is_an_error():
    assert OF_TWO_BOARDS.value("cpu_ms_p50@nano") == 1.0
    with pytest.raises(UnknownName, match="did you mean 'cpu_ms_p50@nano'"):
        OF_TWO_BOARDS.value("cpu_ms_p50@nanno")


def test_the_figures_of_a_device_that_has_none_are_refused():
    assert OF_TWO_BOARDS.on_device("nano").value("cpu_ms_p50") == 1.0
    with pytest.raises(UnknownName, match="did you mean 'pi'"):
        OF_TWO_BOARDS.on_device("pie")
    with pytest.raises(UnknownName, match="no device with figures is called 'pi'"):
        Metrics({"cpu_ms_p50": Figure(2.0)}).on_device("pi")
    assert NO_METRICS.on_device("pi") == NO_METRICS, "a trial without figures has none anywhere"


def test_a_metric_that_was_not_asked_for_is_none():
    assert NO_METRICS.value("accuracy") is None
    assert NO_METRICS.value("cpu_ms_p50@pi") is None, "nothing was measured anywhere yet"
    assert OF_TWO_BOARDS.value("energy_mj@pi") is None
