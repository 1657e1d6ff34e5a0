"""Energy from looks: exact where it can be, within its own error elsewhere, a reason where it cannot."""

import math
import random

import pytest

from vitsearch_evaluators.base.system import System
from vitsearch_evaluators.measure.child.phase_reports import PowerReport
from vitsearch_evaluators.measure.energy import NotEnough, Window, evaluate, integrate
from vitsearch_evaluators.power.base import Series
from vitsearch_evaluators.power.ina3221 import Ina3221Meter
from vitsearch_evaluators.power.rapl import RaplMeter

hypothesis = pytest.importorskip("hypothesis")
given, settings, strategies = hypothesis.given, hypothesis.settings, hypothesis.strategies

POWER = Ina3221Meter(System())
COUNTER = RaplMeter(System())
REPORT = PowerReport((0.0, 5.0), (6.0, 16.0), (17.0, 22.0), 400)

watts = strategies.floats(0.1, 100)
offsets = strategies.floats(0, 0.99)


def looks(power, rate_hz=10.0, offset=0.0, start=-1.0, end=24.0):
    """Look at `power(t)` at even times; `offset` moves them by parts of the interval."""
    count = int((end - start) * rate_hz)
    times = [start + (index + offset) / rate_hz for index in range(count)]
    return Series(times, [power(moment) for moment in times], False)


def counted(power, rate_hz=10.0, offset=0.0):
    """A counter of the energy of a power that changes only at whole seconds."""

    def energy(moment):
        whole = range(-1, math.floor(moment))
        return sum(power(second + 0.5) for second in whole) + power(moment) * (moment - math.floor(moment))

    found = looks(energy, rate_hz, offset)
    return Series(found.times_s, found.values, True)


def box(idle, load):
    """Rest, load from 6 to 16 s, rest."""
    return lambda moment: load if 6.0 <= moment < 16.0 else idle


@given(power=watts, offset=offsets, rate=strategies.sampled_from([1.0, 3.0, 10.0, 20.0]))
@settings(deadline=None)
def test_constant_power_is_exact_wherever_the_looks_lie(power, offset, rate):
    for series in (looks(lambda _: power, rate, offset), counted(lambda _: power, rate, offset)):
        assert integrate(series, Window(6.0, 16.0), 5).joules == pytest.approx(power * 10.0)


@given(slope=strategies.floats(-2, 2), base=strategies.floats(60, 100), offset=offsets, start=strategies.floats(0, 9))
@settings(deadline=None)
def test_a_ramp_is_off_by_its_ends_at_most(slope, base, offset, start):
    series = looks(lambda moment: base + slope * moment, offset=offset)
    expected = base * 10.0 + slope * ((start + 10.0) ** 2 - start**2) / 2
    found = integrate(series, Window(start, start + 10.0), 5).joules
    # Each end is at most one interval of 0.1 s, in which the slope goes on unseen.
    assert found == pytest.approx(expected, abs=abs(slope) * 0.1**2 + 1e-6)


@given(values=strategies.lists(watts, min_size=40, max_size=40), outside=watts, counts=strategies.booleans())
@settings(deadline=None)
def test_what_lies_outside_a_window_does_not_matter(values, outside, counts):
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
    for series, meter in ((looks(step, offset=offset), POWER), (counted(step, offset=offset), COUNTER)):
        power, reason = evaluate(series, REPORT, meter)
        assert reason is None
        assert power.idle_w == pytest.approx(idle, rel=1e-6)
        assert power.energy_net_mj == pytest.approx(net * 10.0 / 400 * 1e3, rel=1e-6)
        assert power.energy_mj == pytest.approx((idle + net) * 10.0 / 400 * 1e3, rel=1e-6)


def test_a_slow_meter_does_not_mix_load_into_idle():
    """At 1 Hz, a line from the last look at rest to the first under load would add 10 % of the step to idle."""
    power = evaluate(looks(box(2.0, 12.0), 1.0, offset=0.5), REPORT, POWER).power
    assert power.idle_w == pytest.approx(2.0)
    assert power.energy_net_mj == pytest.approx(250.0)
    assert power.relative_error == pytest.approx(0.1)


class Averaging(Ina3221Meter):
    averaging_s = 1.0


def test_a_meter_that_averages_does_not_tell_of_what_was_before():
    """Each look is the mean of the last second: the first second of a window still tells of the one before."""
    step = box(2.0, 6.0)
    means = looks(lambda moment: sum(step(moment - part / 20) for part in range(20)) / 20, offset=0.5)
    power = evaluate(means, REPORT, Averaging(System())).power
    assert power.energy_mj == pytest.approx(150.0)
    assert power.energy_net_mj == pytest.approx(100.0)
    assert power.idle_w == pytest.approx(2.0)
    short = REPORT._replace(load=(6.0, 6.9))
    assert evaluate(means, short, Averaging(System())).reason == "ina3221: 0.9 s are within the 1 s of its mean"


def test_everything_that_is_told():
    power, reason = evaluate(looks(box(2.0, 6.0), offset=0.5), REPORT, POWER)
    assert reason is None
    assert (power.source, power.scope, power.estimated) == ("ina3221", "module", False)
    assert (power.n, power.rate_hz) == (100, pytest.approx(10.0))
    assert (power.mean_w, power.idle_w) == (pytest.approx(6.0), pytest.approx(2.0))
    assert power.relative_error == pytest.approx(1 / 100)


def test_noise_widens_the_error_as_it_should():
    """Of 200 noisy runs, the true net energy lies within two of its errors nearly always."""
    generator = random.Random(7)
    hits, errors = 0, []
    for _ in range(200):
        clean = looks(box(2.0, 3.0), offset=generator.random() * 0.99)
        noisy = Series(clean.times_s, [value + generator.gauss(0, 0.5) for value in clean.values], False)
        power = evaluate(noisy, REPORT, POWER).power
        errors.append(power.relative_error)
        hits += abs(power.energy_net_mj - 25.0) <= 2 * power.relative_error * 25.0
    assert hits >= 190
    # 0.5 W of noise on 1 W over 100 looks: 5 % and what the rests add.
    assert 0.05 < sorted(errors)[100] < 0.2


def test_a_drift_of_the_idle_power_shows_in_the_error():
    steady = evaluate(looks(box(2.0, 6.0)), REPORT, POWER).power
    drifting = looks(lambda moment: 6.0 if 6 <= moment < 16 else (2.0 if moment < 6 else 3.0))
    drifted = evaluate(drifting, REPORT, POWER).power
    assert drifted.idle_w == pytest.approx(2.5)
    assert drifted.relative_error == pytest.approx(steady.relative_error + 0.5 / 3.5, rel=0.02)


def test_a_slow_rise_under_load_is_no_noise():
    series = looks(lambda moment: 4.0 + 0.1 * moment)
    assert integrate(series, Window(6.0, 16.0), 5).noise_w < 0.01


def test_a_load_that_does_not_rise_above_idle_has_no_relative_error():
    power = evaluate(looks(lambda _: 4.0), REPORT, POWER).power
    assert power.energy_net_mj == pytest.approx(0.0, abs=1e-9)
    assert power.relative_error is None


def test_without_a_rest_only_the_gross_energy_is_known():
    power, reason = evaluate(
        looks(box(2.0, 6.0)), REPORT._replace(idle_before=(6.0, 6.0), idle_after=(16.0, 16.0)), POWER
    )
    assert (power.idle_w, power.energy_net_mj) == (None, None)
    assert power.energy_mj == pytest.approx(150.0, rel=0.01)
    assert "no rest" in reason


def test_one_rest_is_better_than_none():
    power, reason = evaluate(looks(box(2.0, 6.0)), REPORT._replace(idle_before=(6.0, 6.0)), POWER)
    assert (power.idle_w, reason) == (pytest.approx(2.0), None)


def test_a_coarse_counter_counts_as_often_as_it_moves():
    """A counter that moves twice a second, looked at ten times: 20 values in 10 s."""
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
        (Series([], [], False), "ina3221: 0 looks in 10 s, at least 5 are needed"),
        (looks(box(2.0, 6.0), 0.3), "3 looks in 10 s"),
        (without(looks(box(2.0, 6.0)), 8.0, 12.0), "no look for 4.1 of 10 s"),
        (without(looks(box(2.0, 6.0)), 12.0, 24.0), "no look for 4.1 of 10 s"),
        (without(looks(box(2.0, 6.0)), -1.0, 9.5), "no look for 3.5 of 10 s"),
        (looks(lambda _: 0.0), "0 J under load cannot be"),
        (looks(lambda _: -3.0), "-30 J under load cannot be"),
        (Series(list(range(24)), [7.0] * 24, True), "the counter stands still"),
        (Series(list(range(24)), [index // 3 for index in range(24)], True), "the counter moved 3 times in 10 s"),
        (Series(list(range(24)), [float(-index) for index in range(24)], True), "the counter runs backwards"),
    ],
)
def test_looks_that_do_not_tell_are_a_reason(series, reason):
    outcome = evaluate(series, REPORT, POWER)
    assert outcome.power is None
    assert reason in outcome.reason


def test_looks_missing_in_a_rest_cost_only_the_net_energy():
    series = without(without(looks(box(2.0, 6.0)), -1.0, 5.9), 16.5, 24.0)
    power, reason = evaluate(series, REPORT, POWER)
    assert power.energy_mj == pytest.approx(150.0, rel=0.01)
    assert power.energy_net_mj is None
    assert reason == "no idle power: ina3221: 0 looks in 5 s, at least 2 are needed"


@given(
    times=strategies.lists(strategies.floats(-5, 30), max_size=60, unique=True),
    values=strategies.lists(strategies.floats(-1e3, 1e6), min_size=60, max_size=60),
    counts=strategies.booleans(),
)
@settings(deadline=None)
def test_any_looks_give_a_value_or_a_reason(times, values, counts):
    series = Series(sorted(times), values[: len(times)], counts)
    power, reason = evaluate(series, REPORT, POWER)
    assert power is not None or reason
    if power is not None:
        assert power.energy_mj > 0
        assert math.isfinite(power.energy_mj)


def test_too_few_looks_are_an_error_of_the_window():
    with pytest.raises(NotEnough, match="2 looks"):
        integrate(looks(lambda _: 1.0, 1.0), Window(6.5, 8.5), 5)
