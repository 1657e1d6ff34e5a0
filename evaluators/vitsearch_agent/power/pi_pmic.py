"""The power management chip of a Raspberry Pi 5, through `vcgencmd pmic_read_adc`.

    VDD_CORE_A current(7)=0.94657990A
    VDD_CORE_V volt(15)=0.72097620V
       EXT5V_V volt(24)=5.11478000V

The names before `_A` and `_V` pair the current and voltage of a rail. The sum over the rails lacks the devices
that are fed directly from 5 V and the losses of the converters. A published fit against a meter at the input
(pi-top, "Raspberry Pi 5 power") is 1.1451 x + 0.5879 W, so the value is marked as estimated. The Pi 4 and
older have no such sensors.
"""

import re
from typing import Dict, Optional, Set, Tuple

from vitsearch_agent.base import json_reader
from vitsearch_agent.base.system import parse_number
from vitsearch_agent.power.base import MeterAvailability, MeterValue, PowerMeter, Sample, plausible

SLOPE = 1.1451
OFFSET_W = 0.5879

_LINE = re.compile(r"\s*(\S+)_([AV])\s+(current|volt)\([0-9]+\)=([0-9.]+)([AV])\s*\Z")
_VOLTAGE_ONLY = ("EXT5V", "BATT")
_ALWAYS_THERE = "VDD_CORE"


class PiPmicMeter(PowerMeter):
    """The power of a Raspberry Pi 5. Option `tool`: the path of vcgencmd.

    Each sample runs vcgencmd once, so the rate is low.
    """

    name = "pi_pmic"
    scope = "module"
    rate_hz = 4.0
    estimated = True
    option_readers = {"tool": json_reader.text}
    _rails: Optional[Set[str]] = None

    def available(self) -> MeterAvailability:
        value = self._read()
        return MeterAvailability(value.number is not None, value.reason)

    def start(self) -> None:
        self.problem, self._rails = None, None

    def sample(self) -> Optional[Sample]:
        return self.timed_sample(self._read)

    def _read(self) -> MeterValue:
        output = self.system.run([self.options.get("tool", "vcgencmd"), "pmic_read_adc"])
        if output.reason is not None:
            return MeterValue(None, output.reason)
        rails_w, reason = parse_adc(output.stdout)
        if reason is not None:
            return MeterValue(None, reason)
        # If both lines of a rail were missing, the sum would be too small without any other sign.
        missing = (self._rails or set(rails_w)) ^ set(rails_w)
        if missing:
            return MeterValue(None, f"pmic_read_adc: {', '.join(sorted(missing))} is not in every reading")
        self._rails = set(rails_w)
        return plausible(SLOPE * sum(rails_w.values()) + OFFSET_W, "the sum of its rails")


def parse_adc(text: str) -> Tuple[Dict[str, float], Optional[str]]:
    """Return the watts of each rail, or the reason: one incomplete rail makes the sum unknown."""
    values: Dict[str, Dict[str, float]] = {"A": {}, "V": {}}
    for line in text.splitlines():
        match = _LINE.match(line)
        if match is None:
            if "=" in line:
                return {}, f"pmic_read_adc: not understood: {line.strip()[:80]!r}"
            continue
        rail, kind, quantity, digits, unit = match.groups()
        number = parse_number(digits)
        if number is None or kind != unit or quantity != {"A": "current", "V": "volt"}[kind]:
            return {}, f"pmic_read_adc: not understood: {line.strip()[:80]!r}"
        if rail in values[kind]:
            return {}, f"pmic_read_adc: {rail}_{kind} appears twice"
        values[kind][rail] = number
    amperes, volts = values["A"], values["V"]
    if _ALWAYS_THERE not in amperes:
        return {}, f"pmic_read_adc reports no current of {_ALWAYS_THERE}: {text.strip()[:80]!r}"
    unpaired = (set(amperes) ^ set(volts)) - set(_VOLTAGE_ONLY)
    if unpaired:
        return {}, f"pmic_read_adc: {', '.join(sorted(unpaired))} lacks its current or its voltage"
    return {rail: amperes[rail] * volts[rail] for rail in amperes}, None
