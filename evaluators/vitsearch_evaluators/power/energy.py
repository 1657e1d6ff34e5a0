"""From looks at a meter to energy per inference.

                  ____________
      idle       |    load    |     idle        E     = integral of P over the load, T seconds
    _____________|            |____________     gross = E / n
    |<- before ->|<---- T --->|<- after ->|     net   = (E - P_idle T) / n

Power is integrated by the trapezoid rule between the child's own stamps, with the power at a stamp taken
from the straight line between its neighbours; counters are differences, with the same line. P_idle is the
mean of the rests before and after the load (the same model loaded): a drift between them shows in the error.
"""

import bisect
import math
from typing import List, NamedTuple, Optional, Sequence

from vitsearch_evaluators.phases import PowerReport
from vitsearch_evaluators.power.base import PowerMeter, Series
from vitsearch_evaluators.records import Power

MINIMUM_LOOKS = 5
"""Fewer looks under load say nothing about their own scatter."""

_MINIMUM_IDLE_LOOKS = 2
_LARGEST_GAP = 1.5
"""The longest stretch without a look, in those of the fewest looks evenly spread: silence hides a change."""


class Window(NamedTuple):
    """From `start_s` to `end_s`, monotonic."""

    start_s: float
    end_s: float

    @property
    def seconds(self) -> float:
        return self.end_s - self.start_s


class Integral(NamedTuple):
    """`joules` over a window from `looks` values; `noise_w` is the scatter of one look, 0 for a counter."""

    joules: float
    looks: int
    noise_w: float


class Outcome(NamedTuple):
    """A Power, or None; `reason` says why it is missing or, beside a Power, why its idle half is."""

    power: Optional[Power]
    reason: Optional[str]


class NotEnough(Exception):
    """The looks do not cover the window."""


def evaluate(series: Series, report: PowerReport, meter: PowerMeter) -> Outcome:
    """Return power and energy of a power phase, or the reason why the looks do not give them."""
    window = Window(*report.load)
    try:
        load = integrate(series, window, MINIMUM_LOOKS)
    except NotEnough as error:
        return Outcome(None, f"{meter.name}: {error}")
    if load.joules <= 0:
        return Outcome(None, f"{meter.name}: {load.joules:g} J under load cannot be")
    idle, reason = None, None
    try:
        idle = _idle(series, [Window(*report.idle_before), Window(*report.idle_after)])
    except NotEnough as error:
        reason = f"no idle power: {meter.name}: {error}"
    mean_w = load.joules / window.seconds
    net_j = None if idle is None else load.joules - idle.watts * window.seconds
    power = Power(
        mean_w=mean_w,
        idle_w=None if idle is None else idle.watts,
        energy_mj=1e3 * load.joules / report.inferences,
        energy_net_mj=None if net_j is None else 1e3 * net_j / report.inferences,
        source=meter.name,
        scope=meter.scope,
        estimated=meter.estimated,
        rate_hz=load.looks / window.seconds,
        n=load.looks,
        relative_error=relative_error(load, mean_w, idle),
    )
    return Outcome(power, reason)


def integrate(series: Series, window: Window, minimum_looks: int) -> Integral:
    """Return the energy in a window; NotEnough when there are too few looks or they leave a gap."""
    first = bisect.bisect_left(series.times_s, window.start_s)
    last = bisect.bisect_right(series.times_s, window.end_s)
    if last - first < minimum_looks:
        raise NotEnough(f"{last - first} looks in {window.seconds:.3g} s, at least {minimum_looks} are needed")
    times = [window.start_s, *series.times_s[first:last], window.end_s]
    gap_s = max(after - before for before, after in zip(times, times[1:]))
    if gap_s > _LARGEST_GAP * window.seconds / minimum_looks:
        raise NotEnough(f"no look for {gap_s:.3g} of {window.seconds:.3g} s")
    return _counted(series, window, first, last) if series.counts else _trapezoid(series, window, first, last)


class _Idle(NamedTuple):
    """Mean power of the rests, half of what they differ by, and the standard error of the mean."""

    watts: float
    drift_w: float
    error_w: float


def _idle(series: Series, windows: Sequence[Window]) -> _Idle:
    windows = [window for window in windows if window.seconds > 0]
    if not windows:
        raise NotEnough("the protocol has no rest (idle_s)")
    means: List[float] = []
    variance = 0.0
    for window in windows:
        rest = integrate(series, window, _MINIMUM_IDLE_LOOKS)
        means.append(rest.joules / window.seconds)
        variance += rest.noise_w**2 / rest.looks
    drift_w = (max(means) - min(means)) / 2
    return _Idle(math.fsum(means) / len(means), drift_w, math.sqrt(variance) / len(means))


def relative_error(load: Integral, mean_w: float, idle: Optional[_Idle]) -> Optional[float]:
    """Estimate the error of the net energy (of the gross one without a rest) as a share of it.

    s / (P sqrt(n)) for the noise of n looks, 1/n for the two ends of the window, which lie anywhere
    between looks, and the noise and the drift of the idle power. None when the load does not rise
    above idle: its share is then without bounds.
    """
    noise_w = load.noise_w / math.sqrt(load.looks)
    if idle is None:
        return noise_w / mean_w + 1.0 / load.looks
    net_w = mean_w - idle.watts
    if net_w <= 0:
        return None
    return (math.hypot(noise_w, idle.error_w) + idle.drift_w) / net_w + 1.0 / load.looks


def _trapezoid(series: Series, window: Window, first: int, last: int) -> Integral:
    times = [window.start_s, *series.times_s[first:last], window.end_s]
    inside = list(series.values[first:last])
    values = [_at(series, window.start_s, first), *inside, _at(series, window.end_s, last)]
    parts = ((times[i + 1] - times[i]) * (values[i] + values[i + 1]) / 2 for i in range(len(times) - 1))
    return Integral(math.fsum(parts), len(inside), _scatter(inside))


def _counted(series: Series, window: Window, first: int, last: int) -> Integral:
    low, high = max(0, first - 1), min(len(series.times_s), last + 1)
    values = series.values[low:high]
    if any(after < before for before, after in zip(values, values[1:])):
        raise NotEnough("the counter runs backwards")
    # A counter that moves less often than it is looked at tells only as often as it moves.
    moves = sum(1 for i in range(max(1, first), last) if series.values[i] > series.values[i - 1])
    if moves == 0:
        raise NotEnough("the counter stands still")
    start_j, end_j = _at(series, window.start_s, first), _at(series, window.end_s, last)
    return Integral(end_j - start_j, moves, 0.0)


def _at(series: Series, moment: float, index: int) -> float:
    """Return the value at a moment; `index` is that of the first look after it.

    Beyond the first and the last look, power stays and a counter goes on as on average.
    """
    times, values = series.times_s, series.values
    if 0 < index < len(times):
        return _between(times[index - 1], values[index - 1], times[index], values[index], moment)
    nearest = 0 if index == 0 else -1
    if not series.counts or len(times) < 2:
        return values[nearest]
    slope = (values[-1] - values[0]) / (times[-1] - times[0])
    return values[nearest] + slope * (moment - times[nearest])


def _between(before_s: float, before: float, after_s: float, after: float, moment: float) -> float:
    span = after_s - before_s
    share = (moment - before_s) / span if span > 0 else 0.0
    return before + (after - before) * share


def _scatter(values: List[float]) -> float:
    """Return the standard deviation of one look, from neighbours: a slow rise is no noise (von Neumann)."""
    steps = [(after - before) ** 2 for before, after in zip(values, values[1:])]
    return math.sqrt(math.fsum(steps) / (2 * len(steps))) if steps else 0.0
