"""A real agent on an emulated board that a script heats and throttles."""

import contextlib
import json
import os
import pathlib
import signal
import threading

import pytest

from support import AGENT_HOME
from vitsearch_agent.base import processes
from vitsearch_agent.client.client import RequestOptions
from vitsearch_agent.client.embedded_agent import EmbeddedAgent
from vitsearch_agent.conditions.emulation import DeviceTree, emulated_system
from vitsearch_agent.conditions.thermal import Thermometer
from vitsearch_agent.config import load
from vitsearch_agent.errors import EnvironmentChanged
from vitsearch_agent.wire.measurement import Temperature


class Board:
    """An emulated Jetson; `config.json` has the path of its tree."""

    def __init__(self, folder, slowdown=4.0):
        self.state = folder / "state"
        self.state.mkdir(exist_ok=True)
        self.tree = DeviceTree(str(folder / "board"))
        self.heat(40.0)
        self.tree.over_current(27390)
        self.tree.write("/proc/vmstat", "pswpin 100\npswpout 100")
        self.configure(slowdown)

    def configure(self, slowdown):
        emulation = {"slowdown": slowdown, "root": self.tree.root}
        runtimes = {"faults": {"writable": [str(self.state.parent / "notes")]}}
        (self.state / "config.json").write_text(json.dumps({"emulation": emulation, "runtimes": runtimes}))

    def heat(self, celsius):
        self.tree.zone(0, "cpu-thermal", int(celsius * 1000))


@contextlib.contextmanager
def running(script):
    thread = threading.Thread(target=script)
    thread.start()
    try:
        yield
    finally:
        thread.join()


@pytest.fixture
def board(tmp_path, faulty_environment):
    return Board(tmp_path)


@pytest.fixture
def client(board):
    with EmbeddedAgent(str(board.state)) as agent, agent.client("study") as client:
        yield client


def test_device_and_result_are_marked_as_emulated(board, client, blob, tiny_protocol):
    info = client.device()
    assert info.kind == "emulated"
    assert info.device_id.startswith("emu-")
    assert info.emulation["slowdown"] == 4.0
    assert info.fingerprint["cpu"] is None
    assert client.conditions() == {"temperature_c": 40.0, "zone": "cpu-thermal", "reason": None}
    measurement = client.measure(blob, "noop", {"busy_us": 500}, tiny_protocol)
    assert measurement.emulated
    assert measurement.latency_ms.min >= 4 * 0.5
    assert measurement.temperature.max_c == 40.0
    assert measurement.swap_mb == 0.0
    assert not {"throttled", "warm_start", "swapped"} & set(measurement.flags)
    assert "throttling" not in measurement.reasons


@pytest.mark.long
def test_energy_is_multiplied_by_the_slowdown(board, client, blob, tiny_protocol):
    monitor = "/sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon1"
    for name, value in (("name", "ina3221"), ("in1_label", "VDD_IN"), ("in1_input", 5000), ("curr1_input", 1000)):
        board.tree.write(f"{monitor}/{name}", value)
    protocol = tiny_protocol._replace(power_s=1.5, idle_s=0.5)  # on a busy machine half a second has too few readings
    measurement = client.measure(blob, "noop", {"busy_us": 2000}, protocol)
    assert measurement.power is not None, measurement.reasons
    assert measurement.power.mean_w == pytest.approx(5.0)
    assert measurement.power.energy_mj >= 4 * 2.0 * 5.0 * 0.99
    assert measurement.power.estimated


@pytest.mark.long
def test_a_throttled_process_is_repeated_after_cooling_down(board, client, blob, tiny_protocol, tmp_path, until, notes):
    gate, note = tmp_path / "gate", notes / "pid"
    pids = []

    def script():
        until(note.exists)
        pids.append(int(note.read_text()))
        board.heat(85.0)
        board.tree.over_current(27402)
        gate.write_text("open")
        until(lambda: processes.identify(pids[0]) is None)
        board.heat(42.5)

    with running(script):
        measurement = client.measure(blob, "faults", {"gate": str(gate), "note": str(note)}, tiny_protocol)
    assert int(note.read_text()) not in pids
    assert measurement.temperature == Temperature("cpu-thermal", 42.5, 42.5, 42.5)
    assert not {"throttled", "sustained_throttling"} & set(measurement.flags)
    assert measurement.attempts == 1


def test_throttling_in_every_repeat_is_flagged(board, client, blob, tiny_protocol, tmp_path, notes):
    """The counters rise while each process waits at its gate."""
    note, ended, pids = notes / "pid", threading.Event(), []

    def script():
        while not ended.wait(0.01):
            if note.exists() and note.read_text() not in pids:
                pids.append(note.read_text())
                board.tree.over_current(27390 + len(pids))
                board.tree.write("/proc/vmstat", f"pswpin 100\npswpout {10**6 * len(pids)}")
                (tmp_path / f"gate.{pids[-1]}").write_text("open")

    options = {"fault": "own_gate", "gate": str(tmp_path / "gate"), "note": str(note)}
    with running(script):
        try:
            measurement = client.measure(blob, "faults", options, tiny_protocol)
        finally:
            ended.set()
    assert len(pids) == 3
    assert {"throttled", "sustained_throttling", "swapped"} <= set(measurement.flags)
    assert "latency: oc3 (instantaneous over-current) by" in measurement.reasons["throttling"]
    assert measurement.latency_ms.n == 11


def test_a_reboot_keeps_the_environment_and_another_governor_changes_it(board):
    policy = "/sys/devices/system/cpu/cpufreq/policy0"
    board.tree.write(f"{policy}/scaling_governor", "schedutil")
    board.tree.write(f"{policy}/scaling_max_freq", 1500000)
    with EmbeddedAgent(str(board.state)) as agent, agent.client("study") as client:
        before = client.device().environment_id
        brake = "/sys/class/thermal/cooling_device0"
        board.tree.write(f"{policy}/scaling_max_freq", 900000)
        board.tree.write(f"{brake}/type", "cpufreq-cpu0")
        board.tree.write(f"{brake}/cur_state", 2)
        assert client.device().environment_id == before, "the kernel lowered the limit, nobody changed a setting"
        board.tree.write(f"{brake}/cur_state", 0)
        board.tree.write(f"{policy}/scaling_max_freq", 1500000)
    board.heat(61.0)
    board.tree.over_current(0)
    with EmbeddedAgent(str(board.state)) as agent, agent.client("study") as client:
        assert client.device().environment_id == before
        board.tree.write(f"{policy}/scaling_governor", "powersave")
        assert client.device().environment_id != before


def test_a_power_mode_that_a_reboot_reset_ends_the_job(board, blob, tiny_protocol, tmp_path, until, notes):
    gate, note = tmp_path / "gate", notes / "pid"
    board.tree.write("/etc/nvpmodel.conf", "")
    board.tree.command(["nvpmodel", "-q"], "NV Power Mode: MAXN\n0")

    def script(agent):
        until(note.exists)
        os.kill(agent.pid, signal.SIGKILL)
        board.tree.command(["nvpmodel", "-q"], "NV Power Mode: 15W\n2")
        gate.write_text("open")

    with EmbeddedAgent(str(board.state)) as agent, agent.client("study") as client:
        before = client.device().environment_id
        options = {"gate": str(gate), "note": str(note)}
        with running(lambda: script(agent)), pytest.raises(EnvironmentChanged) as caught:
            client.measure(blob, "faults", options, tiny_protocol, request=RequestOptions(environment_id=before))
        after = client.device()
    assert caught.value.details == {"wanted": before, "actual": after.environment_id}
    assert after.fingerprint["settings"]["power_mode"] == "15W (2)"


def test_settings_are_not_read_while_a_model_runs(board, client, blob, tiny_protocol, tmp_path, until, notes):
    gate, note = tmp_path / "gate", notes / "pid"
    before = client.device().environment_id

    def script():
        until(note.exists)
        board.tree.write("/sys/devices/system/cpu/cpufreq/policy0/scaling_governor", "powersave")
        meanwhile.append(client.device().environment_id)
        gate.write_text("open")

    meanwhile = []
    with running(script):
        measurement = client.measure(blob, "faults", {"gate": str(gate), "note": str(note)}, tiny_protocol)
    after = client.device().environment_id
    assert meanwhile == [before] != [after]
    assert measurement.environment_id == after, "measured again: the first half was that of another device"
    assert [event.what for event in client.events(measurement.job_id)].count("failed") == 1


def test_a_setting_that_changes_during_a_job_ends_it(board, client, blob, tiny_protocol, tmp_path, until, notes):
    gate, note = tmp_path / "gate", notes / "pid"
    policy = "/sys/devices/system/cpu/cpufreq/policy0"
    board.tree.write(f"{policy}/scaling_governor", "performance")
    before = client.device().environment_id

    def script():
        until(note.exists)
        board.tree.write(f"{policy}/scaling_governor", "powersave")
        gate.write_text("open")

    pinned = RequestOptions(environment_id=before)
    with running(script), pytest.raises(EnvironmentChanged) as caught:
        client.measure(blob, "faults", {"gate": str(gate), "note": str(note)}, tiny_protocol, request=pinned)
    assert caught.value.details == {"wanted": before, "actual": client.device().environment_id}
    assert "settings.clusters" in str(caught.value)
    assert "'performance'" in str(caught.value)
    assert "'powersave'" in str(caught.value)


def test_heat_that_lowers_a_frequency_does_not_end_a_job(board, client, blob, tiny_protocol, tmp_path, until, notes):
    """The kernel lowers the highest frequency, which is a setting otherwise; throttling is what this is."""
    gate, note = tmp_path / "gate", notes / "pid"
    frequency = "/sys/devices/system/cpu/cpufreq/policy0/scaling_max_freq"
    cooling = "/sys/class/thermal/cooling_device0"
    board.tree.write(frequency, 2000000)
    board.tree.write(f"{cooling}/type", "cpufreq-cpu0")
    board.tree.write(f"{cooling}/cur_state", 0)
    before = client.device().environment_id

    def script():
        until(note.exists)
        board.tree.write(f"{cooling}/cur_state", 3)
        board.tree.write(frequency, 1000000)
        gate.write_text("open")

    pinned = RequestOptions(environment_id=before)
    with running(script):
        measurement = client.measure(
            blob, "faults", {"gate": str(gate), "note": str(note)}, tiny_protocol, request=pinned
        )
    assert measurement.environment_id == before
    assert "throttled" in measurement.flags


@pytest.mark.long
def test_without_emulation_it_is_another_device(board):
    with EmbeddedAgent(str(board.state)) as agent, agent.client("study") as client:
        emulated = client.device()
    (board.state / "config.json").unlink()
    with EmbeddedAgent(str(board.state)) as agent, agent.client("study") as client:
        physical = client.device()
    assert physical.kind == "physical"
    assert physical.emulation is None
    assert physical.device_id != emulated.device_id
    assert physical.memory_mb > 0


def test_the_example_of_the_readme_works(tmp_path):
    text = pathlib.Path(AGENT_HOME, "README.md").read_text()
    section = text.split("## Emulated devices")[1].split("\n## ")[0]
    config, script = (block.split("```")[0] for block in (section.split("```\n")[1], section.split("```python\n")[1]))
    root = str(tmp_path / "board")
    exec(script.replace("/srv/device", root), {})
    emulation = load_text(tmp_path, config.replace("/srv/device", root)).emulation
    system = emulated_system(emulation, str(tmp_path))
    assert emulation.slowdown == 8.0
    assert Thermometer(system).read() == ("cpu-thermal", 48.3)
    assert "NV Power Mode: 15W" in system.run(["nvpmodel", "-q"]).stdout


def load_text(folder, text):
    (folder / "config.json").write_text(text)
    return load(str(folder))
