"""The temperature of the processor, and waiting until the processor has cooled down.

Zone names differ from board to board: `CPU-therm` and `PMIC-Die` (JetPack 4), `cpu-thermal` and
`tj-thermal` (JetPack 5 and 6, Raspberry Pi), `x86_pkg_temp`, `bigcore0-thermal`. The hottest zone on the
processor's chip is used. The other zones (battery, wifi, PMIC, a fan's estimate) say little about the
processor or are constant; a zone called `soc` and nothing else is the charge of a phone's battery, in
percent. AMD processors report their temperature only through hwmon.
"""

import re
from typing import Callable, List, NamedTuple, Optional

from vitsearch_agent.base.system import System

_COUNTS = re.compile(
    r"(?:^|[^a-z])(?:(?:[abm]|x86|t|big|little)?(?:cpu|core)(?:ss)?|gpu(?:ss)?|soc|npu|tj|tctl|tdie|tccd"
    r"|x86[_-]?pkg|package|coretemp|k10temp|bcm2835|imx)(?:[^a-z]|$)"
)
_NEVER_COUNTS = re.compile(r"\Asoc\Z|pmic|batt|fan|board|diode|wifi|iwl|acpitz|int3400|modem|charger|ddr|mem")
_LOWEST_C, _HIGHEST_C = -40.0, 150.0
_POLL_S = 0.5


class Zone(NamedTuple):
    """A sensor: the kernel's name for it, and the file with its value."""

    name: str
    path: str


class ZoneTemperature(NamedTuple):
    """A zone and its temperature in degrees Celsius."""

    zone: str
    celsius: float


class Thermometer:
    """The temperature sensors of the processor; `reason` says why there are none, None when there are."""

    def __init__(self, system: System) -> None:
        self._system = system
        zones = _thermal_zones(system)
        self._zones = [zone for zone in zones if is_processor_zone(zone.name)]
        if not self._zones:
            sensors = _hwmon_sensors(system)
            self._zones = [zone for zone in sensors if is_processor_zone(zone.name)]
            zones += sensors
        self.reason = None if self.read() is not None else self._why_not(zones)

    def read(self) -> Optional[ZoneTemperature]:
        """Return the hottest processor zone now, None without one; zones that are switched off are ignored."""
        temperatures = []
        for zone in self._zones:
            celsius = to_celsius(self._system.number(zone.path))
            if celsius is not None:
                temperatures.append(ZoneTemperature(zone.name, celsius))
        return max(temperatures, key=lambda reading: reading.celsius) if temperatures else None

    def _why_not(self, zones: List[Zone]) -> str:
        if self._zones:
            return f"no value in {', '.join(zone.name for zone in self._zones)}"
        if zones:
            return f"no sensor belongs to the processor: {', '.join(zone.name for zone in zones)}"
        return "the system has no temperature sensor"


def is_processor_zone(name: str) -> bool:
    """Return whether a zone of this name is on the processor's chip."""
    lower = name.lower()
    return _NEVER_COUNTS.search(lower) is None and _COUNTS.search(lower) is not None


def to_celsius(raw: Optional[float]) -> Optional[float]:
    """Convert a sensor's value to degrees Celsius; None for a value that no processor can have.

    The kernel reports thousandths of a degree, some old board kernels whole degrees. A sensor that is
    switched off reads -256000 or 0.
    """
    if raw is None or raw == 0 or raw != raw:
        return None
    celsius = raw if abs(raw) <= _HIGHEST_C else raw / 1e3
    return celsius if _LOWEST_C < celsius < _HIGHEST_C else None


def cool_down(
    thermometer: Thermometer, limit_c: float, at_most_s: float, system: System, stopped: Callable[[], bool]
) -> Optional[bool]:
    """Wait until the processor is at most `limit_c` warm, for at most `at_most_s` seconds or until `stopped()`.

    Return whether it is; None when there is no temperature to read.
    """
    start = system.clock()
    while True:
        temperature = thermometer.read()
        waited_s = system.clock() - start
        if temperature is None:
            return None
        if temperature.celsius <= limit_c:
            return True
        if waited_s >= at_most_s or stopped():
            return False
        system.sleep(min(_POLL_S, at_most_s - waited_s))


def _thermal_zones(system: System) -> List[Zone]:
    zones = []
    for path in system.glob("/sys/class/thermal/thermal_zone*/temp"):
        name = system.read(path[: -len("temp")] + "type").text
        if name:
            zones.append(Zone(name, path))
    return zones


def _hwmon_sensors(system: System) -> List[Zone]:
    """Return the sensors, named `chip label`.

    Tctl is left out where Tdie exists: on some Ryzens Tctl reads up to 27 degrees more than the true Tdie.
    """
    sensors = []
    for path in system.glob("/sys/class/hwmon/hwmon*/temp*_input"):
        folder, _, file_name = path.rpartition("/")
        chip = system.read(f"{folder}/name").text or ""
        label = system.read(f"{folder}/{file_name[: -len('_input')]}_label").text or ""
        sensors.append(Zone(f"{chip} {label}".strip(), path))
    with_tdie = {zone.name[: -len("Tdie")] for zone in sensors if zone.name.endswith("Tdie")}
    return [zone for zone in sensors if not (zone.name.endswith("Tctl") and zone.name[: -len("Tctl")] in with_tdie)]
