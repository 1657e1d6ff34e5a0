import pytest

from vitsearch_agent.base.system import System
from vitsearch_agent.conditions.emulation import DeviceTree
from vitsearch_agent.conditions.thermal import (
    Thermometer,
    ZoneTemperature,
    cool_down,
    is_processor_zone,
    to_celsius,
)
from vitsearch_agent.testing import ManualTime

# Type and millidegrees of /sys/class/thermal/thermal_zone* on real boards.
NANO_JETPACK4 = [
    ("AO-therm", 47500),
    ("CPU-therm", 39000),
    ("GPU-therm", 37000),
    ("PLL-therm", 36500),
    ("PMIC-Die", 100000),
    ("thermal-fan-est", 38000),
]
ORIN_NANO_JETPACK6 = [
    ("cpu-thermal", 48562),
    ("gpu-thermal", 49625),
    ("cv0-thermal", -256000),
    ("soc0-thermal", 48625),
    ("tj-thermal", 49312),
]
RASPBERRY_PI = [("cpu-thermal", 48300)]
NOTEBOOK = [("acpitz", 27800), ("INT3400 Thermal", 20000), ("iwlwifi_1", 61000), ("x86_pkg_temp", 55000)]


def zones(root, kinds):
    for index, (kind, value) in enumerate(kinds):
        DeviceTree(str(root)).zone(index, kind, value)


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        (NANO_JETPACK4, ZoneTemperature("CPU-therm", 39.0)),
        (ORIN_NANO_JETPACK6, ZoneTemperature("gpu-thermal", 49.625)),
        (RASPBERRY_PI, ZoneTemperature("cpu-thermal", 48.3)),
        (NOTEBOOK, ZoneTemperature("x86_pkg_temp", 55.0)),
    ],
)
def test_the_hottest_processor_zone_is_read(tmp_path, kinds, expected):
    zones(tmp_path, kinds)
    thermometer = Thermometer(System(str(tmp_path)))
    assert thermometer.read() == expected
    assert thermometer.reason is None


def hwmon(root, index, name, sensors):
    tree, folder = DeviceTree(str(root)), f"/sys/class/hwmon/hwmon{index}"
    tree.write(f"{folder}/name", name)
    for number, (label, value) in enumerate(sensors, 1):
        tree.write(f"{folder}/temp{number}_input", value)
        tree.write(f"{folder}/temp{number}_label", label)


def test_amd_is_read_from_hwmon_and_tdie_replaces_tctl(tmp_path):
    zones(tmp_path, [("acpitz", 16800)])
    hwmon(tmp_path, 0, "nvme", [("Composite", 70000)])
    hwmon(tmp_path, 1, "k10temp", [("Tctl", 87000), ("Tdie", 60000), ("Tccd1", 58000)])
    assert Thermometer(System(str(tmp_path))).read() == ZoneTemperature("k10temp Tdie", 60.0)


def test_tctl_is_read_where_there_is_no_tdie(tmp_path):
    hwmon(tmp_path, 0, "k10temp", [("Tctl", 52125)])
    assert Thermometer(System(str(tmp_path))).read() == ZoneTemperature("k10temp Tctl", 52.125)


def test_a_system_without_sensors_gives_a_reason(tmp_path):
    thermometer = Thermometer(System(str(tmp_path)))
    assert thermometer.read() is None
    assert thermometer.reason == "the system has no temperature sensor"


def test_sensors_of_other_parts_only_give_a_reason(tmp_path):
    zones(tmp_path, [("acpitz", 27800), ("PMIC-Die", 100000)])
    assert "no sensor belongs to the processor: acpitz, PMIC-Die" in Thermometer(System(str(tmp_path))).reason


def test_zones_that_are_switched_off_give_a_reason(tmp_path):
    zones(tmp_path, [("cpu-thermal", -256000), ("gpu-thermal", "")])
    assert Thermometer(System(str(tmp_path))).reason == "no value in cpu-thermal, gpu-thermal"


@pytest.mark.parametrize(
    "name",
    ["MCPU-therm", "BCPU-therm", "tj-therm", "SOC0-therm", "soc_thermal", "bigcore1-thermal", "littlecore-thermal"]
    + ["gpuss-0-thermal", "cpu-1-0-usr", "cpuss1-thermal", "TCPU", "coretemp Package id 0", "coretemp Core 3"]
    + ["bcm2835_thermal", "imx_thermal_zone", "npu-thermal"],
)
def test_processor_zones_are_recognized(name):
    assert is_processor_zone(name)


@pytest.mark.parametrize(
    "name",
    ["PMIC-Die", "pmic-thermal", "Tboard_tegra", "Tdiode_tegra", "thermal-fan-est", "battery", "iwlwifi_1"]
    + ["AO-therm", "PLL-therm", "AUX-therm", "soc", "nvme Composite", "amdgpu edge", "pch_skylake", "ddr_thermal"],
)
def test_zones_of_other_parts_are_not_processor_zones(name):
    assert not is_processor_zone(name)


@pytest.mark.parametrize(
    ("raw", "celsius"),
    [(48300, 48.3), (45, 45.0), (-5000, -5.0), (-256000, None), (0, None), (None, None), (1e9, None)],
)
def test_sensor_values_are_converted_to_celsius(raw, celsius):
    assert to_celsius(raw) == celsius


START_S = 100.0
"""The time at which ManualTime starts."""


def cooling_board(root, start_c, per_s):
    """A board that cools down at a constant rate during a wait."""
    zones(root, [("cpu-thermal", int(start_c * 1000))])
    time = ManualTime(lambda now: zones(root, [("cpu-thermal", int((start_c - per_s * (now - START_S)) * 1000))]))
    return System(str(root), clock=time.clock, sleep=time.sleep)


def never():
    return False


def test_waits_until_the_device_is_cool(tmp_path):
    system = cooling_board(tmp_path, 60, 1.0)
    assert cool_down(Thermometer(system), 50.0, 300.0, system, never) is True
    assert system.clock() == START_S + 10.0


def test_a_cool_device_does_not_wait(tmp_path):
    system = cooling_board(tmp_path, 45, 1.0)
    assert cool_down(Thermometer(system), 50.0, 300.0, system, never) is True
    assert system.clock() == START_S + 0.0


def test_gives_up_after_the_time_limit(tmp_path):
    system = cooling_board(tmp_path, 60, 0.01)
    assert cool_down(Thermometer(system), 50.0, 30.25, system, never) is False
    assert system.clock() == START_S + 30.25


def test_a_wait_can_be_stopped(tmp_path):
    system = cooling_board(tmp_path, 60, 0.01)
    assert cool_down(Thermometer(system), 50.0, 300.0, system, lambda: system.clock() > 101) is False
    assert system.clock() == START_S + 1.5


def test_without_a_sensor_there_is_no_wait(tmp_path):
    system = System(str(tmp_path), sleep=lambda seconds: pytest.fail("waited"))
    assert cool_down(Thermometer(system), 50.0, 300.0, system, never) is None
