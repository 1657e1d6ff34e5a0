"""How warm the processor is, and waiting until it has cooled down.

Boards name their zones as they like: `CPU-therm` and `PMIC-Die` (JetPack 4), `cpu-thermal` and
`tj-thermal` (JetPack 5 and 6, Raspberry Pi), `x86_pkg_temp`, `bigcore0-thermal`. What counts is the
hottest of those that sit on the chip that computes; the rest (battery, wifi, PMIC, a fan's estimate)
says little about it or is a constant. AMD tells by hwmon alone.
"""

import re
from typing import Callable, List, NamedTuple, Optional

from vitsearch_evaluators.base.system import System

_COUNTS = re.compile(
    r"(?:^|[^a-z])(?:(?:[abm]|x86|t|big|little)?(?:cpu|core)(?:ss)?|gpu(?:ss)?|soc|npu|tj|tctl|tdie|tccd"
    r"|x86[_-]?pkg|package|coretemp|k10temp|bcm2835|imx)(?:[^a-z]|$)"
)
_NEVER_COUNTS = re.compile(r"pmic|batt|fan|board|diode|wifi|iwl|acpitz|int3400|modem|charger|ddr|mem")
_LOWEST_C, _HIGHEST_C = -40.0, 150.0
_POLL_S = 0.5


class Zone(NamedTuple):
    """A sensor: the name that the kernel gives it, and the file with its value."""

    name: str
    path: str


class Heat(NamedTuple):
    """The hottest zone that counts, in degrees Celsius."""

    zone: str
    celsius: float


class Thermometer:
    """`reason` says why there is no temperature to read, None when there is one."""

    def __init__(self, system: System) -> None:
        self._system = system
        found = _thermal_zones(system)
        self._zones = [zone for zone in found if counts(zone.name)]
        if not self._zones:
            sensors = _hwmon_sensors(system)
            self._zones = [zone for zone in sensors if counts(zone.name)]
            found += sensors
        self.reason = None if self.read() is not None else self._why_not(found)

    def read(self) -> Optional[Heat]:
        """Return the hottest zone now; zones that are switched off are passed over."""
        heats = []
        for zone in self._zones:
            celsius = to_celsius(self._system.number(zone.path))
            if celsius is not None:
                heats.append(Heat(zone.name, celsius))
        return max(heats, key=lambda heat: heat.celsius) if heats else None

    def _why_not(self, found: List[Zone]) -> str:
        if self._zones:
            return f"no value in {', '.join(zone.name for zone in self._zones)}"
        if found:
            return f"none of its sensors is the processor's: {', '.join(zone.name for zone in found)}"
        return "the system shows no temperature sensor"


def counts(name: str) -> bool:
    """Say whether a zone of this name sits on the chip that computes."""
    lower = name.lower()
    return _NEVER_COUNTS.search(lower) is None and _COUNTS.search(lower) is not None


def to_celsius(raw: Optional[float]) -> Optional[float]:
    """Return a sensor's number in degrees Celsius; None for what no processor can have.

    The kernel tells thousandths of a degree, some old board kernels whole degrees. A sensor that is
    switched off says -256000 or 0.
    """
    if raw is None or raw == 0 or raw != raw:
        return None
    celsius = raw if abs(raw) <= _HIGHEST_C else raw / 1e3
    return celsius if _LOWEST_C < celsius < _HIGHEST_C else None


def cool_down(
    thermometer: Thermometer, limit_c: float, at_most_s: float, system: System, stopped: Callable[[], bool]
) -> Optional[bool]:
    """Wait until it is no warmer than `limit_c`, for `at_most_s` seconds or until `stopped()`.

    Return whether it is; None when there is no temperature to wait for.
    """
    start = system.clock()
    while True:
        heat = thermometer.read()
        waited_s = system.clock() - start
        if heat is None:
            return None
        if heat.celsius <= limit_c:
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
    """Named `chip label`. Tctl of some Ryzens is up to 27 degrees above the truth that Tdie tells."""
    sensors = []
    for path in system.glob("/sys/class/hwmon/hwmon*/temp*_input"):
        folder, _, file_name = path.rpartition("/")
        chip = system.read(f"{folder}/name").text or ""
        label = system.read(f"{folder}/{file_name[: -len('_input')]}_label").text or ""
        sensors.append(Zone(f"{chip} {label}".strip(), path))
    honest = {zone.name[: -len("Tdie")] for zone in sensors if zone.name.endswith("Tdie")}
    return [zone for zone in sensors if not (zone.name.endswith("Tctl") and zone.name[: -len("Tctl")] in honest)]
