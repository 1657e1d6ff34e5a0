"""Lines of tegrastats from real boards, and truncated, duplicated or garbled ones."""

import sys
import time

import pytest

from support import tegrastats_lines
from vitsearch_agent.base.system import System
from vitsearch_agent.errors import InvalidRequest
from vitsearch_agent.power.tegrastats import TegrastatsMeter, parse_line
from vitsearch_agent.testing import PowerMeterTestCase

NANO, ORIN_NANO, AGX_ORIN = (
    line.text for line in (tegrastats_lines.NANO, tegrastats_lines.ORIN_NANO, tegrastats_lines.AGX_ORIN_6)
)
WITH_TOTAL = [line for line in tegrastats_lines.LINES if line.total_w is not None]
WITHOUT_TOTAL = [line for line in tegrastats_lines.LINES if line.total_w is None]


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


def named(line):
    return f"{line.board}, jetpack {line.jetpack}"


@pytest.mark.parametrize("line", WITH_TOTAL, ids=named)
def test_the_current_power_of_a_recorded_total_is_read(device, line):
    meter, _ = meter_on(device, line.text)
    meter.start()
    assert meter.sample().power_w == pytest.approx(line.total_w)
    assert meter.scope == "module"


@pytest.mark.parametrize("line", WITHOUT_TOTAL, ids=named)
def test_a_recorded_line_without_a_total_gives_a_reason(device, line):
    meter, _ = meter_on(device, line.text)
    meter.start()
    assert meter.sample() is None
    assert line.reason in meter.problem


def test_the_order_of_the_rails_does_not_matter(device):
    meter, _ = meter_on(device, "POM_5V_CPU 275/275 POM_5V_GPU 78/78 POM_5V_IN 2132/1900")
    meter.start()
    assert meter.sample().power_w == pytest.approx(2.132)


def test_the_carrier_board_may_use_more_than_the_module(device):
    """The rails of a TX2's carrier are fed beside its module, not by it."""
    meter, _ = meter_on(device, f"{tegrastats_lines.TX2_SYS.text} VDD_MUX 8208/8208 VDD_5V0_IO_SYS 5900/5900")
    meter.start()
    assert meter.sample().power_w == pytest.approx(5.297)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        pytest.param("", "no rail has a label", id="empty"),
        pytest.param(ORIN_NANO[: ORIN_NANO.index("VDD_IN 12479mW") + 9], "no rail has a label", id="cut in the number"),
        pytest.param(AGX_ORIN[: AGX_ORIN.index("VIN_SYS")], "no known total", id="cut between rails"),
        pytest.param(ORIN_NANO.replace("VDD_IN ", "VDD_IN: "), "no known total", id="another form"),
        pytest.param(ORIN_NANO.replace("12479mW/12479mW", "12.5W/12.5W"), "no known total", id="another unit"),
        pytest.param(ORIN_NANO + " " + ORIN_NANO, "VDD_IN appears twice in one line", id="two lines in one"),
        pytest.param(NANO.replace("POM_5V_IN 943", "POM_5V_IN -943"), "POM_5V_IN is -0.943 W", id="below zero"),
        pytest.param(NANO.replace("POM_5V_IN 943", "POM_5V_IN 0"), "POM_5V_IN is 0 W", id="zero"),
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
    meter, _ = meter_on(device, tegrastats_lines.THOR_39_WITHOUT_INPUT.text, rails=rails)
    meter.start()
    assert meter.sample().power_w == pytest.approx(4.925 + 7.953 + 6.667)
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
    meter, tool = meter_on(device, AGX_ORIN)
    meter.start()
    tool.say("VDD_IN 1mW/1mW")
    assert meter.problem == "no value of VDD_GPU_SOC, VDD_CPU_CV, VIN_SYS_5V0"
    assert meter.sample().power_w == pytest.approx(8.726)


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
