import os

import pytest

from vitsearch_agent.cli import measure
from vitsearch_agent.cli.measurement_text import FileResult, comparison, summary
from vitsearch_agent.cli.progress import Progress
from vitsearch_agent.errors import MeasurementFailed
from vitsearch_agent.measure import local_job
from vitsearch_agent.wire.measurement import Power


@pytest.fixture
def measurement(blob, tiny_protocol, monkeypatch):
    monkeypatch.setattr(local_job.processes, "adopt_orphans", lambda: None)
    protocol = tiny_protocol._replace(soak_s=0.1, power_s=0.1)
    request = measure.MeasureRequest(local_job.Request("noop", {"busy_us": 10}, protocol))
    with open(os.devnull, "w") as nowhere:
        return measure.measure_file(blob, request, Progress("blob", protocol, nowhere))


def test_the_summary_shows_the_reason_for_every_missing_figure(measurement):
    nothing = measurement._replace(
        cpu_ms=None,
        load_ms=None,
        first_inference_ms=None,
        throughput_ips=None,
        peak_memory_mb=None,
        runtime_baseline_mb=None,
        gpu_memory_mb=None,
        between_process_rel_spread=None,
        sustained=None,
        temperature=None,
        power=None,
        swap_mb=None,
        shapes=None,
    )
    names = [name for name, value in nothing._asdict().items() if value is None]
    reasons = {name: f"no {name} here" for name in [*names, "contention", "throttling", "latency_ms_p90"]}
    text = summary(nothing._replace(reasons=reasons))
    for name, reason in reasons.items():
        assert text.count(reason) == 1, name
    otherwise_worded = ("paired", "shapes")
    quantiles = ("latency_ms_p90", "latency_ms_p95", "latency_ms_p99")
    assert text.count("not measured: ") == len(names) - len(otherwise_worded) + len(quantiles)


def test_the_summary_shows_values_reasons_and_notes(measurement):
    lines = summary(measurement).splitlines()
    assert any(line.startswith("sustained_p50   0.0") and line.endswith("(after 0.1 s of load)") for line in lines)
    assert any(line.startswith("power           not measured: ") for line in lines)
    assert "latency_ms_p90  not measured: 64 runs are needed, 11 were timed" in lines
    assert "process_spread  not measured: one process" in lines
    reasons = {"throughput_ips": "no flag for 2 streams", "sustained": "no soak", "power": "idle is without the model"}
    power = Power(4.5, 2.0, 9.0, 5.0, "ina3221", "module", False, 20.0, 200, 0.1)
    other = measurement._replace(throughput_ips=None, sustained=None, power=power, reasons=reasons)
    words = [line.split(None, 1) for line in summary(other).splitlines()]
    assert ["throughput_ips", "not measured: no flag for 2 streams  (one after the other)"] in words
    assert ["sustained_p50", "not measured: no soak"] in words
    assert ["idle", "is without the model"] in words


def test_the_summary_shows_the_latency_beside_other_runs(measurement):
    beside = measurement._replace(
        concurrent=measurement.latency_ms._replace(p50=3.5, p95=4.25),
        protocol=measurement.protocol._replace(throughput_s=1.0, streams=4),
    )
    lines = summary(beside).splitlines()
    at = lines.index("concurrent_p50  3.500  (of a run while 4 are in flight)")
    assert lines[at + 1] == "concurrent_p95  4.250"


def test_the_times_of_a_translated_processor_are_marked(measurement):
    emulated = measurement._replace(emulated=True)
    assert [line.split()[0] for line in summary(emulated).splitlines()].count("EMULATED") == 1
    assert comparison([FileResult("a", emulated, None)]).count("EMULATED: ") == 1
    assert "EMULATED" not in summary(measurement) + comparison([FileResult("a", measurement, None)])


def test_a_table_shows_each_file_as_a_multiple_of_the_first_measured_one(measurement):
    once = measurement._replace(
        latency_ms=measurement.latency_ms._replace(p50=10.0, ci95_low=9.0, ci95_high=11.0), flags=()
    )
    half = once._replace(latency_ms=once.latency_ms._replace(p50=5.0), flags=("contended",), sustained=None)
    failure = MeasurementFailed("crash", "it died")
    shown = comparison(
        [FileResult("bad", None, failure), FileResult("a", once, None), FileResult("longer", half, None)]
    )
    lines = shown.splitlines()
    assert lines[2].split()[:6] == ["model", "p50", "ms", "95", "%", "from"]
    assert lines[3].split()[:6] == ["a", "10.000", "9.000", "11.000", "1.00", "x"]
    assert lines[4].split()[:6] == ["longer", "5.000", "9.000", "11.000", "0.50", "x"]
    assert lines[4].endswith("  contended")
    assert "bad: crash: it died" in lines
    assert lines[-1].startswith("contended: other work")
    assert " mJ " not in lines[2], "a figure that no file has needs no column"


def test_a_table_shows_each_reason_for_a_missing_figure_once(measurement):
    without = measurement._replace(
        power=None, peak_memory_mb=None, reasons={"power": "no meter", "peak_memory_mb": "no /proc"}
    )
    lines = comparison([FileResult("a", without, None), FileResult("b", without, None)]).splitlines()
    assert lines.count("power: not measured: no meter") == 1
    assert lines.count("peak_memory_mb: not measured: no /proc") == 1
    assert not any(line.startswith("sustained: ") for line in lines), "it was measured"


def test_a_table_without_any_measurement_has_no_rows():
    assert comparison([FileResult("bad", None, MeasurementFailed("crash", "it died"))]) == "bad: crash: it died"


def test_texts_from_outside_stay_on_their_line(measurement):
    hostile = "evil\x1b[2J\nlatency_ms_p50  0.001"
    other = measurement._replace(reasons={"power": hostile}, shapes={hostile: (1, 8)}, runtime_version=hostile)
    for text in (summary(other), comparison([FileResult(hostile, other, None), FileResult("b", measurement, None)])):
        assert "\x1b" not in text
        assert "\nlatency_ms_p50  0.001" not in text
    error = FileResult("a", None, MeasurementFailed("crash", hostile))
    assert comparison([error]) == "a: crash: evil\\x1b[2J\\nlatency_ms_p50  0.001"
