"""Lines that a Raspberry Pi 5 printed (three of its twelve rails), and invalid ones."""

import pytest

from vitsearch_agent.base.system import Output
from vitsearch_agent.power.pi_pmic import OFFSET_W, SLOPE, PiPmicMeter, parse_adc
from vitsearch_agent.testing import PowerMeterTestCase

READING = """ 3V7_WL_SW_A current(0)=0.07709848A
   3V3_SYS_A current(1)=0.04782057A
  VDD_CORE_A current(7)=0.94657990A
 3V7_WL_SW_V volt(8)=3.69049700V
   3V3_SYS_V volt(9)=3.29982600V
  VDD_CORE_V volt(15)=0.72097620V
     EXT5V_V volt(24)=5.11478000V
      BATT_V volt(25)=0.01880340V
"""
WATTS = 0.07709848 * 3.690497 + 0.04782057 * 3.299826 + 0.9465799 * 0.7209762
COMMAND = "vcgencmd pmic_read_adc"


class TestPiPmic(PowerMeterTestCase):
    @pytest.fixture(autouse=True)
    def _devices(self, device, other_device):
        self.device, self.other = device, other_device
        device.outputs[COMMAND] = READING

    def make_meter(self):
        return PiPmicMeter(self.device.system)

    def make_missing_meter(self):
        return PiPmicMeter(self.other.system)

    def advance(self):
        self.device.wait(0.25)


def test_the_sum_over_rails_is_corrected_and_marked_as_estimated(device):
    device.outputs[COMMAND] = READING
    meter = PiPmicMeter(device.system)
    assert sum(parse_adc(READING)[0].values()) == pytest.approx(WATTS)
    assert meter.sample().power_w == pytest.approx(SLOPE * WATTS + OFFSET_W)
    assert meter.estimated


def test_lines_may_come_in_any_order():
    assert parse_adc("\n".join(reversed(READING.splitlines()))) == parse_adc(READING)


def test_a_lone_current_makes_the_sum_unknown():
    lonely = READING + "   3V3_DAC_A current(17)=0.00146520A\n"
    assert parse_adc(lonely)[1] == "pmic_read_adc: 3V3_DAC lacks its current or its voltage"


def test_a_rail_that_is_not_in_every_reading_makes_the_sum_unknown(device):
    device.outputs[COMMAND] = READING
    meter = PiPmicMeter(device.system)
    meter.start()
    assert meter.sample() is not None
    device.outputs[COMMAND] = "".join(line for line in READING.splitlines(True) if "3V3_SYS" not in line)
    assert meter.sample() is None
    assert meter.problem == "pmic_read_adc: 3V3_SYS is not in every reading"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no current of VDD_CORE"),
        ('error=1 error_msg="Command not registered"', "not understood"),
        ("VCHI initialization failed", "no current of VDD_CORE: 'VCHI initialization failed'"),
        (READING[: READING.index("VDD_CORE_V")], "VDD_CORE lacks its current or its voltage"),
        (READING[: READING.index("72097620V")], "not understood: 'VDD_CORE_V volt(15)=0.'"),
        (READING[READING.index("VDD_CORE_A") :], "3V3_SYS, 3V7_WL_SW lacks its current or its voltage"),
        (READING.replace("0.94657990A", "nanA"), "not understood"),
        (READING.replace("0.94657990A", "0.94.65A"), "not understood"),
        (READING.replace("0.94657990A", "-0.5A"), "not understood"),
        (READING.replace("0.94657990A", "0.94657990V"), "not understood"),
        (READING.replace("VDD_CORE_A current", "VDD_CORE_A volt"), "not understood"),
        (READING + READING, "3V7_WL_SW_A appears twice"),
    ],
)
def test_invalid_output_gives_a_reason_and_never_a_number(device, text, reason):
    device.outputs[COMMAND] = text
    meter = PiPmicMeter(device.system)
    assert meter.sample() is None
    assert reason in meter.problem
    assert reason in meter.available().reason


def test_a_failing_tool_gives_its_error(device):
    device.outputs["/opt/vc/bin/vcgencmd pmic_read_adc"] = Output("", "vcgencmd ended with 255: Can't open device file")
    state = PiPmicMeter(device.system, {"tool": "/opt/vc/bin/vcgencmd"}).available()
    assert "Can't open device file" in state.reason
