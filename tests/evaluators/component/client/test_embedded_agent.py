import os
import signal
import subprocess
import sys

import pytest

from vitsearch_evaluators.base import processes
from vitsearch_evaluators.client import embedded_agent
from vitsearch_evaluators.client.embedded_agent import EmbeddedAgent
from vitsearch_evaluators.errors import DeviceUnreachable, EvaluatorError

DRIVER = """
import sys, threading
from vitsearch_evaluators import EmbeddedAgent
from vitsearch_evaluators.wire.job_spec import ONE_PROCESS
state, blob, note = sys.argv[1:]
with EmbeddedAgent(state) as agent:
    print(agent.pid, flush=True)
    options = {"gate": "/never/there", "note": note}
    agent.client("s").measure(blob, "faults", options, ONE_PROCESS._replace(id="t", warmup_min_runs=0, min_s=0.0))
"""


def test_agent_and_child_end_with_a_driver_that_is_killed(tmp_path, faulty_environment, blob, until, notes):
    note = notes / "pid"
    command = [sys.executable, "-c", DRIVER, str(tmp_path / "state"), blob, str(note)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as driver:
        agent_pid = int(driver.stdout.readline())
        until(note.exists)
        driver.kill()
        until(lambda: processes.identify(int(note.read_text())) is None, "the child to end")
        until(lambda: processes.identify(agent_pid) is None, "the agent to end")


def test_restart_keeps_the_device_and_its_queue(agent, client, blob, tiny_protocol):
    first = client.measure(blob, "noop", {}, tiny_protocol)
    assert agent.restart_if_dead() is False
    pid = agent.pid
    os.kill(pid, signal.SIGKILL)
    agent._process.wait()
    assert agent.restart_if_dead() is True
    assert agent.pid != pid
    assert client.measure(blob, "noop", {}, tiny_protocol) == first


def test_cpus_pins_the_agent(tmp_path):
    cpu = max(os.sched_getaffinity(0))
    with EmbeddedAgent(str(tmp_path / "state"), cpus=str(cpu)) as agent, agent.client("s") as client:
        assert client.device().fingerprint["affinity"] == [cpu]
        assert os.sched_getaffinity(agent.pid) == {cpu}


def test_stop_is_idempotent_and_pid_then_raises(tmp_path):
    with EmbeddedAgent(str(tmp_path / "state")) as agent:
        pid = agent.pid
        agent.stop()
        agent.stop()
        assert processes.identify(pid) is None
        with pytest.raises(DeviceUnreachable):
            agent.pid  # noqa: B018


def test_a_failed_start_quotes_the_log(tmp_path):
    with pytest.raises(DeviceUnreachable, match="--cpus"), EmbeddedAgent(str(tmp_path / "s"), cpus="9999"):
        pass


def test_a_second_agent_on_a_state_is_refused_and_the_first_keeps_its_token(agent, client, tmp_path, monkeypatch):
    monkeypatch.setattr(embedded_agent, "_STOP_S", 0.0)
    message = rf"another agent \(pid {agent.pid} of .* on .*\) uses {tmp_path / 'state'}"
    with pytest.raises(EvaluatorError, match=message), EmbeddedAgent(str(tmp_path / "state")):
        pass
    assert client.device().device_id


def test_the_token_is_private(agent, tmp_path):
    assert os.stat(str(tmp_path / "state" / "token")).st_mode & 0o777 == 0o600
