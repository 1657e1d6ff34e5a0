import pytest

from vitsearch_agent.measure.child.timed_loop import (
    PAIRED_WARM_UP_AT_MOST,
    Clocks,
    clock_overhead_ms,
    sample,
    warm_up,
)
from vitsearch_agent.wire.measure_protocol import SCREEN


class FakeTime:
    """A model whose runs take `wall_s` and `cpu_s` on its own clocks."""

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
    [(0.001, 1000), (0.1, 24), (4.0, 15), (10.0, 11)],
    ids=["until min_s", "until min_runs", "until max_s", "never below 11"],
)
def test_sampling_reaches_both_minima_unless_it_takes_too_long(wall_s, runs):
    model = FakeTime(wall_s, wall_s / 2)
    samples = sample(model.run, SCREEN, model.clocks)
    assert len(samples.wall_ms) == len(samples.cpu_ms) == model.runs == pytest.approx(runs, abs=1)
    assert samples.wall_ms == pytest.approx([wall_s * 1e3] * model.runs)
    assert samples.cpu_ms == pytest.approx([wall_s * 5e2] * model.runs)


def test_the_cost_of_reading_the_wall_clock_is_subtracted():
    model = FakeTime(0.001, 0.0005)
    reading_s = 0.0001

    def wall():
        model.cpu_now_s += reading_s
        return model.now_s

    clocks = Clocks(wall, model.clocks.cpu)
    assert clock_overhead_ms(clocks) == pytest.approx(2e3 * reading_s)
    cpu_ms = sample(model.run, SCREEN, clocks).cpu_ms
    assert cpu_ms == pytest.approx([0.5] * len(cpu_ms))


@pytest.mark.parametrize(("wall_s", "runs"), [(0.001, 100), (0.1, 20)])
def test_warm_up_needs_both_runs_and_seconds(wall_s, runs):
    model = FakeTime(wall_s)
    assert warm_up(model.run, SCREEN, model.clocks)
    assert model.runs == pytest.approx(runs, abs=2)


class Settling(FakeTime):
    """Each run takes 1 % less than the one before, down to 10 ms."""

    def run(self):
        super().run()
        self.wall_s = max(0.010, self.wall_s * 0.99)
        self.cpu_s = self.wall_s


def test_warm_up_continues_until_two_windows_agree():
    model = Settling(0.030)
    assert warm_up(model.run, SCREEN._replace(warmup_min_s=0.2), model.clocks)
    assert 0.010 <= model.wall_s < 0.011


def test_beside_references_a_warm_up_ends_sooner():
    alone, beside = Settling(0.030), Settling(0.030)
    assert not warm_up(beside.run, SCREEN, beside.clocks, PAIRED_WARM_UP_AT_MOST)
    warm_up(alone.run, SCREEN, alone.clocks)
    assert beside.runs < alone.runs


def test_warm_up_ends_when_times_do_not_become_steady():
    model = Settling(20.0)
    assert not warm_up(model.run, SCREEN, model.clocks)
    assert model.runs <= 21, "the warm-up of the protocol, and at most ten times its seconds more"


class Preempted(FakeTime):
    """Wall time doubles from window to window while the runs cost the same."""

    def run(self):
        self.wall_s = 0.030 if (self.runs // 10) % 2 else 0.018
        super().run()


@pytest.mark.parametrize(("cpu_s", "steady"), [(0.017, True), (0.001, False)])
def test_steady_cpu_time_is_enough_where_the_cpu_runs_the_model(cpu_s, steady):
    model = Preempted(0.018, cpu_s)
    assert warm_up(model.run, SCREEN, model.clocks) is steady


def test_a_warm_up_of_few_runs_is_not_checked():
    model = Settling(5.0)
    assert warm_up(model.run, SCREEN._replace(warmup_min_runs=3), model.clocks)
    assert model.runs == 3
