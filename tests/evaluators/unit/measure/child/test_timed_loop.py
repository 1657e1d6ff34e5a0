import pytest

from vitsearch_evaluators.measure.child.timed_loop import (
    Clocks,
    ProcessReport,
    clock_overhead_ms,
    combine,
    sample,
    warm_up,
)
from vitsearch_evaluators.wire.distribution import QUANTILE_MINIMUM_RUNS
from vitsearch_evaluators.wire.job_spec import CONFIRM, SCREEN


class FakeTime:
    """A model whose runs take `wall_s` and `cpu_s` on clocks of its own."""

    def __init__(self, wall_s, cpu_s=0.0):
        self.wall_s, self.cpu_s = wall_s, cpu_s
        self.now_s = self.cpu_now_s = 0.0
        self.runs = 0
        self.clocks = Clocks(lambda: self.now_s, lambda: self.cpu_now_s)

    def run(self):
        self.now_s += self.wall_s
        self.cpu_now_s += self.cpu_s
        self.runs += 1


@pytest.mark.parametrize(
    ("wall_s", "runs"),
    [(0.001, 200), (0.009, 200), (0.1, 20), (0.5, 11), (10.0, 11)],
)
def test_sampling_stops_by_runs_or_seconds_but_never_below_11(wall_s, runs):
    model = FakeTime(wall_s, wall_s / 2)
    samples = sample(model.run, SCREEN, model.clocks)
    assert len(samples.wall_ms) == len(samples.cpu_ms) == model.runs == runs
    assert samples.wall_ms == pytest.approx([wall_s * 1e3] * runs)
    assert samples.cpu_ms == pytest.approx([wall_s * 5e2] * runs)


def test_looks_at_the_wall_clock_are_no_time_of_the_model():
    model = FakeTime(0.001, 0.0005)
    look_s = 0.0001

    def wall():
        model.cpu_now_s += look_s
        return model.now_s

    clocks = Clocks(wall, model.clocks.cpu)
    assert clock_overhead_ms(clocks) == pytest.approx(2e3 * look_s)
    assert sample(model.run, SCREEN, clocks).cpu_ms == pytest.approx([0.5] * 200)


@pytest.mark.parametrize(("wall_s", "runs"), [(0.001, 200), (0.1, 20)])
def test_warm_up_needs_both_runs_and_seconds(wall_s, runs):
    model = FakeTime(wall_s)
    assert warm_up(model.run, SCREEN, model.clocks)
    assert model.runs == pytest.approx(runs, abs=2)


class Settling(FakeTime):
    """Each run takes 1 % less than the one before, down to what it takes in the end."""

    def run(self):
        super().run()
        self.wall_s = max(0.010, self.wall_s * 0.99)
        self.cpu_s = self.wall_s


def test_warm_up_goes_on_until_two_windows_agree():
    model = Settling(0.030)
    assert warm_up(model.run, SCREEN, model.clocks)
    assert 0.010 <= model.wall_s < 0.011


def test_warm_up_ends_when_nothing_settles():
    model = Settling(20.0)
    assert not warm_up(model.run, SCREEN, model.clocks)
    assert model.runs <= 21, "what was asked for, and no more than min_s beyond"


class Preempted(FakeTime):
    """Wall time doubles from window to window while the runs cost the same."""

    def run(self):
        self.wall_s = 0.030 if (self.runs // 10) % 2 else 0.018
        super().run()


@pytest.mark.parametrize(("cpu_s", "steady"), [(0.017, True), (0.001, False)])
def test_cpu_time_settles_it_where_the_processor_does_the_work(cpu_s, steady):
    model = Preempted(0.018, cpu_s)
    assert warm_up(model.run, SCREEN, model.clocks) is steady


def test_a_warm_up_of_few_runs_is_only_run():
    model = Settling(5.0)
    assert warm_up(model.run, SCREEN._replace(warmup_min_runs=3), model.clocks)
    assert model.runs == 3


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
    )
    return plain._replace(**changes)


def test_processes_are_pooled_and_their_spread_is_told():
    fields = combine([report([1.0] * 20), report([1.2] * 20, peak_memory_mb=25.0)], CONFIRM._replace(batch=4))
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
    ids=["held up", "it waited for a device", "unknown", "threads wait for each other"],
)
def test_contention_is_flagged_by_wall_time_that_a_thread_neither_used_nor_slept(sleeps, threads, flags):
    fields = combine([report([1.0] * 20, sleeps=sleeps)], SCREEN._replace(threads=threads))
    assert fields["flags"] == flags


def test_what_had_not_settled_is_flagged():
    assert combine([report([1.0] * 20), report([1.0] * 20, steady=False)], CONFIRM)["flags"] == ("not_steady",)
    assert combine([report([1.0] * 20)], SCREEN, report([1.0] * 20, steady=False))["flags"] == ("not_steady",)


def test_what_was_not_measured_is_none_with_a_reason():
    silent = report([1.0] * 20, None, scheduler_cpu_s=None, peak_memory_mb=None, reasons={"peak_memory_mb": "no /proc"})
    fields = combine([silent], SCREEN)
    for metric in ("sustained", "peak_memory_mb", "between_process_rel_spread"):
        assert fields[metric] is None
        assert fields["reasons"][metric]
    assert fields["contention"].wait_over_cpu is None
    assert fields["flags"] == ()


def test_samples_after_a_soak_stand_by_themselves_and_flag_the_measurement():
    fields = combine([report([1.0] * 20)], SCREEN, report([1.5] * 12, wait_s=0.2))
    assert (fields["latency_ms"].p50, fields["sustained"].p50) == (1.0, 1.5)
    assert fields["sustained"].n == 12
    assert fields["flags"] == ("contended",)
    assert "sustained" not in fields["reasons"]


def test_a_report_survives_json():
    assert ProcessReport.from_json(report([1.0] * 11).to_json()) == report([1.0] * 11)


def test_confirm_reaches_p99_with_all_its_processes_together():
    model = FakeTime(0.001)
    assert CONFIRM.processes * len(sample(model.run, CONFIRM, model.clocks).wall_ms) >= QUANTILE_MINIMUM_RUNS["p99"]
