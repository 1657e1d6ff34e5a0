"""The power phase from end to end: a real agent, a real child, and a counter that a script advances."""

import os
import subprocess
import sys
import threading
import time

import pytest

from vitsearch_agent.base import processes
from vitsearch_agent.cli import app, measure
from vitsearch_agent.conditions.emulation import DeviceTree, emulated_system
from vitsearch_agent.config import EmulationConfig, PowerConfig
from vitsearch_agent.errors import AgentError
from vitsearch_agent.measure.child.phase_reports import PowerReport
from vitsearch_agent.measure.child.tool_phases import IDLE_NOTE
from vitsearch_agent.measure.power_phase import MeteredPhase
from vitsearch_agent.wire.metrics import DEVICE_METRICS

WATTS = 20.0
ZONE = "/sys/class/powercap/intel-rapl:0"


RANGE_UJ = 65532610987  # an AMD EPYC's


class Script:
    """Writes a processor's energy counter as time passes: 20 W, wrapping around after three seconds."""

    def __init__(self, root):
        self.tree = DeviceTree(root)
        self.tree.write(f"{ZONE}/name", "package-0")
        self.tree.write(f"{ZONE}/max_energy_range_uj", RANGE_UJ)
        self._wraps_at_s = time.monotonic() + 3.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self):
        while not self._ended.wait(0.01):
            self._write()

    def _write(self):
        self.tree.write(f"{ZONE}/energy_uj", int((time.monotonic() - self._wraps_at_s) * WATTS * 1e6) % RANGE_UJ)

    def __enter__(self):
        self._write()
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._ended.set()
        self._thread.join()


@pytest.fixture
def script(tmp_path):
    with Script(str(tmp_path / "tree")) as running:
        yield running


@pytest.fixture
def powered(tiny_protocol):
    return tiny_protocol._replace(power_s=3.0, idle_s=1.0)


def test_an_agent_measures_energy(script, serve_agent, blob, powered):
    agent = serve_agent(config={"emulation": {"root": script.tree.root}})
    with agent.client() as client:
        measurement = client.measure(blob, "noop", {"busy_us": 2000}, powered)
        assert client.device().power_meter == "rapl"
    power = measurement.power
    # The meter counts 20 W under load and idle: by chance the load may not exceed idle.
    assert measurement.reasons.get("power") in (None, "no relative error: the load does not exceed idle")
    assert (power.source, power.scope) == ("rapl", "package")
    # The script's thread may be late, but the counter always grows by 20 W on average.
    assert power.mean_w == pytest.approx(WATTS, rel=0.3)
    assert power.idle_w == pytest.approx(WATTS, rel=0.5)
    assert power.n >= 5
    # 20 W for at least 2 ms: a run takes no less than its CPU time.
    assert power.energy_mj >= 0.7 * WATTS * 2.0
    peak = DEVICE_METRICS["peak_power_w"]
    assert peak.figure(measurement) is None
    assert peak.reason(measurement) == "rapl counts energy, and its samples have no power"
    assert measurement.emulated


RUNS_FOR_3_S = """#!/bin/sh
echo count=1 curr=3000
case "$*" in *--min_secs=3*) sleep 3; echo count=1000 first=3000 curr=2900 avg=2900 std=1 ;;
*) echo count=18 first=3000 curr=2900 avg=2900 std=1 ;; esac
"""


@pytest.mark.long
def test_a_tool_runtime_measures_energy(script, serve_agent, tiny_tflite, tmp_path, powered):
    program = tmp_path / "benchmark_model"
    program.write_text(RUNS_FOR_3_S)
    program.chmod(0o755)
    config = {"emulation": {"root": script.tree.root}, "runtimes": {"benchmark_model": {"tool": str(program)}}}
    with serve_agent(config=config).client() as client:
        measurement = client.measure(tiny_tflite, "benchmark_model", {}, powered)
    assert measurement.reasons["power"].endswith(IDLE_NOTE)
    assert measurement.power.mean_w == pytest.approx(WATTS, rel=0.3)
    assert measurement.power.idle_w == pytest.approx(WATTS, rel=0.5)
    # 20 W for 3 s of 1,000 runs; the script and the program may each be late.
    assert measurement.power.energy_mj == pytest.approx(3.0 * WATTS, rel=0.4)


def test_a_protocol_without_a_power_phase_reads_no_meter(script, serve_agent, blob, tiny_protocol):
    agent = serve_agent(config={"emulation": {"root": script.tree.root}})
    with agent.client() as client:
        measurement = client.measure(blob, "noop", {"busy_us": 20}, tiny_protocol)
    assert (measurement.power, measurement.reasons["power"]) == (None, "the protocol has no power phase")


def test_without_a_meter_the_latency_is_measured_and_power_has_a_reason(serve_agent, blob, powered, tmp_path):
    agent = serve_agent(config={"emulation": {"root": str(tmp_path / "nothing")}, "power": {"meter": "rapl"}})
    with agent.client() as client:
        measurement = client.measure(blob, "noop", {"busy_us": 20}, powered)
        assert client.device().power_meter is None
    assert measurement.power is None
    assert measurement.reasons["power"].startswith("no power meter: rapl: no /sys/class/powercap/intel-rapl")
    assert measurement.latency_ms.n == 11


def test_an_agent_with_a_wrong_meter_does_not_start(tmp_path):
    (tmp_path / "config.json").write_text('{"power": {"meter": "tegrastat"}}')
    command = [sys.executable, "-m", "vitsearch_agent", "serve", "--state", str(tmp_path)]
    environment = processes.with_package_path(dict(os.environ))
    ended = subprocess.run(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment, timeout=120)
    assert ended.returncode == app.WRONG_CONFIGURATION
    assert b"did you mean 'tegrastats'" in ended.stderr


REPORT = PowerReport((0.0, 1.0), (1.0, 2.0), (2.0, 3.0), 10)


def test_a_meter_that_fails_during_the_phase_gives_a_reason(script, tmp_path, until):
    system = emulated_system(EmulationConfig(root=script.tree.root), str(tmp_path))
    phase = MeteredPhase(PowerConfig("rapl"), system)
    assert phase.unavailable_reason() is None
    phase.start()
    script.__exit__()
    script.tree.write(f"{ZONE}/energy_uj", "")
    until(lambda: phase._recorder.problem, "the meter to fail")
    phase.stop()
    power, reason = phase.power(REPORT)
    assert power is None
    assert "rapl: 0 samples in 1 s" in reason
    assert "energy_uj holds '', expected a number" in reason


def test_the_meter_is_searched_before_each_phase(tmp_path):
    system = emulated_system(EmulationConfig(root=str(tmp_path / "tree")), str(tmp_path))
    phase = MeteredPhase(PowerConfig(), system)
    assert "rapl" in phase.unavailable_reason()
    assert phase.power(REPORT) == (None, "no power meter")
    with Script(str(tmp_path / "tree")):
        assert phase.unavailable_reason() is None
    assert phase.meter == "rapl"


def test_a_meter_registered_twice_is_a_reason(tmp_path, monkeypatch):
    def fail():
        raise AgentError("duplicate_power_meter", "power meter 'mine' is registered twice")

    monkeypatch.setattr("vitsearch_agent.power.table", fail)
    phase = MeteredPhase(PowerConfig("mine"), emulated_system(EmulationConfig(), str(tmp_path)))
    assert phase.unavailable_reason() == "power meter 'mine' is registered twice"


@pytest.mark.long
def test_the_measure_command_measures_energy(script, tmp_path, blob, capsys, monkeypatch):
    system = emulated_system(EmulationConfig(root=script.tree.root), str(tmp_path))
    monkeypatch.setattr(measure, "THIS_MACHINE", system)
    monkeypatch.setattr(measure, "_POWER_S", 3.0)
    monkeypatch.setattr(measure, "_IDLE_S", 1.0)
    assert app.main(["measure", "--runtime", "noop", "--option", "busy_us=2000", "--power", blob]) == 0
    shown = capsys.readouterr().out
    assert "energy_mj " in shown
    assert "rapl, package" in shown


@pytest.mark.long
def test_the_measure_command_shows_why_power_is_missing(blob, capsys):
    assert app.main(["measure", blob, "--runtime", "noop", "--meter", "none"]) == 0
    assert "power           not measured: no power meter: switched off" in capsys.readouterr().out
    assert app.main(["measure", blob, "--runtime", "noop", "--meter", "rappl"]) == 2
    assert "did you mean 'rapl'" in capsys.readouterr().err
