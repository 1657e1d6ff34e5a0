import random

import pytest

from vitsearch_evaluators import measure
from vitsearch_evaluators.jobspec import CONFIRM, SCREEN
from vitsearch_evaluators.measure import Clocks, ProcessReport, combine, median_interval, sample, summarize


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


@pytest.mark.parametrize(("wall_s", "runs"), [(0.001, 200), (0.1, 20)])
def test_warm_up_needs_both_runs_and_seconds(wall_s, runs):
    model = FakeTime(wall_s)
    assert measure.warm_up(model.run, SCREEN, model.clocks) == pytest.approx(runs, abs=1)


@pytest.mark.parametrize("n", [11, 63, 64, 129, 130, 661, 662])
def test_quantiles_need_enough_runs(n):
    latency = summarize([[float(value) for value in range(n)]])
    assert latency.n == n
    assert latency.p50 == (n - 1) / 2
    assert (latency.p90 is None) == (n < 64)
    assert (latency.p95 is None) == (n < 130)
    assert (latency.p99 is None) == (n < 662)


def test_a_median_of_ten_is_refused():
    with pytest.raises(ValueError, match="needs 11 samples, got 10"):
        summarize([[1.0] * 5, [1.0] * 5])


def test_interval_is_seeded_encloses_the_median_and_shrinks():
    generator = random.Random(1)
    short = [generator.gauss(10, 1) for _ in range(40)]
    long = [generator.gauss(10, 1) for _ in range(4000)]
    assert median_interval([short], 3) == median_interval([short], 3)
    for values in (short, long):
        latency = summarize([values])
        assert latency.ci95_low <= latency.p50 <= latency.ci95_high
    short_low, short_high = median_interval([short])
    long_low, long_high = median_interval([long])
    assert long_high - long_low < short_high - short_low


def test_interval_covers_the_true_median_about_as_often_as_it_says():
    generator = random.Random(2)
    covered = 0
    for trial in range(60):
        low, high = median_interval([[generator.expovariate(1.0) for _ in range(120)]], trial)
        covered += low <= 0.6931 <= high
    assert covered >= 50


def test_interval_is_wider_when_neighbours_are_alike():
    generator = random.Random(3)
    drawn = [generator.gauss(10, 1) for _ in range(60)]
    slow_drift = [value for value in drawn for _ in range(5)]
    shuffled = generator.sample(slow_drift, len(slow_drift))
    width = [high - low for low, high in map(median_interval, ([slow_drift], [shuffled]))]
    assert width[0] > width[1]


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
        runtime_version="1",
        options={},
        reasons={},
    )
    return plain._replace(**changes)


def test_processes_are_pooled_and_their_spread_is_told():
    fields = combine([report([1.0] * 20), report([1.2] * 20, peak_memory_mb=25.0)], batch=4)
    assert fields["latency_ms"].n == 40
    assert fields["between_process_rel_spread"] == pytest.approx(0.2 / 1.1)
    assert fields["peak_memory_mb"] == 25.0
    assert fields["throughput_ips"] == pytest.approx(4000 / 1.1)
    assert fields["contention"].wall_over_cpu == pytest.approx(2.0)


@pytest.mark.parametrize(("wait_s", "flags"), [(0.05, ()), (0.06, ("contended",))])
def test_contention_is_flagged_by_the_wait_for_a_processor(wait_s, flags):
    assert combine([report([1.0] * 20, wait_s)], 1)["flags"] == flags


def test_what_was_not_measured_is_none_with_a_reason():
    silent = report([1.0] * 20, None, scheduler_cpu_s=None, peak_memory_mb=None, reasons={"peak_memory_mb": "no /proc"})
    fields = combine([silent], 1)
    for metric in ("temperature", "sustained", "swap_mb", "peak_memory_mb", "between_process_rel_spread"):
        assert fields[metric] is None
        assert fields["reasons"][metric]
    assert fields["contention"].wait_over_cpu is None
    assert fields["flags"] == ()


def test_samples_after_a_soak_stand_by_themselves_and_flag_the_measurement():
    fields = combine([report([1.0] * 20)], 1, report([1.5] * 12, wait_s=0.2))
    assert (fields["latency_ms"].p50, fields["sustained"].p50) == (1.0, 1.5)
    assert fields["sustained"].n == 12
    assert fields["flags"] == ("contended",)
    assert "sustained" not in fields["reasons"]


def test_a_report_survives_json():
    assert ProcessReport.from_json(report([1.0] * 11).to_json()) == report([1.0] * 11)


def test_confirm_reaches_p99():
    model = FakeTime(0.001)
    assert len(sample(model.run, CONFIRM, model.clocks).wall_ms) == 662
