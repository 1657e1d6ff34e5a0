"""Compute the energy per inference from the samples of a power meter.

                  ____________
      idle       |    load    |     idle        E     = integral of P over the load, T seconds
    _____________|            |____________     gross = E / n
    |<- before ->|<---- T --->|<- after ->|     net   = (E - P_idle T) / n

Power is integrated by the trapezoid rule between the child's own time stamps; of a counter the difference is
taken. Only samples within a window are used: interpolating to a sample beyond the window would mix load and
idle, and make idle power too large and load power too small, the more the slower the meter is. P_idle is the
mean of the idle periods before and after the load (same model loaded); a drift between them adds to the error.
"""

import bisect
import math
from typing import Iterator, List, NamedTuple, Optional, Sequence

from vitsearch_agent.measure.child.phase_reports import PowerReport
from vitsearch_agent.power.base import PowerMeter, Series, plausible
from vitsearch_agent.wire.measurement import Power, Reading

MINIMUM_SAMPLES = 5
"""The scatter of fewer samples under load cannot be estimated."""

_MINIMUM_IDLE_SAMPLES = 2
_LARGEST_GAP = 1.5
"""The longest allowed gap between samples, in multiples of the gap that the minimum of samples would leave if evenly
spread: a change of power within a longer gap would go unnoticed."""


class Window(NamedTuple):
    """A period from `start_s` to `end_s` of the monotonic clock."""

    start_s: float
    end_s: float

    @property
    def seconds(self) -> float:
        return self.end_s - self.start_s


class Integral(NamedTuple):
    """The energy of a window in joules, from `samples` values; `noise_w` is the scatter of one, 0 for a counter."""

    joules: float
    samples: int
    noise_w: float


class EnergyEstimate(NamedTuple):
    """A Power, or None and the reason; with a Power, `reason` says why its idle part is missing."""

    power: Optional[Power]
    reason: Optional[str]


class NotEnoughSamples(Exception):
    """The samples do not cover the window."""


def evaluate(series: Series, report: PowerReport, meter: PowerMeter) -> EnergyEstimate:
    """Return power and energy of a power phase, or the reason why the samples do not determine them."""
    window = Window(*report.load)
    try:
        load = _after_averaging(series, window, MINIMUM_SAMPLES, meter.averaging_s)
    except NotEnoughSamples as error:
        return EnergyEstimate(None, f"{meter.name}: {error}")
    mean_w = load.joules / window.seconds
    mean = plausible(mean_w, "the power under load")
    if mean.number is None:
        return EnergyEstimate(None, f"{meter.name}: {mean.reason}")
    idle, reason = None, None
    try:
        idle = _idle(series, [Window(*report.idle_before), Window(*report.idle_after)], meter.averaging_s)
    except NotEnoughSamples as error:
        reason = f"no idle power: {meter.name}: {error}"
    else:
        idle_power = plausible(idle.watts, "the idle power")
        if idle_power.number is None:
            idle, reason = None, f"no idle power: {meter.name}: {idle_power.reason}"
    share = relative_error(load, mean_w, idle)
    if share is None:
        reason = "no relative error: the load does not exceed idle"
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
        relative_error=share,
        further={"peak_power_w": _peak(series, window, meter)},
    )
    return EnergyEstimate(power, reason)


def _peak(series: Series, window: Window, meter: PowerMeter) -> Reading:
    """Return the highest power that a sample under load has. A counter has none: between two of its values power may
    have been anything."""
    if series.counts:
        return Reading(None, f"{meter.name} counts energy, and its samples have no power")
    first_s = window.start_s + meter.averaging_s
    under_load = [value for moment, value in zip(series.times_s, series.values) if first_s <= moment <= window.end_s]
    peak = plausible(max(under_load), "the highest power under load")
    return Reading(peak.number, None if peak.reason is None else f"{meter.name}: {peak.reason}")


def integrate(series: Series, window: Window, minimum_samples: int) -> Integral:
    """Return the energy in a window; NotEnoughSamples when there are too few samples or a gap is too long."""
    inside = slice(
        bisect.bisect_left(series.times_s, window.start_s), bisect.bisect_right(series.times_s, window.end_s)
    )
    times, values = list(series.times_s[inside]), list(series.values[inside])
    if len(times) < minimum_samples:
        raise NotEnoughSamples(f"{len(times)} samples in {window.seconds:.3g} s, at least {minimum_samples} are needed")
    ends = [window.start_s, *times, window.end_s]
    gap_s = max(after - before for before, after in zip(ends, ends[1:]))
    if gap_s > _LARGEST_GAP * window.seconds / minimum_samples:
        raise NotEnoughSamples(f"no sample for {gap_s:.3g} of {window.seconds:.3g} s")
    if series.counts:
        return _counted(times, values, window, minimum_samples)
    joules = math.fsum(_areas(ends, [values[0], *values, values[-1]]))
    return Integral(joules, len(values), _scatter(values))


def _after_averaging(series: Series, window: Window, minimum_samples: int, averaging_s: float) -> Integral:
    """Return the energy in a window without its first `averaging_s` seconds, scaled to the whole window.

    In these seconds a meter that averages still includes power from before the window. The power within
    a window is assumed to be steady.
    """
    later = Window(window.start_s + averaging_s, window.end_s)
    if later.seconds <= 0:
        raise NotEnoughSamples(
            f"the window of {window.seconds:.3g} s is not longer than the {averaging_s:.3g} s over which it averages"
        )
    integral = integrate(series, later, minimum_samples)
    return integral._replace(joules=integral.joules * window.seconds / later.seconds)


class _Idle(NamedTuple):
    """Mean power of the idle periods, half of their difference, and the standard error of the mean."""

    watts: float
    drift_w: float
    error_w: float


def _idle(series: Series, windows: Sequence[Window], averaging_s: float) -> _Idle:
    windows = [window for window in windows if window.seconds > 0]
    if not windows:
        raise NotEnoughSamples("the protocol has no idle period (idle_s)")
    means: List[float] = []
    variance = 0.0
    for window in windows:
        idle = _after_averaging(series, window, _MINIMUM_IDLE_SAMPLES, averaging_s)
        means.append(idle.joules / window.seconds)
        variance += idle.noise_w**2 / idle.samples
    drift_w = (max(means) - min(means)) / 2
    return _Idle(math.fsum(means) / len(means), drift_w, math.sqrt(variance) / len(means))


def relative_error(load: Integral, mean_w: float, idle: Optional[_Idle]) -> Optional[float]:
    """Estimate the error of the net energy (without an idle period: of the gross energy) as a share of it.

    The terms: s / (P sqrt(n)) for the noise of n samples, 1/n for the ends of the window, which no sample
    covers, and the noise and drift of the idle power. None when the load does not exceed idle: the share
    would be unbounded.
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


def _counted(times: List[float], values: List[float], window: Window, minimum_changes: int) -> Integral:
    """Return the energy from the counter's slope between its first and last change, where it is most exact."""
    if any(after < before for before, after in zip(values, values[1:])):
        raise NotEnoughSamples("the counter runs backwards")
    changes = [index for index in range(1, len(values)) if values[index] > values[index - 1]]
    if not changes:
        raise NotEnoughSamples("the counter does not change")
    if len(changes) < minimum_changes:
        raise NotEnoughSamples(
            f"the counter changed {len(changes)} times in {window.seconds:.3g} s, at least {minimum_changes} are needed"
        )
    first, last = changes[0], changes[-1]
    slope_w = (values[last] - values[first]) / (times[last] - times[first])
    return Integral(slope_w * window.seconds, len(changes), 0.0)


def _scatter(values: List[float]) -> float:
    """Return the standard deviation of one sample from successive differences, so that a slow rise does not count as
    noise (von Neumann)."""
    steps = [(after - before) ** 2 for before, after in zip(values, values[1:])]
    return math.sqrt(math.fsum(steps) / (2 * len(steps))) if steps else 0.0
