import json

import pytest

from support.process_reports import process_report as report
from vitsearch_agent.measure.child.phase_reports import Block, PairedBlock, ProcessReport, ThroughputReport
from vitsearch_agent.measure.figures.combine import combine, is_contended, of_streams
from vitsearch_agent.wire.measure_protocol import CONFIRM, SCREEN
from vitsearch_agent.wire.processor_counters import Counters


def test_processes_are_pooled_and_their_spread_is_reported():
    fields = combine([report([1.0] * 20, batch=4), report([1.2] * 20, peak_memory_mb=25.0, batch=4)], CONFIRM)
    assert fields["latency_ms"].n == 40
    assert fields["between_process_rel_spread"] == pytest.approx(0.2 / 1.1)
    assert fields["peak_memory_mb"] == 25.0
    assert fields["throughput_ips"] == pytest.approx(4000 / 1.1)
    assert fields["contention"].wall_over_cpu == pytest.approx(2.0)


@pytest.mark.parametrize(("wait_s", "contended"), [(0.05, False), (0.06, True)])
def test_a_wait_for_a_processor_shows_contention(wait_s, contended):
    assert is_contended([report([1.0] * 20, wait_s)], threads=1) is contended


@pytest.mark.parametrize(
    ("sleeps", "threads", "contended"),
    [(0, 1, True), (20, 1, False), (None, 1, False), (0, 2, False)],
    ids=["preempted", "waited for a device", "unknown", "threads wait for each other"],
)
def test_wall_time_beyond_the_cpu_time_of_a_thread_that_never_slept_shows_contention(sleeps, threads, contended):
    assert is_contended([report([1.0] * 20, sleeps=sleeps)], threads) is contended


def test_times_that_were_not_steady_are_flagged():
    assert combine([report([1.0] * 20), report([1.0] * 20, steady=False)], CONFIRM)["flags"] == ("not_steady",)
    assert "not_steady" in combine([report([1.0] * 20)], SCREEN, report([1.0] * 20, steady=False))["flags"]


def test_a_single_process_is_flagged_and_has_no_interval():
    fields = combine([report([1.0] * 20)], SCREEN)
    assert fields["flags"] == ("within_process",)
    assert fields["cpu_ms"].ci95_low is fields["latency_ms"].ci95_high is None


def test_counters_are_averaged_over_the_processes_that_have_them():
    reports = [report([1.0] * 20, counters=Counters(*values)) for values in ((2.0, 1.0), (4.0, 3.0))]
    assert combine([*reports, report([1.0] * 20)], CONFIRM)["counters"] == Counters(3.0, 2.0)


@pytest.mark.parametrize(
    ("shapes", "reason"),
    [({}, "the model has no inputs"), (None, "the runtime does not report it"), ({"images": (1, 8)}, None)],
)
def test_missing_shapes_have_a_reason(shapes, reason):
    fields = combine([report([1.0] * 20, shapes=shapes)], SCREEN)
    assert (fields["shapes"], fields["reasons"].get("shapes")) == (shapes, reason)


FIGURES = (
    "cpu_ms",
    "load_ms",
    "first_inference_ms",
    "throughput_ips",
    "peak_memory_mb",
    "runtime_baseline_mb",
    "gpu_memory_mb",
    "between_process_rel_spread",
    "sustained",
    "counters",
)
NOTHING = report(
    [0.0] * 11,
    None,
    cpu_ms=(),
    load_ms=None,
    first_inference_ms=None,
    peak_memory_mb=None,
    runtime_baseline_mb=None,
    scheduler_cpu_s=None,
)


@pytest.mark.parametrize("reports", [[NOTHING], [NOTHING, NOTHING]], ids=["one process", "two processes"])
def test_every_figure_that_is_none_has_a_reason(reports):
    fields = combine(reports, SCREEN)
    for name in FIGURES:
        assert fields[name] is None, name
        assert fields["reasons"][name], name
    assert fields["contention"] == (None, None)
    assert fields["reasons"]["contention"] == "no processor time was counted"


@pytest.mark.parametrize(
    ("wall_ms", "reason"),
    [((), "the runtime does not report it"), ((1.0,) * 10, "11 runs are needed, 10 were timed")],
)
def test_too_few_runs_beside_others_are_none_with_a_reason(wall_ms, reason):
    fields, reasons = of_streams(ThroughputReport(8.0, 40, wall_ms))
    assert fields == {"throughput_ips": 8.0, "concurrent": None}
    assert reasons == {"concurrent": reason}


def test_the_latency_beside_other_runs_has_no_interval_but_quantiles():
    fields, reasons = of_streams(ThroughputReport(8.0, 200, tuple(map(float, range(200)))))
    concurrent = fields["concurrent"]
    assert (concurrent.p50, concurrent.p95, concurrent.ci95_low) == (99.5, pytest.approx(189.05), None)
    assert reasons == {"concurrent_p99": "662 runs are needed, 200 were timed"}


def test_every_quantile_that_is_none_has_a_reason():
    fields = combine([report([1.0] * 70)], SCREEN, report([1.0] * 20))
    for name in ("latency_ms", "cpu_ms", "sustained"):
        for quantile in ("p90", "p95", "p99"):
            is_none = getattr(fields[name], quantile) is None
            assert (f"{name}_{quantile}" in fields["reasons"]) is is_none
    assert fields["reasons"]["latency_ms_p95"] == "130 runs are needed, 70 were timed"


def test_the_reason_of_a_process_is_kept():
    silent = report([1.0] * 20, peak_memory_mb=None, reasons={"peak_memory_mb": "no /proc"})
    assert combine([silent], SCREEN)["reasons"]["peak_memory_mb"] == "no /proc"
    fields = combine([silent, report([1.0] * 20)], CONFIRM)
    assert fields["peak_memory_mb"] == 20.0
    assert "peak_memory_mb" not in fields["reasons"]


def test_the_largest_memory_of_the_gpu_counts():
    fields = combine([report([1.0] * 20, gpu_memory_mb=value) for value in (310.0, 330.0, None)], CONFIRM)
    assert fields["gpu_memory_mb"] == 330.0


def test_samples_after_a_soak_are_reported_separately():
    fields = combine([report([1.0] * 20)], SCREEN, report([1.5] * 12))
    assert (fields["latency_ms"].p50, fields["sustained"].p50) == (1.0, 1.5)
    assert fields["sustained"].n == 12
    assert "sustained" not in fields["reasons"]


def test_a_report_survives_json():
    block = PairedBlock(Block(1.0, 2.0), Block(3.0, 4.0), Block(0.5, 0.25))
    full = report([1.0] * 11, bursts=((block, block), (block,)), counters=Counters(2.0, 1.0))
    assert ProcessReport.from_json(json.loads(json.dumps(full.to_json()))) == full
