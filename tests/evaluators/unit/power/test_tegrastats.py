"""Lines of tegrastats from real boards, and truncated, duplicated or garbled ones."""

import sys
import time

import pytest

from vitsearch_agent.base.system import System
from vitsearch_agent.errors import InvalidRequest
from vitsearch_agent.power.tegrastats import TegrastatsMeter, parse_line
from vitsearch_agent.testing import PowerMeterTestCase

NANO = (
    "RAM 1655/3956MB (lfb 311x4MB) SWAP 0/1978MB (cached 0MB) IRAM 0/252kB(lfb 252kB) CPU [12%@102,10%@102,11%@102,"
    "12%@102] EMC_FREQ 3%@1600 GR3D_FREQ 0%@76 APE 25 PLL@36.5C CPU@39C iwlwifi@44C PMIC@50C GPU@37C AO@47.5C "
    "thermal@38C POM_5V_IN 2132/2132 POM_5V_GPU 78/78 POM_5V_CPU 275/275"
)
TX2 = (
    "RAM 3276/7859MB (lfb 5x4MB) SWAP 1626/12122MB (cached 181MB) CPU [44%@1421,49%@2031,67%@2034,17%@1420,25%@1419,"
    "8%@1420] EMC_FREQ 1%@1866 GR3D_FREQ 0%@114 APE 150 MTS fg 1% bg 1% PLL@42.5C MCPU@42.5C PMIC@50C Tboard@38C "
    "GPU@39.5C BCPU@42.5C thermal@41.3C Tdiode@39.25C VDD_SYS_GPU 182/182 VDD_SYS_SOC 730/730 VDD_4V0_WIFI 0/0 "
    "VDD_IN 5297/5297 VDD_SYS_CPU 1917/1917 VDD_SYS_DDR 1241/1241"
)
TX1 = (
    "Tdiode@36C PMIC@100C thermal@35.5C VDD_IN 2003/2658 VDD_CPU 320/518 VDD_GPU 400/735 VDD_SOC 400/415 VDD_WIFI 0/0 "
    "VDD_DDR 240/348"
)
AGX_XAVIER = (
    "RAM 1903/15692MB (lfb 3251x4MB) CPU [1%@1190,1%@1190,2%@1190,0%@1190,0%@1190,0%@1190,0%@1190,0%@1190] "
    "EMC_FREQ 0% GR3D_FREQ 0% AO@32.5C GPU@32C Tboard@32C Tdiode@34.75C AUX@31.5C CPU@33.5C thermal@32.9C "
    "PMIC@100C GPU 0/0 CPU 216/216 SOC 864/864 CV 0/0 VDDRQ 144/144 SYS5V 1889/1889"
)
AGX_ORIN_5 = (
    "11-21-2025 08:49:48 RAM 13983/62780MB (lfb 424x4MB) SWAP 126/31390MB (cached 0MB) CPU [90%@2201,100%@2201] "
    "EMC_FREQ 1%@2133 GR3D_FREQ 14%@[407,407] VIC_FREQ 115 NVDLA0_FREQ @1600 APE 174 CV0@73.625C CPU@77.281C "
    "Tboard@62C tj@77.281C VDD_GPU_SOC 3150mW/2971mW VDD_CPU_CV 14312mW/12415mW VIN_SYS_5V0 4968mW/5048mW "
    "VDDQ_VDD2_1V8AO 1091mW/1091mW"
)
ORIN_NANO = (
    "10-08-2026 04:38:21 RAM 1343/7620MB (lfb 157x4MB) SWAP 165/3810MB (cached 3MB) CPU [0%@1497,0%@729,0%@729,"
    "0%@729,0%@729,0%@729] EMC_FREQ 15%@204 GR3D_FREQ 0%@[305] NVDEC off NVJPG off VIC off OFA off APE 200 "
    "cpu@48.562C soc2@46.593C soc0@48.625C gpu@49.625C tj@49.312C soc1@47.937C VDD_IN 5251mW/8535mW "
    "VDD_CPU_GPU_CV 512mW/1944mW VDD_SOC 2720mW/3659mW"
)
AGX_ORIN_6 = (
    "10-05-2026 21:03:35 RAM 5137/62841MB (lfb 2x4MB) SWAP 0/31420MB (cached 0MB) CPU [1%@729,25%@729,1%@729,1%@729,"
    "2%@729,1%@729,0%@729,0%@729,2%@729,14%@729,1%@729,0%@729] GR3D_FREQ 0% cpu@52.875C soc2@48.656C soc0@49.062C "
    "tj@52.875C soc1@49.031C VDD_GPU_SOC 3178mW/3178mW VDD_CPU_CV 794mW/794mW VIN_SYS_5V0 4543mW/4543mW"
)
THOR = (
    "RAM 16614/125772MB (lfb 106x4MB) CPU [2%@972] cpu@35.25C tj@36.343C VDD_GPU 5956mW/5956mW "
    "VDD_CPU_SOC_MSS 7148mW/7148mW VIN_SYS_5V0 6807mW/6807mW VIN 25530mW/12765mW"
)
THOR_WITHOUT_INPUT = (
    "PVA0_FREQ off APE 300 cpu@34.843C/34.843C tj@35.906C/35.906C gpu@35.906C/35.906C "
    "VDD_GPU 4925mW/4925mW/4925mW VDD_CPU_SOC_MSS 8710mW/8710mW/8710mW VIN_SYS_5V0 6767mW/6767mW/6767mW"
)
TX1_JETPACK_3 = (
    "RAM 3468/3983MB (lfb 48x4MB) SWAP 873/8192MB (cached 295MB) cpu [17%,13%,29%,5%]@408 EMC 1%@408 APE 25 GR3D 3%@76"
)


class Lines:
    """A fake running tegrastats: `say` prints a line."""

    def __init__(self, first=()):
        self.first = first
        self.argv = None
        self.reason = None
        self.closed = 0

    def __call__(self, argv, on_line):
        self.argv, self.say = argv, on_line
        for line in self.first:
            on_line(line)
        return self

    def ended(self):
        return self.reason

    def close(self):
        self.closed += 1


def meter_on(device, *lines, **options):
    tool = Lines(lines)
    return TegrastatsMeter(device.system._replace(stream=tool), options), tool


class TestTegrastats(PowerMeterTestCase):
    @pytest.fixture(autouse=True)
    def _devices(self, device, other_device):
        self.device, self.other, self.tool = device, other_device, Lines()

    def make_meter(self):
        meter, self.tool = meter_on(self.device, ORIN_NANO)
        return meter

    def make_missing_meter(self):
        return TegrastatsMeter(self.other.system)

    def advance(self):
        self.device.wait(0.2)
        if self.tool.argv is not None:
            self.tool.say(ORIN_NANO)


@pytest.mark.parametrize(
    ("line", "watts"),
    [
        pytest.param(NANO, 2.132, id="nano"),
        pytest.param(TX1, 2.003, id="tx1"),
        pytest.param(TX2, 5.297, id="tx2"),
        pytest.param(AGX_XAVIER, 3.113, id="agx xavier"),
        pytest.param(AGX_ORIN_5, 22.43, id="agx orin, jetpack 5"),
        pytest.param(ORIN_NANO, 5.251, id="orin nano"),
        pytest.param(AGX_ORIN_6, 8.515, id="agx orin, jetpack 6"),
        pytest.param(THOR, 25.53, id="thor"),
        pytest.param("POM_5V_CPU 275/275 POM_5V_GPU 78/78 POM_5V_IN 2132/1900", 2.132, id="another order"),
    ],
)
def test_the_current_power_of_the_total_is_read(device, line, watts):
    meter, _ = meter_on(device, line)
    meter.start()
    assert meter.sample().power_w == pytest.approx(watts)
    assert meter.scope == "module"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        pytest.param(THOR_WITHOUT_INPUT, "no known total among the rails VDD_CPU_SOC_MSS", id="thor without input"),
        pytest.param(TX1_JETPACK_3, "no rail has a label", id="no rails at all"),
        pytest.param("", "no rail has a label", id="empty"),
        pytest.param(ORIN_NANO[: ORIN_NANO.index("VDD_IN 5251mW") + 9], "no rail has a label", id="cut in the number"),
        pytest.param(AGX_ORIN_6[: AGX_ORIN_6.index("VIN_SYS")], "no known total", id="cut between rails"),
        pytest.param(ORIN_NANO.replace("VDD_IN ", "VDD_IN: "), "no known total", id="another form"),
        pytest.param(ORIN_NANO.replace("5251mW/8535mW", "5.2W/8.5W"), "no known total", id="another unit"),
        pytest.param(ORIN_NANO + " " + ORIN_NANO, "VDD_IN appears twice in one line", id="two lines in one"),
        pytest.param(NANO.replace("POM_5V_IN 2132", "POM_5V_IN -2132"), "POM_5V_IN is -2.132 W", id="below zero"),
        pytest.param(NANO.replace("POM_5V_IN 2132", "POM_5V_IN 0"), "POM_5V_IN is 0 W", id="zero"),
        pytest.param(
            "POM_5V_IN 2960/2811 POM_5V_GPU 8630/8377 POM_5V_CPU 1190/1044",
            "total POM_5V_IN is 2.96 W, less than its rail POM_5V_GPU with 8.63 W",
            id="a release with swapped labels",
        ),
        pytest.param("\x00\ufffd VDD_IN /mW", "no rail has a label", id="garbage"),
    ],
)
def test_a_line_without_a_total_gives_a_reason(device, line, reason):
    meter, _ = meter_on(device, line)
    meter.start()
    assert meter.sample() is None
    assert reason in meter.problem
    assert reason in meter.available().reason


def test_memory_and_temperatures_are_ignored():
    assert set(parse_line(NANO).powers_mw) == {"POM_5V_IN", "POM_5V_GPU", "POM_5V_CPU"}


def test_three_numbers_are_read_as_two(device):
    rails = ["VDD_GPU", "VDD_CPU_SOC_MSS", "VIN_SYS_5V0"]
    meter, _ = meter_on(device, THOR_WITHOUT_INPUT, rails=rails)
    meter.start()
    assert meter.sample().power_w == pytest.approx(4.925 + 8.71 + 6.767)
    assert meter.scope == "rails"


def test_a_sample_has_the_time_of_its_line(device):
    meter, tool = meter_on(device, ORIN_NANO)
    meter.start()
    device.wait(5.0)
    assert meter.sample().time_s == 1000.0
    tool.say("garbage")
    assert meter.sample().time_s == 1000.0
    tool.say(ORIN_NANO)
    assert meter.sample().time_s == 1005.0


def test_all_lines_use_the_rails_of_the_first(device):
    meter, tool = meter_on(device, AGX_ORIN_6)
    meter.start()
    tool.say("VDD_IN 1mW/1mW")
    assert meter.problem == "no value of VDD_GPU_SOC, VDD_CPU_CV, VIN_SYS_5V0"
    assert meter.sample().power_w == pytest.approx(8.515)


def test_an_ended_tool_gives_a_reason(device):
    meter, tool = meter_on(device, ORIN_NANO)
    meter.start()
    tool.reason = "tegrastats has ended"
    assert meter.sample() is None
    assert meter.problem == "tegrastats has ended"


def test_a_silent_tool_is_unavailable_after_a_time_limit(device):
    meter, tool = meter_on(device)
    assert meter.available().reason == "tegrastats printed no line within 5 s"
    assert tool.closed == 1


def test_interval_and_tool_are_options(device):
    meter, tool = meter_on(device, ORIN_NANO, tool="/opt/tegrastats", interval_ms=500)
    assert meter.available().available
    assert tool.argv == ["/opt/tegrastats", "--interval", "500"]
    assert meter.rate_hz == 2.0
    with pytest.raises(InvalidRequest, match="interval_ms"):
        TegrastatsMeter(device.system, {"interval_ms": 1})


def test_a_real_tool_is_started_read_and_stopped(tmp_path):
    tool = tmp_path / "tegrastats"
    tool.write_text(
        f"#!{sys.executable}\nimport sys, time\nassert sys.argv[1:] == ['--interval', '20']\n"
        f"while True:\n    print({ORIN_NANO!r}, flush=True)\n    time.sleep(0.02)\n"
    )
    tool.chmod(0o755)
    meter = TegrastatsMeter(System(), {"tool": str(tool), "interval_ms": 20})
    meter.start()
    end = time.monotonic() + 60
    times = set()
    while len(times) < 3 and time.monotonic() < end:
        sample = meter.sample()
        times |= set() if sample is None else {sample.time_s}
        time.sleep(0.005)
    process = meter._stream._process
    meter.stop()
    assert len(times) == 3
    assert process.poll() is not None
