import pytest

from vitsearch_evaluators.measure.child.phase_reports import ProcessReport
from vitsearch_evaluators.measure.combine import combine
from vitsearch_evaluators.wire.job_spec import CONFIRM, SCREEN


def report(wall_ms, wait_s=0.0, **changes):
    plain = ProcessReport(
        wall_ms=tuple(wall_ms),
        cpu_ms=tuple(value / 2 for value in wall_ms),
        load_ms=10.0,
        first_inference_ms=5.0,
        peak_memory_mb=20.0,
        runtime_baseline_mb=40.0,
        scheduler_cpu_s=1.0,
        scheduler_wait_s=wait_s,
        sleeps=None,
        steady=True,
        runtime_version="1",
        options={},
        reasons={},
        batch=1,
        shapes={"images": (1, 8)},
    )
    return plain._replace(**changes)


def test_processes_are_pooled_and_their_spread_is_reported():
    fields = combine([report([1.0] * 20, batch=4), report([1.2] * 20, peak_memory_mb=25.0, batch=4)], CONFIRM)
    assert fields["latency_ms"].n == 40
    assert fields["between_process_rel_spread"] == pytest.approx(0.2 / 1.1)
    assert fields["peak_memory_mb"] == 25.0
    assert fields["throughput_ips"] == pytest.approx(4000 / 1.1)
    assert fields["contention"].wall_over_cpu == pytest.approx(2.0)


@pytest.mark.parametrize(("wait_s", "flags"), [(0.05, ()), (0.06, ("contended",))])
def test_contention_is_flagged_by_the_wait_for_a_processor(wait_s, flags):
    assert combine([report([1.0] * 20, wait_s)], SCREEN)["flags"] == flags


@pytest.mark.parametrize(
    ("sleeps", "threads", "flags"),
    [(0, 1, ("contended",)), (20, 1, ()), (None, 1, ()), (0, 2, ())],
    ids=["preempted", "waited for a device", "unknown", "threads wait for each other"],
)
def test_contention_is_flagged_by_wall_time_beyond_the_cpu_time_of_a_thread_that_never_slept(sleeps, threads, flags):
    fields = combine([report([1.0] * 20, sleeps=sleeps)], SCREEN._replace(threads=threads))
    assert fields["flags"] == flags


def test_times_that_were_not_steady_are_flagged():
    assert combine([report([1.0] * 20), report([1.0] * 20, steady=False)], CONFIRM)["flags"] == ("not_steady",)
    assert combine([report([1.0] * 20)], SCREEN, report([1.0] * 20, steady=False))["flags"] == ("not_steady",)


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
    "between_process_rel_spread",
    "sustained",
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
    assert fields["flags"] == ()


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


def test_samples_after_a_soak_are_reported_separately_and_flag_the_measurement():
    fields = combine([report([1.0] * 20)], SCREEN, report([1.5] * 12, wait_s=0.2))
    assert (fields["latency_ms"].p50, fields["sustained"].p50) == (1.0, 1.5)
    assert fields["sustained"].n == 12
    assert fields["flags"] == ("contended",)
    assert "sustained" not in fields["reasons"]


def test_a_report_survives_json():
    assert ProcessReport.from_json(report([1.0] * 11).to_json()) == report([1.0] * 11)
