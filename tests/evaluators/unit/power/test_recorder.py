import time

import pytest

from vitsearch_evaluators.base.system import System
from vitsearch_evaluators.power.base import MeterAvailability, PowerMeter, Sample, Series
from vitsearch_evaluators.power.recorder import MAX_HZ, Recorder, jittered


class Scripted(PowerMeter):
    """Answers what `answers` holds, one after the other, then nothing."""

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
    until(lambda: meter.calls.count("sample") > answered or recorder.problem, "looks")
    recorder.stop()
    return recorder, recorder.series(0.0, 10.0)


def test_keeps_what_the_meter_said_in_order(until):
    meter = Scripted([Sample(1.0, 5.0), None, Sample(2.0, 6.0), Sample(2.0, 6.0), Sample(1.5, 9.0), Sample(3.0, 7.0)])
    recorder, series = recorded(meter, until, 6)
    assert (list(series.times_s), list(series.values), series.counts) == ([1.0, 2.0, 3.0], [5.0, 6.0, 7.0], False)
    assert (meter.calls[0], meter.calls[-1]) == ("start", "stop")
    assert recorder.problem is None


def test_a_counter_is_known_as_one_and_nothing_else_is_mixed_in(until):
    meter = Scripted([Sample(1.0, energy_j=5.0), Sample(1.5, power_w=3.0), Sample(2.0, energy_j=8.0)])
    series = recorded(meter, until, 3)[1]
    assert (list(series.values), series.counts) == ([5.0, 8.0], True)


@pytest.mark.parametrize("step", ["start", "sample", "stop"])
def test_a_meter_that_raises_costs_only_the_power(until, step):
    meter = Scripted([Sample(1.0, 5.0)], fails_in=step)
    recorder = recorded(meter, until)[0]
    assert recorder.problem == f"RuntimeError: the plugin fails in {step}"
    assert "stop" in meter.calls


def test_no_look_after_the_stop(until):
    meter = Scripted()
    recorded(meter, until)
    looks = meter.calls.count("sample")
    time.sleep(0.05)
    assert meter.calls.count("sample") == looks


def test_a_meter_that_records_itself_is_not_looked_at_but_asked():
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


@pytest.mark.parametrize("runs_per_look", [0.5, 1.0, 2.0, 3.0])
def test_looks_do_not_keep_step_with_what_they_look_at(runs_per_look):
    """A load of 10 W in the first half of each run and 0 in the second: 5 W, however long a run takes."""
    pauses, moment, seen = jittered(0.1), 0.0, []
    for _ in range(1000):
        moment += next(pauses)
        seen.append(10.0 if (moment * 10 * runs_per_look) % 1.0 < 0.5 else 0.0)
    assert sum(seen) / len(seen) == pytest.approx(5.0, abs=0.8)
    assert moment == pytest.approx(100.0, rel=0.02)


def test_the_rate_is_capped_and_late_looks_are_not_made_up_for():
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
    # However long the machine held us up: never more often than the cap allows.
    assert 1 <= meter.calls.count("sample") <= (time.monotonic() - start) * MAX_HZ / 0.75 + 1
