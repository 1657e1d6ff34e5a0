"""The energy counters of Intel and AMD processors, through Linux's powercap.

    /sys/class/powercap/intel-rapl:0/{name: package-0, energy_uj, max_energy_range_uj}
    /sys/class/powercap/intel-rapl:0:0/{name: core, dram, ...}

The packages and their memory (`dram`) are counted, each once: `core` and `uncore` are parts of a package, `psys`
contains everything, and `intel-rapl-mmio:*` are the same packages again. Since Linux 5.10 (CVE-2020-8694) only
root may read `energy_uj`; without permission the meter is unavailable, with that reason.
"""

import re
from typing import Dict, List, Optional, Tuple

from vitsearch_agent.base.system import System
from vitsearch_agent.power.base import MeterAvailability, MeterValue, PowerMeter, Sample, read_number
from vitsearch_agent.power.energy_counters import Counter

_ZONES = "/sys/class/powercap/intel-rapl:*"
_PACKAGE = re.compile(r"package-[0-9]+(-die-[0-9]+)?\Z")


class RaplMeter(PowerMeter):
    """The energy of all processor packages and their memory."""

    name = "rapl"
    scope = "package"
    _counters: Dict[str, Counter] = {}

    def available(self) -> MeterAvailability:
        zones, reason = find_zones(self.system)
        for zone in zones:
            reason = reason or read_number(self.system, f"{zone}/energy_uj").reason
        if reason is not None and "denied" in reason:
            reason += " (only root may read it by default; the README has a udev rule)"
        return MeterAvailability(reason is None, reason)

    def start(self) -> None:
        zones, self.problem = find_zones(self.system)
        self._counters = {zone: Counter(_range_j(self.system, zone)) for zone in zones}

    def sample(self) -> Optional[Sample]:
        if not self._counters:
            return None
        before = self.system.clock()
        readings = [(zone, read_number(self.system, f"{zone}/energy_uj")) for zone in self._counters]
        moment = (before + self.system.clock()) / 2
        value = self._add(readings, moment)
        self.problem = value.reason
        return None if value.number is None else Sample(moment, energy_j=value.number)

    def _add(self, readings: List[Tuple[str, MeterValue]], moment: float) -> MeterValue:
        total_j = 0.0
        for zone, reading in readings:
            if reading.number is None:
                return reading
            value = self._counters[zone].feed(reading.number / 1e6, moment)
            if value.number is None:
                return MeterValue(None, f"{zone}: {value.reason}")
            total_j += value.number
        return MeterValue(total_j, None)


def find_zones(system: System) -> Tuple[List[str], Optional[str]]:
    """Return the folders of the packages and their memory, or no folders and the reason."""
    names = {zone: system.read(f"{zone}/name").text or "" for zone in system.glob(_ZONES)}
    packages = [zone for zone, name in names.items() if _PACKAGE.match(name)]
    if not packages:
        return [], f"no package among {_ZONES}" if names else f"no {_ZONES} (a virtual machine has none)"
    memory = [zone for zone, name in names.items() if name == "dram" and zone.rpartition(":")[0] in packages]
    return packages + memory, None


def _range_j(system: System, zone: str) -> Optional[float]:
    largest = read_number(system, f"{zone}/max_energy_range_uj").number
    return None if largest is None or largest <= 0 else largest / 1e6
