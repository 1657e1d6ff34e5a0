"""What is read of a board is recorded, and read again from the recording elsewhere."""

import json
import os

import pytest

from vitsearch_agent.base.system import Output, Stream, System
from vitsearch_agent.conditions.emulation import DeviceTree
from vitsearch_agent.conditions.environment import fingerprint
from vitsearch_agent.conditions.thermal import Thermometer
from vitsearch_agent.conditions.throttling import read_state
from vitsearch_agent.config import PowerConfig
from vitsearch_agent.errors import InvalidRequest
from vitsearch_agent.power.survey import survey
from vitsearch_agent.selftest.recording import Recorder, Recording, replay

PI = "Raspberry Pi 5 Model B Rev 1.0"
CPUINFO = "processor\t: 0\nFeatures\t: asimd asimddp\nCPU part\t: 0xd0b\nSerial\t\t: 10000000abcdef01\nModel\t\t: Pi"
POLICY = "/sys/devices/system/cpu/cpufreq/policy0"
METER = "/sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon1"
NOTHING = {"files": {}, "later": {}, "found": [], "links": {}, "commands": {}, "streams": {}, "reasons": {}}


@pytest.fixture
def board(tmp_path):
    """A Raspberry Pi with the meter of a Jetson, as a system."""
    tree = DeviceTree(str(tmp_path / "board"))
    files = {"/proc/cpuinfo": CPUINFO, "/proc/device-tree/model": PI + "\0", f"{POLICY}/scaling_governor": "ondemand"}
    files.update({f"{METER}/{name}": text for name, text in (("name", "ina3221"), ("in1_label", "VDD_IN"))})
    files.update({f"{METER}/in1_input": "5000", f"{METER}/curr1_input": "900", "/proc/meminfo": "MemTotal: 8245120 kB"})
    for path, text in files.items():
        tree.write(path, text)
    tree.zone(0, "cpu-thermal", 48300)

    def run(argv):
        if argv == ["vcgencmd", "get_throttled"]:
            return Output("throttled=0x0\n", None)
        return Output("", f"{argv[0]} cannot be run: it is not there")

    return System(str(tmp_path / "board"), run=run)


def read_all(system):
    """What the readers find."""
    environment = fingerprint("1", (), system)
    meters = [(reading.name, reading.in_use, reading.watts) for reading in survey(PowerConfig(), system, 0.2)]
    return environment, Thermometer(system).read(), read_state(system), meters


def test_a_replayed_board_is_read_as_the_board(board, tmp_path):
    recorder = Recorder(board)
    found = read_all(recorder.system)
    assert found[1].celsius == 48.3
    assert found[3][0] == ("ina3221", True, 4.5)
    stored = json.loads(json.dumps(recorder.recording().to_json()))
    assert read_all(replay(Recording.from_json(stored), str(tmp_path / "replayed"))) == found


def test_a_copy_of_the_system_records_too(board):
    recorder = Recorder(board)
    assert recorder.system._replace(sleep=lambda seconds: None).read("/proc/device-tree/model").text == PI + "\0"
    assert recorder.recording().files == {"/proc/device-tree/model": PI + "\0"}


def test_what_changes_is_kept_as_it_was_first_and_last(board, tmp_path):
    recorder, zone = Recorder(board), "/sys/class/thermal/thermal_zone0/temp"
    thermometer = Thermometer(recorder.system)
    for millidegrees in (50100, 61200):
        DeviceTree(board.root).zone(0, "cpu-thermal", millidegrees)
        thermometer.read()
    recording = recorder.recording()
    assert (recording.files[zone], recording.later[zone]) == ("48300", "61200")
    replayed = replay(recording, str(tmp_path / "replayed"))
    assert Thermometer(replayed).read().celsius == 48.3
    replayed.sleep(0.0)
    assert Thermometer(replayed).read().celsius == 61.2


def test_the_lines_of_a_tool_are_replayed(tmp_path):
    class TwoLines(Stream):
        def __init__(self, argv, on_line):
            self._process, self._reason = None, "it has ended"
            for line in ("RAM 1/2MB", "RAM 2/2MB"):
                on_line(line)

    recorder = Recorder(System(str(tmp_path), stream=TwoLines))
    recorder.system.stream(["tegrastats", "--interval", "50"], lambda line: None)
    lines = []
    replay(recorder.recording(), str(tmp_path / "replayed")).stream(["tegrastats", "--interval", "50"], lines.append)
    assert lines == ["RAM 1/2MB", "RAM 2/2MB"]


def test_links_are_replayed_inside_of_the_folder(board, tmp_path):
    os.makedirs(board.at("/sys/devices/soc/1-0040"))
    os.symlink(board.at("/sys/devices/soc/1-0040"), board.at("/sys/device"))
    recorder = Recorder(board)
    recorder.system.real("/sys/device")
    assert recorder.recording().links == {"/sys/device": "/sys/devices/soc/1-0040"}
    replayed = replay(recorder.recording(), str(tmp_path / "replayed"))
    assert replayed.real("/sys/device") == os.path.realpath(replayed.at("/sys/devices/soc/1-0040"))


def test_the_serial_number_is_not_recorded(board):
    recorder = Recorder(board)
    recorder.system.read("/proc/cpuinfo")
    assert "abcdef01" not in json.dumps(recorder.recording().to_json())
    assert recorder.recording().files["/proc/cpuinfo"].endswith("Model\t\t: Pi")


def test_why_something_could_not_be_read_is_kept(board):
    recorder = Recorder(board)
    recorder.system.read("/nowhere")
    recorder.system.run(["nvpmodel", "-q"])
    assert recorder.recording().reasons == {
        "/nowhere": "/nowhere cannot be read: No such file or directory",
        "nvpmodel -q": "nvpmodel cannot be run: it is not there",
    }


@pytest.mark.parametrize(
    "part",
    [
        {"files": {"/../outside": "x"}},
        {"later": {"relative": "x"}},
        {"found": ["/a/../../b"]},
        {"links": {"/sys/device": "/../../etc"}},
        {"links": {"//sys": "/sys"}},
        {"files": {"/" + "a" * 2000: "x"}},
    ],
)
def test_a_recording_that_leaves_its_folder_is_refused(part):
    with pytest.raises(InvalidRequest, match="is not a plain absolute path"):
        Recording.from_json({**NOTHING, **part})
