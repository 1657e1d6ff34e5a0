import os

import pytest

from vitsearch_evaluators.cli import local_measure
from vitsearch_evaluators.cli.report import FileResult, comparison, summary
from vitsearch_evaluators.errors import MeasurementFailed
from vitsearch_evaluators.wire.measurement import Power


@pytest.fixture
def found(blob, tiny_protocol, monkeypatch):
    monkeypatch.setattr(local_measure.processes, "adopt_orphans", lambda: None)
    asked = local_measure.MeasureRequest("noop", {"busy_us": 10}, tiny_protocol._replace(soak_s=0.1, power_s=0.1))
    with open(os.devnull, "w") as nowhere:
        return local_measure.measure_file(blob, asked, local_measure.Progress("blob", asked.plan, nowhere))


def test_the_summary_says_what_was_not_measured_and_why(found):
    lines = summary(found).splitlines()
    assert any(line.startswith("sustained_p50   0.0") and line.endswith("(after 0.1 s of load)") for line in lines)
    assert any(line.startswith("power           not measured: ") for line in lines)
    assert "latency_ms_p90  not measured: 64 runs are needed" in lines
    reasons = {"throughput_ips": "no flag for 2 streams", "sustained": "no soak", "power": "idle is without the model"}
    power = Power(4.5, 2.0, 9.0, 5.0, "ina3221", "module", False, 20.0, 200, 0.1)
    other = found._replace(throughput_ips=None, sustained=None, power=power, reasons=reasons)
    told = [line.split(None, 1) for line in summary(other).splitlines()]
    assert ["throughput_ips", "not measured: no flag for 2 streams  (one after the other)"] in told
    assert ["sustained_p50", "not measured: no soak  (after 0.1 s of load)"] in told
    assert ["idle", "is without the model"] in told


def test_a_table_tells_each_file_as_a_multiple_of_the_first_that_could_be_measured(found):
    once = found._replace(latency_ms=found.latency_ms._replace(p50=10.0, ci95_low=9.0, ci95_high=11.0), flags=())
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
    assert " mJ " not in lines[2], "what nobody asked for has no column"


def test_a_table_says_once_why_there_is_nothing_of_what_was_asked_for(found):
    quiet = found._replace(power=None, reasons={"power": "no power meter"})
    lines = comparison([FileResult("a", quiet, None), FileResult("b", quiet, None)]).splitlines()
    assert lines.count("power: not measured: no power meter") == 1
    assert not any(line.startswith("sustained: ") for line in lines), "it was measured"


def test_a_table_of_nothing_but_failures_has_no_rows():
    assert comparison([FileResult("bad", None, MeasurementFailed("crash", "it died"))]) == "bad: crash: it died"
