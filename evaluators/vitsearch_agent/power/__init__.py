"""Power meters by name, and the choice of the meter of this device.

A meter's module is imported when it is first created.
"""

from typing import Any, Callable, Dict, Iterable, Mapping, NamedTuple, Optional, Tuple

from vitsearch_agent.base import plugins
from vitsearch_agent.base.system import System
from vitsearch_agent.config import PowerConfig
from vitsearch_agent.errors import InvalidRequest
from vitsearch_agent.power.base import MeterAvailability, PowerMeter, Sample

ENTRY_POINT_GROUP = "vitsearch_agent.power"

AUTOMATIC = {
    "ina3221": "vitsearch_agent.power.ina3221:Ina3221Meter",
    "tegrastats": "vitsearch_agent.power.tegrastats:TegrastatsMeter",
    "pi_pmic": "vitsearch_agent.power.pi_pmic:PiPmicMeter",
    "rapl": "vitsearch_agent.power.rapl:RaplMeter",
    "battery": "vitsearch_agent.power.battery:BatteryMeter",
}
"""Tried in this order when the configuration names no meter: the board's own meter before the processor's."""

BY_NAME = {
    "nvml": "vitsearch_agent.power.nvml:NvmlMeter",
    "android_battery": "vitsearch_agent.power.battery:AndroidBatteryMeter",
    "external_csv": "vitsearch_agent.power.external_csv:ExternalCsvMeter",
}
"""Used only when configured: not every model runs on the graphics card, and the others need options."""

__all__ = ["MeterAvailability", "PowerMeter", "Sample", "availability", "check", "create", "find", "table"]


class MeterChoice(NamedTuple):
    """The meter in use, or None and the reason for each meter that was tried."""

    meter: Optional[PowerMeter]
    reason: Optional[str]


def table(entry_points: Optional[Callable[[], Iterable[Tuple[str, str]]]] = None) -> Dict[str, str]:
    """Return name -> "module:Class"; AgentError when two packages claim one name."""
    return plugins.table("power meter", ENTRY_POINT_GROUP, dict(AUTOMATIC, **BY_NAME), entry_points)


def create(name: str, system: System, options: Optional[Mapping[str, Any]] = None) -> PowerMeter:
    """Return the meter of that name.

    Raises InvalidRequest with the nearest name when it is unknown, and for options that it does not have.
    """
    builtin = dict(AUTOMATIC, **BY_NAME)
    meter_class = plugins.load("power meter", name, builtin if name in builtin else table())
    meter: PowerMeter = plugins.checked(meter_class(system, options), PowerMeter)
    return meter


def check(config: PowerConfig, system: System) -> None:
    """Raise InvalidRequest for a configuration that cannot work; the message names what is allowed."""
    if config.meter not in ("auto", "none"):
        create(config.meter, system, config.options)
    elif config.options:
        raise InvalidRequest(f"power.options belong to one meter: name it in power.meter, which is {config.meter!r}")


def find(config: PowerConfig, system: System) -> MeterChoice:
    """Return the configured meter, or the first automatic one that can be read; each is read once."""
    if config.meter == "none":
        return MeterChoice(None, "no power meter: switched off in config.json")
    reasons = []
    for name in AUTOMATIC if config.meter == "auto" else (config.meter,):
        meter = create(name, system, config.options if config.meter != "auto" else None)
        state = availability(meter)
        if state.available:
            return MeterChoice(meter, None)
        reasons.append(f"{name}: {state.reason}")
    return MeterChoice(None, f"no power meter: {'; '.join(reasons)}")


def availability(meter: PowerMeter) -> MeterAvailability:
    """Return whether a meter can be read; one that raises cannot."""
    try:
        return meter.available()
    except Exception as error:  # noqa: BLE001 - the meter may be another package's
        return MeterAvailability(False, f"{type(error).__name__}: {error}")
