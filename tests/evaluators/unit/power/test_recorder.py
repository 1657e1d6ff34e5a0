import time

import pytest

from vitsearch_agent.base.system import System
from vitsearch_agent.power.base import MeterAvailability, PowerMeter, Sample, Series
from vitsearch_agent.power.recorder import MAX_HZ, Recorder, jittered


class Scripted(PowerMeter):
    """Returns the `answers` one by one, then None."""

    name = "scripted"
    scope = "system"
    rate_hz = 1000.0

    def __init__(self, answers=(), fails_in=None):
        super().__init__(System())
        self.answers = list(answers)
        self.fails_in = fails_in
        self.calls = []

    def _called(self, name):
        self.calls.append(name)
        if self.fails_in == name:
            raise RuntimeError(f"the plugin fails in {name}")

    def available(self):
        return MeterAvailability(True, None)

    def start(self):
        self._called("start")

    def sample(self):
        self._called("sample")
        return self.answers.pop(0) if self.answers else None

    def stop(self):
        self._called("stop")


def recorded(meter, until, answered=0):
    recorder = Recorder(meter, max_hz=500.0)
    recorder.start()
    until(lambda: meter.calls.count("sample") > answered or recorder.problem, "samples")
    recorder.stop()
    return recorder, recorder.series(0.0, 10.0)


def test_samples_are_kept_in_order(until):
    meter = Scripted([Sample(1.0, 5.0), None, Sample(2.0, 6.0), Sample(2.0, 6.0), Sample(1.5, 9.0), Sample(3.0, 7.0)])
    recorder, series = recorded(meter, until, 6)
    assert (list(series.times_s), list(series.values), series.counts) == ([1.0, 2.0, 3.0], [5.0, 6.0, 7.0], False)
    assert (meter.calls[0], meter.calls[-1]) == ("start", "stop")
    assert recorder.problem is None


def test_powers_are_not_mixed_into_a_counter(until):
    meter = Scripted([Sample(1.0, energy_j=5.0), Sample(1.5, power_w=3.0), Sample(2.0, energy_j=8.0)])
    series = recorded(meter, until, 3)[1]
    assert (list(series.values), series.counts) == ([5.0, 8.0], True)


@pytest.mark.parametrize("step", ["start", "sample", "stop"])
def test_a_meter_that_raises_is_a_problem_and_not_an_error(until, step):
    meter = Scripted([Sample(1.0, 5.0)], fails_in=step)
    recorder = recorded(meter, until)[0]
    assert recorder.problem == f"RuntimeError: the plugin fails in {step}"
    assert "stop" in meter.calls


def test_no_sample_is_taken_after_the_stop(until):
    meter = Scripted()
    recorded(meter, until)
    samples = meter.calls.count("sample")
    time.sleep(0.05)
    assert meter.calls.count("sample") == samples


def test_a_meter_that_records_itself_is_not_sampled():
    class Own(Scripted):
        records_itself = True

        def recorded(self, start_s, end_s):
            self._called("recorded")
            return Series([start_s, end_s], [1.0, 2.0], False)

    meter = Own()
    recorder = Recorder(meter)
    recorder.start()
    recorder.stop()
    assert recorder.series(3.0, 9.0) == Series([3.0, 9.0], [1.0, 2.0], False)
    assert meter.calls == ["start", "stop", "recorded"]
    assert list(Recorder(Own(fails_in="recorded")).series(3.0, 9.0).values) == []


@pytest.mark.parametrize("runs_per_sample", [0.5, 1.0, 2.0, 3.0])
def test_sampling_is_not_synchronous_with_the_runs(runs_per_sample):
    """A load of 10 W in the first half of each run and 0 in the second: 5 W for any duration of a run."""
    pauses, moment, seen = jittered(0.1), 0.0, []
    for _ in range(1000):
        moment += next(pauses)
        seen.append(10.0 if (moment * 10 * runs_per_sample) % 1.0 < 0.5 else 0.0)
    assert sum(seen) / len(seen) == pytest.approx(5.0, abs=0.8)
    assert moment == pytest.approx(100.0, rel=0.02)


def test_the_rate_is_capped_and_late_samples_are_not_repeated():
    class Slow(Scripted):
        def sample(self):
            time.sleep(0.05)
            return super().sample()

    meter = Slow()
    recorder = Recorder(meter)
    start = time.monotonic()
    recorder.start()
    time.sleep(0.5)
    recorder.stop()
    # Even on a busy machine: never more often than the cap allows.
    assert 1 <= meter.calls.count("sample") <= (time.monotonic() - start) * MAX_HZ / 0.75 + 1
