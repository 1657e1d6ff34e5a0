"""Batteries of laptops (sysfs) and phones (dumpsys): only a discharging battery measures the device."""

import pytest

from vitsearch_agent.power.battery import AndroidBatteryMeter, BatteryMeter, discharge_w, parse_dumpsys
from vitsearch_agent.testing import PowerMeterTestCase

SUPPLY = "/sys/class/power_supply"
PLUGGED_IN = """Current Battery Service state:
  AC powered: false
  USB powered: true
  Wireless powered: false
  Max charging current: 500000
  Max charging voltage: 5000000
  Charge counter: 3270000
  status: 5
  health: 2
  present: true
  level: 100
  scale: 100
  voltage: 4352
  temperature: 274
  technology: Li-ion
"""
UNPLUGGED = PLUGGED_IN.replace("USB powered: true", "USB powered: false").replace("status: 5", "status: 3")


def battery(device, name="BAT0", **files):
    defaults = {"type": "Battery", "present": "1", "status": "Discharging"}
    for key, value in dict(defaults, **files).items():
        device.write(f"{SUPPLY}/{name}/{key}", value)


class TestBattery(PowerMeterTestCase):
    @pytest.fixture(autouse=True)
    def _devices(self, device, other_device):
        self.device, self.other = device, other_device
        battery(device, power_now=6500000)

    def make_meter(self):
        return BatteryMeter(self.device.system)

    def make_missing_meter(self):
        return BatteryMeter(self.other.system)

    def advance(self):
        self.device.wait(0.5)


class TestAndroidBattery(PowerMeterTestCase):
    @pytest.fixture(autouse=True)
    def _devices(self, device, other_device):
        self.device, self.other = device, other_device
        self.charge = 3270000
        device.outputs["dumpsys battery"] = UNPLUGGED

    def make_meter(self):
        return AndroidBatteryMeter(self.device.system)

    def make_missing_meter(self):
        return AndroidBatteryMeter(self.other.system)

    def advance(self):
        self.device.wait(1.0)
        self.charge -= 250
        self.device.outputs["dumpsys battery"] = UNPLUGGED.replace("3270000", str(self.charge))


@pytest.mark.parametrize(
    ("files", "watts"),
    [
        ({"power_now": 6500000}, 6.5),
        ({"power_now": -6500000}, 6.5),
        ({"current_now": 812000, "voltage_now": 11400000}, 9.2568),
        ({"current_now": -812000, "voltage_now": 11400000}, 9.2568),
    ],
)
def test_power_is_read_or_computed_from_current_and_voltage(device, files, watts):
    battery(device, **files)
    assert discharge_w(device.system).number == pytest.approx(watts)


def test_two_batteries_are_added_and_that_of_a_mouse_is_ignored(device):
    battery(device, "BAT0", status="Not charging", power_now=0)
    battery(device, "BAT1", power_now=7000000)
    battery(device, "hidpp_battery_0", scope="Device", power_now=10000000)
    battery(device, "BAT2", present="0", power_now=9000000)
    device.write(f"{SUPPLY}/AC/type", "Mains")
    device.write(f"{SUPPLY}/AC/online", "0")
    assert discharge_w(device.system).number == 7.0


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"status": "Charging", "power_now": 6500000}, "BAT0 is charging"),
        ({"status": "Full", "power_now": 6500000}, "the power of the batteries is 0 W"),
        ({"status": "Unknown", "power_now": 6500000}, "BAT0 is unknown"),
        ({"status": "", "power_now": 6500000}, "BAT0 is in an unknown state"),
        ({"power_now": 0}, "the power of the batteries is 0 W"),
        ({"power_now": -(2**63)}, "W, expected more than 0 and at most 5000 W"),
        ({"power_now": "garbage"}, "current_now cannot be read"),
        ({"current_now": 812000}, "voltage_now cannot be read"),
        ({"current_now": "", "voltage_now": 11400000}, "expected a number"),
        ({}, "current_now cannot be read"),
    ],
)
def test_a_battery_that_does_not_discharge_gives_a_reason(device, files, reason):
    battery(device, **files)
    assert reason in discharge_w(device.system).reason
    meter = BatteryMeter(device.system)
    assert meter.sample() is None
    assert reason in meter.problem


@pytest.mark.parametrize("kind", ["Mains", "USB", "USB_PD", "USB_C", "Wireless"])
def test_external_power_gives_a_reason(device, kind):
    battery(device, power_now=6500000)
    device.write(f"{SUPPLY}/ACAD/type", kind)
    device.write(f"{SUPPLY}/ACAD/online", "1")
    assert "on external power (/sys/class/power_supply/ACAD)" in discharge_w(device.system).reason


def test_a_machine_without_a_battery_gives_a_reason(device):
    assert "no battery" in discharge_w(device.system).reason


def test_the_energy_of_a_phone_is_charge_times_voltage(device):
    device.outputs["adb -s R5 shell dumpsys battery"] = UNPLUGGED
    meter = AndroidBatteryMeter(device.system, {"runner": ["adb", "-s", "R5", "shell"]})
    meter.start()
    assert meter.sample().energy_j == 0.0
    device.outputs["adb -s R5 shell dumpsys battery"] = UNPLUGGED.replace("3270000", "3260000").replace("4352", "4348")
    # 10 mAh at 4.35 V
    assert meter.sample().energy_j == pytest.approx(0.010 * 3600 * 4.35)


def test_charging_a_phone_during_the_load_ends_the_series(device):
    meter = AndroidBatteryMeter(device.system)
    outputs = []
    meter.start()
    for text in (UNPLUGGED, PLUGGED_IN, UNPLUGGED.replace("3270000", "3270100"), UNPLUGGED):
        device.outputs["dumpsys battery"] = text
        outputs.append(meter.sample())
    assert [sample is None for sample in outputs] == [False, True, True, True]
    assert meter.problem == "the battery is full"


def test_a_log_after_the_first_section_is_ignored():
    behind = UNPLUGGED + "\n\nBattery log:\n  status: 2\n  Charge counter: 1\n"
    assert parse_dumpsys(behind) == parse_dumpsys(UNPLUGGED)
    assert parse_dumpsys(behind).coulombs == pytest.approx(3.27 * 3600)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (PLUGGED_IN, "the battery is full"),
        (UNPLUGGED.replace("status: 3", "status: 2"), "the battery is charging"),
        (UNPLUGGED.replace("status: 3", "status: 9"), "in an unknown state"),
        (UNPLUGGED.replace("AC powered: false", "AC powered: true"), "on external power (AC powered)"),
        (UNPLUGGED.replace("AC powered: false", "Dock powered: true"), "on external power (Dock powered)"),
        (UNPLUGGED.replace("state:\n", "state:\n  (UPDATES STOPPED -- use 'reset' to restart)\n"), "set by hand"),
        (UNPLUGGED.replace("Charge counter: 3270000\n", ""), "no charge counter"),
        (UNPLUGGED.replace("3270000", "0"), "no charge counter"),
        (UNPLUGGED.replace("3270000", "-1"), "no charge counter"),
        (UNPLUGGED.replace("voltage: 4352", "voltage: 4"), "an impossible voltage: 4 mV"),
        (UNPLUGGED[: UNPLUGGED.index("  voltage")], "an impossible voltage: None mV"),
        (UNPLUGGED[: UNPLUGGED.index("  status")], "in an unknown state"),
        ("", "in an unknown state"),
        ("Can't find service: battery", "in an unknown state"),
    ],
)
def test_unusable_output_of_a_phone_gives_a_reason(device, text, reason):
    assert reason in parse_dumpsys(text).reason
    device.outputs["dumpsys battery"] = text
    meter = AndroidBatteryMeter(device.system)
    meter.start()
    assert meter.sample() is None
    assert reason in meter.problem
