"""Read every power meter of a device, for `vitsearch-agent power`."""

import math
from typing import Any, List, Mapping, NamedTuple, Optional

from vitsearch_agent import power
from vitsearch_agent.base.system import System
from vitsearch_agent.config import PowerConfig
from vitsearch_agent.errors import AgentError
from vitsearch_agent.power.base import PowerMeter, plausible
from vitsearch_agent.power.recorder import Recorder


class MeterReading(NamedTuple):
    """The reading of one meter: its mean power in watts over a short time, or None and the reason."""

    name: str
    in_use: bool
    scope: str
    watts: Optional[float]
    reason: Optional[str]


def survey(config: PowerConfig, system: System, seconds: float = 2.0) -> List[MeterReading]:
    """Read every known meter, also of other packages, `seconds` each: the configured one, then in the order of trial.

    Those that are used only when configured come last.
    """
    power.check(config, system)
    configured = () if config.meter in ("auto", "none") else (config.meter,)
    tried = configured or (() if config.meter == "none" else tuple(power.AUTOMATIC))
    names = dict.fromkeys((*configured, *power.AUTOMATIC, *power.table()))
    readings: List[MeterReading] = []
    for name in names:
        reading = _read(name, system, config.options if name in configured else None, seconds)
        in_use = reading.watts is not None and name in tried and not any(earlier.in_use for earlier in readings)
        readings.append(reading._replace(in_use=in_use))
    return readings


def _read(name: str, system: System, options: Optional[Mapping[str, Any]], seconds: float) -> MeterReading:
    try:
        meter = power.create(name, system, options)
    except Exception as error:  # noqa: BLE001 - it needs options, or another package's class fails
        why = str(error) if isinstance(error, AgentError) else f"{type(error).__name__}: {error}"
        return MeterReading(name, False, "", None, why)
    watts, reason = _watts(meter, system, seconds)
    return MeterReading(name, False, meter.scope, watts, reason)


class _Watts(NamedTuple):
    watts: Optional[float]
    reason: Optional[str]


def _watts(meter: PowerMeter, system: System, seconds: float) -> _Watts:
    state = power.availability(meter)
    if not state.available:
        return _Watts(None, state.reason)
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
        return _Watts(*plausible(math.fsum(series.values) / count, "its power"))
    used_j, passed_s = series.values[-1] - series.values[0], series.times_s[-1] - series.times_s[0]
    if used_j <= 0:
        return _Watts(None, f"its counter did not change for {seconds:g} s")
    return _Watts(used_j / passed_s, None)
