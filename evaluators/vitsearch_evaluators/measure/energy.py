"""From looks at a meter to energy per inference.

                  ____________
      idle       |    load    |     idle        E     = integral of P over the load, T seconds
    _____________|            |____________     gross = E / n
    |<- before ->|<---- T --->|<- after ->|     net   = (E - P_idle T) / n

Power is integrated by the trapezoid rule between the child's own stamps, counters are differences. Only
looks within a window count: a line to the look beyond its end would lead to another state, and make idle
power too large and load too small by as much as the meter is slow. P_idle is the mean of the rests before
and after (the same model loaded); a drift between them shows in the error.
"""

import bisect
import math
from typing import Iterator, List, NamedTuple, Optional, Sequence

from vitsearch_evaluators.measure.child.phase_reports import PowerReport
from vitsearch_evaluators.power.base import PowerMeter, Series
from vitsearch_evaluators.wire.measurement import Power

MINIMUM_SAMPLES = 5
"""Fewer looks under load say nothing about their own scatter."""

_MINIMUM_IDLE_SAMPLES = 2
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
    samples: int
    noise_w: float


class EnergyEstimate(NamedTuple):
    """A Power, or None; `reason` says why it is missing or, beside a Power, why its idle half is."""

    power: Optional[Power]
    reason: Optional[str]


class NotEnough(Exception):
    """The looks do not cover the window."""


def evaluate(series: Series, report: PowerReport, meter: PowerMeter) -> EnergyEstimate:
    """Return power and energy of a power phase, or the reason why the looks do not give them."""
    window = Window(*report.load)
    try:
        load = _after_averaging(series, window, MINIMUM_SAMPLES, meter.averaging_s)
    except NotEnough as error:
        return EnergyEstimate(None, f"{meter.name}: {error}")
    if load.joules <= 0:
        return EnergyEstimate(None, f"{meter.name}: {load.joules:g} J under load cannot be")
    idle, reason = None, None
    try:
        idle = _idle(series, [Window(*report.idle_before), Window(*report.idle_after)], meter.averaging_s)
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
        rate_hz=load.samples / window.seconds,
        n=load.samples,
        relative_error=relative_error(load, mean_w, idle),
    )
    return EnergyEstimate(power, reason)


def integrate(series: Series, window: Window, minimum_samples: int) -> Integral:
    """Return the energy in a window; NotEnough when there are too few looks or they leave a gap."""
    inside = slice(
        bisect.bisect_left(series.times_s, window.start_s), bisect.bisect_right(series.times_s, window.end_s)
    )
    times, values = list(series.times_s[inside]), list(series.values[inside])
    if len(times) < minimum_samples:
        raise NotEnough(f"{len(times)} looks in {window.seconds:.3g} s, at least {minimum_samples} are needed")
    ends = [window.start_s, *times, window.end_s]
    gap_s = max(after - before for before, after in zip(ends, ends[1:]))
    if gap_s > _LARGEST_GAP * window.seconds / minimum_samples:
        raise NotEnough(f"no look for {gap_s:.3g} of {window.seconds:.3g} s")
    if series.counts:
        return _counted(times, values, window, minimum_samples)
    joules = math.fsum(_areas(ends, [values[0], *values, values[-1]]))
    return Integral(joules, len(values), _scatter(values))


def _after_averaging(series: Series, window: Window, minimum_samples: int, averaging_s: float) -> Integral:
    """Return the energy in a window as if the meter had told of it from its start.

    A meter that averages still tells of what was before for `averaging_s`; what is steady there is what
    follows.
    """
    later = Window(window.start_s + averaging_s, window.end_s)
    if later.seconds <= 0:
        raise NotEnough(f"{window.seconds:.3g} s are within the {averaging_s:.3g} s of its mean")
    found = integrate(series, later, minimum_samples)
    return found._replace(joules=found.joules * window.seconds / later.seconds)


class _Idle(NamedTuple):
    """Mean power of the rests, half of what they differ by, and the standard error of the mean."""

    watts: float
    drift_w: float
    error_w: float


def _idle(series: Series, windows: Sequence[Window], averaging_s: float) -> _Idle:
    windows = [window for window in windows if window.seconds > 0]
    if not windows:
        raise NotEnough("the protocol has no rest (idle_s)")
    means: List[float] = []
    variance = 0.0
    for window in windows:
        rest = _after_averaging(series, window, _MINIMUM_IDLE_SAMPLES, averaging_s)
        means.append(rest.joules / window.seconds)
        variance += rest.noise_w**2 / rest.samples
    drift_w = (max(means) - min(means)) / 2
    return _Idle(math.fsum(means) / len(means), drift_w, math.sqrt(variance) / len(means))


def relative_error(load: Integral, mean_w: float, idle: Optional[_Idle]) -> Optional[float]:
    """Estimate the error of the net energy (of the gross one without a rest) as a share of it.

    s / (P sqrt(n)) for the noise of n looks, 1/n for the ends of the window, of which no look tells,
    and the noise and the drift of the idle power. None when the load does not rise above idle: the
    share is then without bounds.
    """
    noise_w = load.noise_w / math.sqrt(load.samples)
    if idle is None:
        return noise_w / mean_w + 1.0 / load.samples
    net_w = mean_w - idle.watts
    if net_w <= 0:
        return None
    return (math.hypot(noise_w, idle.error_w) + idle.drift_w) / net_w + 1.0 / load.samples


def _areas(times: Sequence[float], values: Sequence[float]) -> Iterator[float]:
    for index in range(len(times) - 1):
        yield (times[index + 1] - times[index]) * (values[index] + values[index + 1]) / 2


def _counted(times: List[float], values: List[float], window: Window, minimum_moves: int) -> Integral:
    """Take the counter's slope between its first and its last move, where it tells most exactly."""
    if any(after < before for before, after in zip(values, values[1:])):
        raise NotEnough("the counter runs backwards")
    moves = [index for index in range(1, len(values)) if values[index] > values[index - 1]]
    if not moves:
        raise NotEnough("the counter stands still")
    if len(moves) < minimum_moves:
        told = f"the counter moved {len(moves)} times in {window.seconds:.3g} s"
        raise NotEnough(f"{told}, at least {minimum_moves} are needed")
    first, last = moves[0], moves[-1]
    slope_w = (values[last] - values[first]) / (times[last] - times[first])
    return Integral(slope_w * window.seconds, len(moves), 0.0)


def _scatter(values: List[float]) -> float:
    """Return the standard deviation of one look, from neighbours: a slow rise is no noise (von Neumann)."""
    steps = [(after - before) ** 2 for before, after in zip(values, values[1:])]
    return math.sqrt(math.fsum(steps) / (2 * len(steps))) if steps else 0.0
