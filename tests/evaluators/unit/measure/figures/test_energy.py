"""Energy from samples: exact for steady power, within the estimated error otherwise, a reason where it is unknown."""

import math
import random

import pytest

from vitsearch_agent.base.system import System
from vitsearch_agent.measure.child.phase_reports import PowerReport
from vitsearch_agent.measure.figures.energy import NotEnoughSamples, Window, evaluate, integrate
from vitsearch_agent.power.base import Series
from vitsearch_agent.power.ina3221 import Ina3221Meter
from vitsearch_agent.power.rapl import RaplMeter

hypothesis = pytest.importorskip("hypothesis")
given, settings, strategies = hypothesis.given, hypothesis.settings, hypothesis.strategies

POWER = Ina3221Meter(System())
COUNTER = RaplMeter(System())
REPORT = PowerReport((0.0, 5.0), (6.0, 16.0), (17.0, 22.0), 400)

watts = strategies.floats(0.1, 100)
offsets = strategies.floats(0, 0.99)


def sampled(power, rate_hz=10.0, offset=0.0, start=-1.0, end=24.0):
    """Sample `power(t)` at even times; `offset` shifts them by a fraction of the interval."""
    count = int((end - start) * rate_hz)
    times = [start + (index + offset) / rate_hz for index in range(count)]
    return Series(times, [power(moment) for moment in times], False)


def counted(power, rate_hz=10.0, offset=0.0):
    """Sample an energy counter of a power that changes only at whole seconds."""

    def energy(moment):
        whole = range(-1, math.floor(moment))
        return sum(power(second + 0.5) for second in whole) + power(moment) * (moment - math.floor(moment))

    series = sampled(energy, rate_hz, offset)
    return Series(series.times_s, series.values, True)


def box(idle, load):
    """Idle, load from 6 to 16 s, idle."""
    return lambda moment: load if 6.0 <= moment < 16.0 else idle


@given(power=watts, offset=offsets, rate=strategies.sampled_from([1.0, 3.0, 10.0, 20.0]))
@settings(deadline=None)
def test_constant_power_is_exact_at_any_sampling_times(power, offset, rate):
    for series in (sampled(lambda _: power, rate, offset), counted(lambda _: power, rate, offset)):
        assert integrate(series, Window(6.0, 16.0), 5).joules == pytest.approx(power * 10.0)


@given(slope=strategies.floats(-2, 2), base=strategies.floats(60, 100), offset=offsets, start=strategies.floats(0, 9))
@settings(deadline=None)
def test_a_ramp_is_off_by_its_ends_at_most(slope, base, offset, start):
    series = sampled(lambda moment: base + slope * moment, offset=offset)
    expected = base * 10.0 + slope * ((start + 10.0) ** 2 - start**2) / 2
    joules = integrate(series, Window(start, start + 10.0), 5).joules
    # At each end the slope continues unsampled for at most one interval of 0.1 s.
    assert joules == pytest.approx(expected, abs=abs(slope) * 0.1**2 + 1e-6)


@given(values=strategies.lists(watts, min_size=40, max_size=40), outside=watts, counts=strategies.booleans())
@settings(deadline=None)
def test_samples_outside_a_window_are_ignored(values, outside, counts):
    times = [index / 2 for index in range(40)]
    values = [sum(values[: index + 1]) for index in range(40)] if counts else values
    window = Window(4.9, 15.1)
    changed = list(values)
    for index, moment in enumerate(times):
        if not window.start_s <= moment <= window.end_s:
            changed[index] = outside
    assert integrate(Series(times, changed, counts), window, 5) == integrate(Series(times, values, counts), window, 5)


@given(idle=strategies.floats(0.5, 5), net=strategies.floats(1, 50), offset=strategies.floats(0.01, 0.99))
@settings(deadline=None)
def test_gross_and_net_energy_of_a_steady_load_are_exact(idle, net, offset):
    step = box(idle, idle + net)
    for series, meter in ((sampled(step, offset=offset), POWER), (counted(step, offset=offset), COUNTER)):
        power, reason = evaluate(series, REPORT, meter)
        assert reason is None
        assert power.idle_w == pytest.approx(idle, rel=1e-6)
        assert power.energy_net_mj == pytest.approx(net * 10.0 / 400 * 1e3, rel=1e-6)
        assert power.energy_mj == pytest.approx((idle + net) * 10.0 / 400 * 1e3, rel=1e-6)


def test_a_slow_meter_does_not_mix_load_into_idle():
    """At 1 Hz, interpolating from the last idle sample to the first under load would add 10 % of the step to idle."""
    power = evaluate(sampled(box(2.0, 12.0), 1.0, offset=0.5), REPORT, POWER).power
    assert power.idle_w == pytest.approx(2.0)
    assert power.energy_net_mj == pytest.approx(250.0)
    assert power.relative_error == pytest.approx(0.1)


def test_the_peak_is_that_of_the_samples_under_load():
    def power(moment):
        if not 6.0 <= moment < 16.0:
            return 20.0
        return 9.5 if 8.0 <= moment < 8.1 else 4.0  # as long as one sample

    estimate = evaluate(sampled(power, offset=0.5), REPORT, POWER)
    assert estimate.power.further["peak_power_w"] == (9.5, None)
    assert estimate.power.mean_w == pytest.approx(4.0, rel=0.05)


def test_a_meter_that_averages_has_no_peak_of_the_time_before_the_load():
    means = sampled(lambda moment: 20.0 if moment < 6.5 else 4.0, offset=0.5)
    assert evaluate(means, REPORT, Averaging(System())).power.further["peak_power_w"].number == 4.0


def test_a_counter_has_no_peak_and_a_reason():
    reading = evaluate(counted(box(2.0, 6.0)), REPORT, COUNTER).power.further["peak_power_w"]
    assert reading == (None, "rapl counts energy, and its samples have no power")


class Averaging(Ina3221Meter):
    averaging_s = 1.0


def test_a_meter_that_averages_does_not_mix_windows():
    """Each sample is the mean of the last second, so the first second of a window includes the window before."""
    step = box(2.0, 6.0)
    means = sampled(lambda moment: sum(step(moment - part / 20) for part in range(20)) / 20, offset=0.5)
    power = evaluate(means, REPORT, Averaging(System())).power
    assert power.energy_mj == pytest.approx(150.0)
    assert power.energy_net_mj == pytest.approx(100.0)
    assert power.idle_w == pytest.approx(2.0)
    short = REPORT._replace(load=(6.0, 6.9))
    reason = "ina3221: the window of 0.9 s is not longer than the 1 s over which it averages"
    assert evaluate(means, short, Averaging(System())).reason == reason


def test_all_fields_of_the_result():
    power, reason = evaluate(sampled(box(2.0, 6.0), offset=0.5), REPORT, POWER)
    assert reason is None
    assert (power.source, power.scope, power.estimated) == ("ina3221", "module", False)
    assert (power.n, power.rate_hz) == (100, pytest.approx(10.0))
    assert (power.mean_w, power.idle_w) == (pytest.approx(6.0), pytest.approx(2.0))
    assert power.relative_error == pytest.approx(1 / 100)


def test_noise_widens_the_error():
    """In at least 190 of 200 noisy runs the true net energy lies within two errors."""
    generator = random.Random(7)
    hits, errors = 0, []
    for _ in range(200):
        clean = sampled(box(2.0, 3.0), offset=generator.random() * 0.99)
        noisy = Series(clean.times_s, [value + generator.gauss(0, 0.5) for value in clean.values], False)
        power = evaluate(noisy, REPORT, POWER).power
        errors.append(power.relative_error)
        hits += abs(power.energy_net_mj - 25.0) <= 2 * power.relative_error * 25.0
    assert hits >= 190
    # 0.5 W of noise on 1 W over 100 samples: 5 %, plus the error of the idle periods.
    assert 0.05 < sorted(errors)[100] < 0.2


def test_a_drift_of_the_idle_power_shows_in_the_error():
    steady = evaluate(sampled(box(2.0, 6.0)), REPORT, POWER).power
    drifting = sampled(lambda moment: 6.0 if 6 <= moment < 16 else (2.0 if moment < 6 else 3.0))
    drifted = evaluate(drifting, REPORT, POWER).power
    assert drifted.idle_w == pytest.approx(2.5)
    assert drifted.relative_error == pytest.approx(steady.relative_error + 0.5 / 3.5, rel=0.02)


def test_a_slow_rise_under_load_is_not_noise():
    series = sampled(lambda moment: 4.0 + 0.1 * moment)
    assert integrate(series, Window(6.0, 16.0), 5).noise_w < 0.01


def test_a_load_that_does_not_exceed_idle_has_no_relative_error_and_a_reason():
    power, reason = evaluate(sampled(lambda _: 4.0), REPORT, POWER)
    assert power.energy_net_mj == pytest.approx(0.0, abs=1e-9)
    assert power.relative_error is None
    assert reason == "no relative error: the load does not exceed idle"


def test_an_idle_power_of_0_watts_is_missing():
    power, reason = evaluate(sampled(box(0.0, 6.0)), REPORT, POWER)
    assert (power.idle_w, power.energy_net_mj, power.mean_w) == (None, None, pytest.approx(6.0, rel=0.01))
    assert reason.startswith("no idle power: ina3221: the idle power is 0 W")


def test_without_an_idle_period_only_the_gross_energy_is_known():
    power, reason = evaluate(
        sampled(box(2.0, 6.0)), REPORT._replace(idle_before=(6.0, 6.0), idle_after=(16.0, 16.0)), POWER
    )
    assert (power.idle_w, power.energy_net_mj) == (None, None)
    assert power.energy_mj == pytest.approx(150.0, rel=0.01)
    assert "no idle period" in reason


def test_one_idle_period_is_enough_for_the_net_energy():
    power, reason = evaluate(sampled(box(2.0, 6.0)), REPORT._replace(idle_before=(6.0, 6.0)), POWER)
    assert (power.idle_w, reason) == (pytest.approx(2.0), None)


def test_a_coarse_counter_has_as_many_samples_as_changes():
    """A counter that changes twice a second, sampled ten times a second: 20 values in 10 s."""
    fine = counted(box(2.0, 6.0))
    coarse = Series(fine.times_s, [math.floor(value / 3.0) * 3.0 for value in fine.values], True)
    power = evaluate(coarse, REPORT, COUNTER).power
    assert power.n in (19, 20)
    assert power.relative_error >= 1 / 20
    assert power.energy_mj == pytest.approx(150.0, rel=power.relative_error)


def without(series, start, end):
    kept = [index for index, moment in enumerate(series.times_s) if not start <= moment < end]
    return series._replace(times_s=[series.times_s[i] for i in kept], values=[series.values[i] for i in kept])


@pytest.mark.parametrize(
    ("series", "reason"),
    [
        (Series([], [], False), "ina3221: 0 samples in 10 s, at least 5 are needed"),
        (sampled(box(2.0, 6.0), 0.3), "3 samples in 10 s"),
        (without(sampled(box(2.0, 6.0)), 8.0, 12.0), "no sample for 4.1 of 10 s"),
        (without(sampled(box(2.0, 6.0)), 12.0, 24.0), "no sample for 4.1 of 10 s"),
        (without(sampled(box(2.0, 6.0)), -1.0, 9.5), "no sample for 3.5 of 10 s"),
        (sampled(lambda _: 0.0), "the power under load is 0 W"),
        (sampled(lambda _: -3.0), "the power under load is -3 W"),
        (Series(list(range(24)), [7.0] * 24, True), "the counter does not change"),
        (Series(list(range(24)), [index // 3 for index in range(24)], True), "the counter changed 3 times in 10 s"),
        (Series(list(range(24)), [float(-index) for index in range(24)], True), "the counter runs backwards"),
    ],
)
def test_samples_that_do_not_determine_the_energy_give_a_reason(series, reason):
    estimate = evaluate(series, REPORT, POWER)
    assert estimate.power is None
    assert reason in estimate.reason


def test_samples_missing_in_an_idle_period_cost_only_the_net_energy():
    series = without(without(sampled(box(2.0, 6.0)), -1.0, 5.9), 16.5, 24.0)
    power, reason = evaluate(series, REPORT, POWER)
    assert power.energy_mj == pytest.approx(150.0, rel=0.01)
    assert power.energy_net_mj is None
    assert reason == "no idle power: ina3221: 0 samples in 5 s, at least 2 are needed"


@given(
    times=strategies.lists(strategies.floats(-5, 30), max_size=60, unique=True),
    values=strategies.lists(strategies.floats(-1e3, 1e6), min_size=60, max_size=60),
    counts=strategies.booleans(),
)
@settings(deadline=None)
def test_any_samples_give_a_value_or_a_reason(times, values, counts):
    series = Series(sorted(times), values[: len(times)], counts)
    power, reason = evaluate(series, REPORT, POWER)
    if power is None or None in power:
        assert reason
    if power is not None:
        assert power.energy_mj > 0
        assert math.isfinite(power.energy_mj)


def test_too_few_samples_in_a_window_are_an_error():
    with pytest.raises(NotEnoughSamples, match="2 samples"):
        integrate(sampled(lambda _: 1.0, 1.0), Window(6.5, 8.5), 5)
