"""Read every power meter of a device, for `vitsearch-agent power`."""

import math
from typing import List, NamedTuple, Optional

from vitsearch_evaluators import power
from vitsearch_evaluators.base.system import System
from vitsearch_evaluators.config import PowerConfig
from vitsearch_evaluators.power.base import PowerMeter
from vitsearch_evaluators.power.recorder import Recorder


class Reading(NamedTuple):
    """The reading of one meter: its mean power in watts over a short time, or None and the reason."""

    name: str
    in_use: bool
    scope: str
    watts: Optional[float]
    reason: Optional[str]


def survey(config: PowerConfig, system: System, seconds: float = 2.0) -> List[Reading]:
    """Read the configured meter and the automatic ones, in the order in which they are tried, `seconds` each."""
    power.check(config, system)
    configured = () if config.meter in ("auto", "none") else (config.meter,)
    readings: List[Reading] = []
    for name in (*configured, *(name for name in power.AUTOMATIC if name not in configured)):
        meter = power.create(name, system, config.options if name in configured else None)
        watts, reason = _watts(meter, system, seconds)
        in_use = watts is not None and config.meter != "none" and not any(reading.in_use for reading in readings)
        readings.append(Reading(name, in_use and (not configured or name in configured), meter.scope, watts, reason))
    return readings


class _Watts(NamedTuple):
    watts: Optional[float]
    reason: Optional[str]


def _watts(meter: PowerMeter, system: System, seconds: float) -> _Watts:
    found = power.availability(meter)
    if not found.available:
        return _Watts(None, found.reason)
    recorder = Recorder(meter)
    start_s = system.clock()
    recorder.start()
    system.sleep(seconds)
    recorder.stop()
    series = recorder.series(start_s, system.clock())
    count = len(series.values)
    if count < 2:
        return _Watts(None, recorder.problem or f"{count} samples in {seconds:g} s")
    if not series.counts:
        return _Watts(math.fsum(series.values) / count, None)
    used_j, passed_s = series.values[-1] - series.values[0], series.times_s[-1] - series.times_s[0]
    return (
        _Watts(used_j / passed_s, None) if used_j > 0 else _Watts(None, f"its counter did not change for {seconds:g} s")
    )
