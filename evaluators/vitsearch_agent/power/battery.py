"""Batteries as meters: the power out of the battery is that of the device, but only while nothing charges it.

Laptops report power, or current and voltage, below /sys/class/power_supply (Documentation/ABI/testing/
sysfs-class-power, in micro-units). Phones report no current in `dumpsys battery`, but a charge counter in
microampere-hours: energy is charge times voltage. Both are slow and coarse, so the load should last minutes.
"""

import re
from typing import Any, Dict, List, Mapping, NamedTuple, Optional

from vitsearch_agent.base import json_reader
from vitsearch_agent.base.system import System, parse_number
from vitsearch_agent.power.base import MeterAvailability, MeterValue, PowerMeter, Sample, plausible, read_number

_SUPPLIES = "/sys/class/power_supply/*"
_EXTERNAL = ("Mains", "USB", "Wireless", "BrickID")
"""The beginnings of the types of external supplies; those of USB are USB, USB_C, USB_PD and others."""
_DISCHARGING = "3"
_STATUS = {"1": "unknown", "2": "charging", "3": "discharging", "4": "not charging", "5": "full"}
_FIELD = re.compile(r"\s+([A-Za-z][A-Za-z ]*): *(\S+)\s*\Z")


class BatteryMeter(PowerMeter):
    """The batteries of a laptop, together."""

    name = "battery"
    scope = "battery"
    rate_hz = 2.0

    def available(self) -> MeterAvailability:
        value = discharge_w(self.system)
        return MeterAvailability(value.number is not None, value.reason)

    def start(self) -> None:
        self.problem = None

    def sample(self) -> Optional[Sample]:
        return self.timed_sample(lambda: discharge_w(self.system))


class AndroidBatteryMeter(PowerMeter):
    """The battery of an Android phone.

    Option `runner`: the words before `dumpsys battery`, such as ["adb", "-s", "SERIAL", "shell"]. A USB
    cable charges the phone: connect with adb over Wi-Fi.
    """

    name = "android_battery"
    scope = "battery"
    rate_hz = 1.0
    option_readers = {"runner": json_reader.sequence(json_reader.text, 16)}
    _last: Optional["Charge"] = None
    _total_j = 0.0

    def __init__(self, system: System, options: Optional[Mapping[str, Any]] = None) -> None:
        super().__init__(system, options)
        self._argv = [*self.options.get("runner", ()), "dumpsys", "battery"]

    def available(self) -> MeterAvailability:
        charge = self._read()
        return MeterAvailability(charge.reason is None, charge.reason)

    def start(self) -> None:
        self._last, self._total_j, self.problem = None, 0.0, None

    def sample(self) -> Optional[Sample]:
        if self.problem is not None and self._last is not None:
            return None  # the battery was charged, so differences across that time are wrong
        before = self.system.clock()
        charge = self._read()
        last = self._last
        if charge.reason is None and last is not None and charge.coulombs > last.coulombs:
            charge = charge._replace(reason="the battery is being charged: its charge increased")
        self.problem = charge.reason
        if charge.reason is not None:
            return None
        if last is not None:
            self._total_j += (last.coulombs - charge.coulombs) * (last.volts + charge.volts) / 2
        self._last = charge
        return Sample((before + self.system.clock()) / 2, energy_j=self._total_j)

    def _read(self) -> "Charge":
        output = self.system.run(self._argv)
        return Charge(0.0, 0.0, output.reason) if output.reason is not None else parse_dumpsys(output.stdout)


def discharge_w(system: System) -> MeterValue:
    """Return the power out of all batteries of the machine in watts, or None and the reason."""
    flows: List[MeterValue] = []
    for folder in system.glob(_SUPPLIES):
        kind = system.read(f"{folder}/type").text or ""
        if kind.startswith(_EXTERNAL) and system.read(f"{folder}/online").text == "1":
            return MeterValue(None, f"on external power ({folder})")
        # The scope Device marks the battery of a mouse or a keyboard.
        is_peripheral = system.read(f"{folder}/scope").text == "Device"
        if kind == "Battery" and not is_peripheral and system.read(f"{folder}/present").text != "0":
            flows.append(_one_battery_w(system, folder))
    if not flows:
        return MeterValue(None, f"no battery in {_SUPPLIES}")
    for flow in flows:
        if flow.number is None:
            return flow
    watts = sum(flow.number for flow in flows if flow.number is not None)
    return plausible(watts, "the power of the batteries")


def _one_battery_w(system: System, folder: str) -> MeterValue:
    status = system.read(f"{folder}/status").text
    if status in ("Full", "Not charging"):
        return MeterValue(0.0, None)  # with two batteries the other one may discharge
    if status != "Discharging":
        return MeterValue(None, f"the battery {folder} is {(status or 'in an unknown state').lower()}")
    power = read_number(system, f"{folder}/power_now")
    if power.number is not None:
        return MeterValue(abs(power.number) / 1e6, None)
    current = read_number(system, f"{folder}/current_now")
    volts = read_number(system, f"{folder}/voltage_now")
    if current.number is None or volts.number is None:
        return MeterValue(None, current.reason or volts.reason)
    # Drivers differ in the sign of the current; the status gives the direction.
    return MeterValue(abs(current.number) / 1e6 * volts.number / 1e6, None)


class Charge(NamedTuple):
    """The charge of a phone's battery; with a `reason` the values are not usable."""

    coulombs: float
    volts: float
    reason: Optional[str]


def parse_dumpsys(text: str) -> Charge:
    """Parse the first section of `dumpsys battery`; other services may print logs after it."""
    fields: Dict[str, str] = {}
    lines = iter(text.splitlines())
    for line in lines:
        if line.strip() == "Current Battery Service state:":
            break
    for line in lines:
        if "UPDATES STOPPED" in line:
            return Charge(0.0, 0.0, "dumpsys battery shows values set by hand; `dumpsys battery reset` undoes that")
        if line[:1].strip():
            break
        match = _FIELD.match(line)
        if match is not None:
            fields.setdefault(match.group(1), match.group(2))
    status = fields.get("status", "")
    if status != _DISCHARGING:
        return Charge(0.0, 0.0, f"the battery is {_STATUS.get(status, 'in an unknown state')}")
    powered = sorted(key for key, value in fields.items() if key.endswith(" powered") and value != "false")
    if powered:
        return Charge(0.0, 0.0, f"the phone is on external power ({', '.join(powered)})")
    microampere_hours = parse_number(fields.get("Charge counter"))
    millivolts = parse_number(fields.get("voltage"))
    if microampere_hours is None or microampere_hours <= 0:
        return Charge(0.0, 0.0, "dumpsys battery has no charge counter")
    if millivolts is None or not 1000 <= millivolts <= 30000:
        return Charge(0.0, 0.0, f"dumpsys battery reports an impossible voltage: {fields.get('voltage')} mV")
    return Charge(microampere_hours * 3.6e-3, millivolts / 1e3, None)
