"""The current monitors of a Jetson, read from files, which is the cheapest way to sample its power.

    JetPack 4    /sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0/{rail_name_0, in_power0_input (mW),
                 in_voltage0_input (mV), in_current0_input (mA)}
    JetPack 5,6  /sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon3/{in1_label, in1_input (mV),
                 curr1_input (mA), in1_enable, update_interval (ms)}; in7 is a sum of shunt voltages, not a rail
    JetPack 7    also chips with one rail: /sys/class/hwmon/hwmon5/{name: ina238, label, in1_input,
                 curr1_input}

Sources: the kernel's Documentation/hwmon/ina3221.rst and ina238.rst, alumet's Jetson plugin.
"""

import os
import re
from typing import Dict, Iterator, List, NamedTuple, Optional, Tuple

from vitsearch_agent.base.system import System
from vitsearch_agent.power import rails
from vitsearch_agent.power.base import MeterAvailability, MeterValue, PowerMeter, Sample, read_number

_IIO = "/sys/bus/i2c/drivers/ina3221x/*/iio*device*"
_HWMON = ("/sys/bus/i2c/drivers/ina3221/*/hwmon/hwmon*", "/sys/class/hwmon/hwmon*")
_CHIP = re.compile(r"ina[0-9]")
_LABEL = re.compile(r"in([0-9]+)_label\Z")
_UNUSED = ("", "NC")
_LONGEST_MS = 60000.0


class Rail(NamedTuple):
    """The files of one rail; `power` (mW) is None where the chip provides only voltage and current."""

    label: str
    power: Optional[str]
    volts: str
    amperes: str
    enable: Optional[str] = None


class Ina3221Meter(PowerMeter):
    """The power of a Jetson. Option `rails`: the labels of the rails to add up."""

    name = "ina3221"
    scope = "module"
    option_readers = rails.OPTION_READERS
    _rails: Tuple[Rail, ...] = ()

    def available(self) -> MeterAvailability:
        problem = self._find()
        if problem is not None:
            return MeterAvailability(False, problem)
        value = self._read()
        wrong = None if value.number is None else self._mislabelled(value.number)
        return MeterAvailability(value.number is not None and wrong is None, value.reason or wrong)

    def start(self) -> None:
        self.problem = self._find()

    def sample(self) -> Optional[Sample]:
        return self.timed_sample(self._read) if self._rails else None

    def _find(self) -> Optional[str]:
        """Find the rails of the total; return the reason when there are none."""
        self._rails = ()
        present: Dict[str, Rail] = {}
        duplicates = set()
        for rail in find_rails(self.system):
            if rail.label in present:
                duplicates.add(rail.label)
            present[rail.label] = rail
        if not present:
            return "no ina3221 or ina238 with a labelled rail in /sys/bus/i2c/drivers and /sys/class/hwmon"
        chosen = rails.choose(present, self.options.get("rails"))
        if chosen.reason is not None:
            return chosen.reason
        ambiguous = sorted(duplicates & set(chosen.labels))
        if ambiguous:
            return f"two rails have the label {', '.join(ambiguous)}"
        self._rails = tuple(present[label] for label in chosen.labels)
        self.scope = chosen.scope
        self._set_rate()
        return None

    def _mislabelled(self, before_w: float) -> Optional[str]:
        """Return the reason why the total is not that of the module, None if it may be.

        The rails are read one after the other, so the total is read before and after them, and the larger one counts.
        """
        values = {rail.label: read_rail(self.system, rail).number for rail in find_rails(self.system)}
        total_w = max(before_w, self._read().number or 0.0)
        chosen = rails.RailChoice(tuple(rail.label for rail in self._rails), self.scope, None)
        return rails.mislabelled(total_w, chosen, {label: mw for label, mw in values.items() if mw is not None})

    def _set_rate(self) -> None:
        """Set the rate to that of the slowest chip, which averages over its update interval (ms)."""
        folders = {os.path.dirname(rail.volts) for rail in self._rails}
        intervals = [read_number(self.system, f"{folder}/update_interval").number for folder in folders]
        slowest_ms = max([ms for ms in intervals if ms is not None and 0 < ms <= _LONGEST_MS], default=0.0)
        self.averaging_s = slowest_ms / 1e3
        self.rate_hz = min(type(self).rate_hz, 1e3 / slowest_ms) if slowest_ms > 0 else type(self).rate_hz

    def _read(self) -> MeterValue:
        powers_mw: Dict[str, float] = {}
        for rail in self._rails:
            value = read_rail(self.system, rail)
            if value.number is None:
                return MeterValue(None, f"{rail.label}: {value.reason}")
            powers_mw[rail.label] = value.number
        return rails.total_w(powers_mw, [rail.label for rail in self._rails])


def find_rails(system: System) -> List[Rail]:
    """Return all labelled rails, in the order of the files."""
    return list(_iio_rails(system)) + list(_hwmon_rails(system))


def read_rail(system: System, rail: Rail) -> MeterValue:
    """Return a rail's power in milliwatts, or None and the reason."""
    if rail.enable is not None and system.read(rail.enable).text == "0":
        return MeterValue(None, f"switched off ({rail.enable} is 0)")
    if rail.power is not None:
        value = read_number(system, rail.power)
        if value.number is not None:
            return value
    volts, amperes = read_number(system, rail.volts), read_number(system, rail.amperes)
    if volts.number is None or amperes.number is None:
        return MeterValue(None, volts.reason or amperes.reason)
    return MeterValue(volts.number * amperes.number / 1e3, None)


def _iio_rails(system: System) -> Iterator[Rail]:
    seen = set()
    for folder in system.glob(_IIO):
        for path in system.glob(f"{folder}/rail_name_*"):
            number = path.rpartition("_")[2]
            # `iio_device` may be a link to `iio:device0` in the same folder.
            key = (folder.split("/")[-2], number)
            label = _label(system, path)
            if label is not None and key not in seen:
                seen.add(key)
                names = (f"{folder}/in_{kind}{number}_input" for kind in ("power", "voltage", "current"))
                power, volts, amperes = names
                yield Rail(label, power, volts, amperes)


def _hwmon_rails(system: System) -> Iterator[Rail]:
    folders: Dict[str, str] = {}
    for pattern in _HWMON:
        for folder in system.glob(pattern):
            folders.setdefault(os.path.basename(folder), folder)
    for folder in folders.values():
        name = system.read(f"{folder}/name").text
        if name is not None and not _CHIP.match(name):
            continue
        if name is None and "/drivers/" not in folder:
            continue
        labels = system.glob(f"{folder}/in*_label")
        for path in labels:
            match = _LABEL.search(path)
            label = _label(system, path)
            # in7 of the ina3221 is a sum of voltages, without a current.
            if match is None or label is None or label.startswith("sum of"):
                continue
            number = match.group(1)
            volts, amperes = f"{folder}/in{number}_input", f"{folder}/curr{number}_input"
            yield Rail(label, None, volts, amperes, f"{folder}/in{number}_enable")
        label = None if labels else _label(system, f"{folder}/label")
        if label is not None:
            yield Rail(label, None, f"{folder}/in1_input", f"{folder}/curr1_input")


def _label(system: System, path: str) -> Optional[str]:
    text = system.read(path).text
    return None if text is None or text in _UNUSED else text
