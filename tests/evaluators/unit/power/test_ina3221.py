"""Trees of the kernels of JetPack 4 to 7, valid and invalid."""

import os

import pytest

from vitsearch_agent.power.ina3221 import Ina3221Meter, find_rails, read_rail
from vitsearch_agent.testing import PowerMeterTestCase

IIO = "/sys/bus/i2c/drivers/ina3221x"
HWMON = "/sys/bus/i2c/drivers/ina3221"


def iio(device, chip, rails, number=0, name="iio:device0"):
    folder = f"{IIO}/{chip}/{name}"
    for index, (label, milliwatts) in enumerate(rails, number):
        device.write(f"{folder}/rail_name_{index}", label)
        device.write(f"{folder}/in_power{index}_input", milliwatts)
        device.write(f"{folder}/in_voltage{index}_input", 5000)
        device.write(f"{folder}/in_current{index}_input", milliwatts // 5)


def hwmon(device, chip, rails, folder="hwmon3"):
    base = f"{HWMON}/{chip}/hwmon/{folder}"
    device.write(f"{base}/name", "ina3221")
    for index, (label, millivolts, milliamperes) in enumerate(rails, 1):
        if label is not None:
            device.write(f"{base}/in{index}_label", label)
        device.write(f"{base}/in{index}_input", millivolts)
        device.write(f"{base}/curr{index}_input", milliamperes)
        device.write(f"{base}/in{index}_enable", 1)
    device.write(f"{base}/in7_label", "sum of shunt voltages")
    device.write(f"{base}/in7_input", 40)
    return base


def orin_nano(device):
    return hwmon(device, "1-0040", [("VDD_IN", 4984, 1856), ("VDD_CPU_GPU_CV", 4976, 216), ("VDD_SOC", 4976, 400)])


def agx_orin(device):
    first = [("VDD_GPU_SOC", 19864, 160), ("VDD_CPU_CV", 19864, 40), ("VIN_SYS_5V0", 5000, 908)]
    hwmon(device, "1-0040", first, "hwmon3")
    hwmon(device, "1-0041", [("NC", 0, 0), ("VDDQ_VDD2_1V8AO", 5000, 100), (None, 0, 0)], "hwmon4")


def value(device, **options):
    """Return the watts of a sample, or the reason."""
    meter = Ina3221Meter(device.system, options)
    meter.start()
    sample = meter.sample()
    return meter.problem if sample is None else sample.power_w


class TestIna3221(PowerMeterTestCase):
    @pytest.fixture(autouse=True)
    def _devices(self, device, other_device):
        self.device, self.other = device, other_device
        orin_nano(device)

    def make_meter(self):
        return Ina3221Meter(self.device.system)

    def make_missing_meter(self):
        return Ina3221Meter(self.other.system)

    def advance(self):
        self.device.wait(0.1)


def test_jetpack_5_and_6_are_read_as_volts_times_amperes(device):
    orin_nano(device)
    assert value(device) == pytest.approx(4.984 * 1.856)


def test_jetpack_4_is_read_as_power(device):
    iio(device, "6-0040", [("POM_5V_IN", 2132), ("POM_5V_GPU", 78), ("POM_5V_CPU", 275)])
    assert value(device) == 2.132


@pytest.mark.parametrize("name", ["iio:device0", "iio_device", "iio:device1"])
def test_jetpack_4_without_power_files_is_read_as_volts_times_amperes(device, name):
    iio(device, "6-0040", [("POM_5V_IN", 2130)], name=name)
    os.remove(f"{device.root}{IIO}/6-0040/{name}/in_power0_input")
    assert value(device) == pytest.approx(2.13)


def test_a_link_to_the_device_is_not_a_second_rail(device):
    for name in ("iio:device0", "iio_device"):
        iio(device, "6-0040", [("POM_5V_IN", 2132)], name=name)
    assert value(device) == 2.132


def test_rails_may_come_in_any_order_and_on_several_chips(device):
    iio(device, "0-0041", [("VDD_SYS_CPU", 1917), ("VDD_IN", 5297), ("VDD_SYS_DDR", 1241)])
    iio(device, "0-0040", [("VDD_SYS_GPU", 182), ("VDD_SYS_SOC", 730), ("VDD_4V0_WIFI", 0)], name="iio:device1")
    assert value(device) == 5.297


def test_the_total_of_agx_orin_is_the_sum_of_three_rails(device):
    agx_orin(device)
    assert value(device) == pytest.approx(19.864 * 0.2 + 5.0 * 0.908)


def test_the_total_of_agx_xavier_is_a_sum_over_two_chips(device):
    iio(device, "1-0040", [("GPU", 310), ("CPU", 465), ("SOC", 1084)])
    iio(device, "1-0041", [("CV", 0), ("VDDRQ", 154), ("SYS5V", 1920)], name="iio:device1")
    assert value(device) == pytest.approx(3.933)


def test_chips_of_one_rail_are_read_on_thor(device):
    rails = [("VDD_GPU", 0, 0), ("VDD_CPU_SOC_MSS", 12000, 595), ("VIN_SYS_5V0", 5000, 1361)]
    hwmon(device, "2-0040", rails, "hwmon5")
    device.write("/sys/class/hwmon/hwmon6/name", "ina238")
    device.write("/sys/class/hwmon/hwmon6/label", "VIN")
    device.write("/sys/class/hwmon/hwmon6/in1_input", 20000)
    device.write("/sys/class/hwmon/hwmon6/curr1_input", 1276)
    assert value(device) == pytest.approx(25.52)


def test_a_chip_below_two_folders_is_read_once(device):
    orin_nano(device)
    for name in ("in1_label", "in1_input", "curr1_input", "name"):
        with open(f"{device.root}{HWMON}/1-0040/hwmon/hwmon3/{name}") as stream:
            device.write(f"/sys/class/hwmon/hwmon3/{name}", stream.read().strip())
    assert [rail.label for rail in find_rails(device.system)].count("VDD_IN") == 1
    assert value(device) == pytest.approx(4.984 * 1.856)


def test_other_sensors_are_ignored(device):
    device.write("/sys/class/hwmon/hwmon0/name", "pwmfan")
    device.write("/sys/class/hwmon/hwmon0/in1_label", "VDD_IN")
    device.write("/sys/class/hwmon/hwmon0/in1_input", 5000)
    device.write("/sys/class/hwmon/hwmon0/curr1_input", 1000)
    assert find_rails(device.system) == []


def test_the_scope_is_rails_when_they_are_configured(device):
    orin_nano(device)
    module = Ina3221Meter(device.system)
    some = Ina3221Meter(device.system, {"rails": ["VDD_SOC", "VDD_CPU_GPU_CV"]})
    assert (module.available().reason, some.available().reason) == (None, None)
    assert (module.scope, some.scope) == ("module", "rails")
    some.start()
    assert some.sample().power_w == pytest.approx(4.976 * 0.616)


def swapped_nano(device):
    """Readings of a Nano on which JetPack's release swaps the labels of the input and the GPU's rail."""
    iio(device, "6-0040", [("POM_5V_IN", 2960), ("POM_5V_GPU", 8630), ("POM_5V_CPU", 1190)])


def test_a_total_below_one_of_its_own_rails_is_refused(device):
    swapped_nano(device)
    state = Ina3221Meter(device.system).available()
    assert not state.available
    assert "total POM_5V_IN is 2.96 W, less than its rail POM_5V_GPU with 8.63 W" in state.reason
    assert Ina3221Meter(device.system, {"rails": ["POM_5V_GPU"]}).available().available


def test_a_load_that_starts_between_two_rails_does_not_make_the_total_wrong(device, monkeypatch):
    orin_nano(device)

    def read_under_load(system, rail):
        """The load starts after the total was read for the first time."""
        value = read_rail(system, rail)
        hwmon(device, "1-0040", [("VDD_IN", 5000, 4000), ("VDD_CPU_GPU_CV", 5000, 2500), ("VDD_SOC", 5000, 400)])
        return value

    monkeypatch.setattr("vitsearch_agent.power.ina3221.read_rail", read_under_load)
    assert Ina3221Meter(device.system).available() == (True, None)


def test_unknown_rails_are_only_added_up_when_configured(device):
    hwmon(device, "1-0040", [("VDD_A", 5000, 100), ("VDD_B", 5000, 200), ("NC", 0, 0)])
    assert "no known total among the rails VDD_A, VDD_B" in value(device)
    assert value(device, rails=["VDD_A"]) == pytest.approx(0.5)
    assert value(device, rails=["VDD_C"]) == "no rail VDD_C; the device has VDD_A, VDD_B"


def change(name, content):
    """Return a function that changes a file of the Orin Nano's chip, or removes it for None."""

    def apply(device):
        base = orin_nano(device)
        if content is None:
            os.remove(f"{device.root}{base}/{name}")
        else:
            device.write(f"{base}/{name}", content)

    return apply


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (change("in1_enable", 0), "VDD_IN: switched off"),
        (change("in1_label", None), "no known total among the rails VDD_CPU_GPU_CV, VDD_SOC"),
        (change("in1_label", ""), "no known total"),
        (change("in1_label", "NC"), "no known total"),
        (change("in2_label", "VDD_IN"), "two rails have the label VDD_IN"),
        (change("curr1_input", None), "curr1_input cannot be read: No such file"),
        (change("in1_input", None), "in1_input cannot be read: No such file"),
        (change("curr1_input", ""), "holds '', expected a number"),
        (change("curr1_input", "N/A"), "holds 'N/A', expected a number"),
        (change("curr1_input", "nan"), "holds 'nan', expected a number"),
        (change("curr1_input", "1e999"), "expected a number"),
        (change("curr1_input", "18 56"), "expected a number"),
        (change("curr1_input", "0x10"), "expected a number"),
        (change("curr1_input", "1_000"), "expected a number"),
        (change("curr1_input", -1856), "VDD_IN is -9.2503 W"),
        (change("curr1_input", 2**32 - 1), "W, expected more than 0 and at most 5000 W"),
        (change("curr1_input", 0), "VDD_IN is 0 W, expected more than 0"),
    ],
)
def test_an_invalid_tree_gives_a_reason_and_never_a_number(device, broken, reason):
    broken(device)
    assert reason in value(device)
    assert reason in Ina3221Meter(device.system).available().reason


def test_a_single_rail_may_be_slightly_negative(device):
    hwmon(device, "2-0040", [("VDD_GPU_SOC", 12000, -33), ("VDD_CPU_CV", 12000, 327), ("VIN_SYS_5V0", 5000, 900)])
    assert value(device) == pytest.approx(12.0 * 0.294 + 4.5)


@pytest.mark.parametrize(
    ("interval", "rate_hz", "averaging_s"), [("500", 2.0, 0.5), ("12", 10.0, 0.012), ("0", 10.0, 0.0), ("", 10.0, 0.0)]
)
def test_the_rate_follows_the_update_interval_of_the_chip(device, interval, rate_hz, averaging_s):
    device.write(f"{orin_nano(device)}/update_interval", interval)
    meter = Ina3221Meter(device.system)
    assert meter.available().available
    assert (meter.rate_hz, meter.averaging_s) == (rate_hz, averaging_s)


def test_a_kernel_without_enable_files_is_read(device):
    base = orin_nano(device)
    os.remove(f"{device.root}{base}/in1_enable")
    assert value(device) == pytest.approx(4.984 * 1.856)


def test_a_rail_that_disappears_gives_a_reason(device):
    base = orin_nano(device)
    meter = Ina3221Meter(device.system)
    meter.start()
    assert meter.sample() is not None
    os.remove(f"{device.root}{base}/curr1_input")
    assert meter.sample() is None
    assert "curr1_input" in meter.problem


def test_the_carrier_board_may_use_more_than_the_module(device):
    """The rails of a TX2's carrier are fed beside its module, not by it."""
    iio(device, "0-0041", [("VDD_IN", 3264), ("VDD_SYS_CPU", 450), ("VDD_SYS_DDR", 980)])
    iio(device, "0-0042", [("VDD_MUX", 8208), ("VDD_5V0_IO_SYS", 5900), ("VDD_3V3_SYS", 1100)])
    assert Ina3221Meter(device.system).available() == (True, None)
    assert value(device) == pytest.approx(3.264)
