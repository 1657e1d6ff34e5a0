import json
import os
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from vitsearch_agent.base import locks, processes, tokens
from vitsearch_agent.client import embedded_agent
from vitsearch_agent.client.embedded_agent import EmbeddedAgent
from vitsearch_agent.errors import AgentError, DeviceUnreachable

DRIVER = """
import sys, threading
from vitsearch_agent import EmbeddedAgent
from vitsearch_agent.wire.measure_protocol import ONE_PROCESS
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
        until(lambda: note.exists() and note.read_text(), "the child to measure")
        pids = {"the agent": agent_pid, "the child": int(note.read_text())}
        assert all(processes.identify(pid) for pid in pids.values())
        driver.kill()
        for name, pid in pids.items():
            until(lambda pid=pid: processes.identify(pid) is None, name + " to end")
    assert driver.returncode == -signal.SIGKILL


def test_restart_keeps_the_device_and_its_queue(agent, client, blob, tiny_protocol):
    first = client.measure(blob, "noop", {}, tiny_protocol)
    assert agent.restart_if_dead() is False
    pid = agent.pid
    os.kill(pid, signal.SIGKILL)
    agent._process.wait()
    assert agent.restart_if_dead() is True
    assert agent.pid != pid
    assert client.measure(blob, "noop", {}, tiny_protocol) == first


def test_models_are_dropped_when_the_agent_ends_and_sent_again_where_they_are_measured_again(
    tmp_path, blob, tiny_protocol
):
    state = tmp_path / "state"
    with EmbeddedAgent(str(state)) as agent, agent.client("s") as client:
        first = client.measure(blob, "noop", {}, tiny_protocol)
        assert len(os.listdir(str(state / "blobs"))) == 1
    assert os.listdir(str(state / "blobs")) == []
    with EmbeddedAgent(str(state)) as agent, agent.client("s") as client:
        assert client.measure(blob, "noop", {}, tiny_protocol) == first
        assert client.measure(blob, "noop", {}, tiny_protocol, repeat=1) != first


def test_what_a_killed_agent_has_kept_is_dropped_when_the_next_one_starts(tmp_path, blob, tiny_protocol):
    state = tmp_path / "state"
    with EmbeddedAgent(str(state)) as agent, agent.client("s") as client:
        client.measure(blob, "noop", {}, tiny_protocol)
        os.kill(agent.pid, signal.SIGKILL)
        agent._process.wait()
        assert len(os.listdir(str(state / "blobs"))) == 1
        agent.restart_if_dead()
        assert os.listdir(str(state / "blobs")) == []


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


def test_a_second_process_uses_the_agent_of_the_first(agent, client, tmp_path):
    with EmbeddedAgent(str(tmp_path / "state")) as second, second.client("s") as other:
        assert (second.pid, second.has_pid(agent.pid)) == (agent.pid, True)
        assert other.device().device_id == client.device().device_id
    assert client.device().device_id, "the first one's agent goes on"


def test_an_agent_that_is_started_again_answers_those_who_had_joined_the_one_before(tmp_path, blob, tiny_protocol):
    state = str(tmp_path / "state")
    first = EmbeddedAgent(state).__enter__()
    with EmbeddedAgent(state) as second, second.client("s") as client:
        first.stop()
        with EmbeddedAgent(state):
            assert client.measure(blob, "noop", {}, tiny_protocol).runtime == "noop"


def test_who_needs_the_agent_starts_it_again_when_its_process_has_ended(tmp_path, blob, tiny_protocol):
    first = EmbeddedAgent(str(tmp_path / "state")).__enter__()
    with EmbeddedAgent(str(tmp_path / "state")) as second, second.client("s") as client:
        before = client.measure(blob, "noop", {}, tiny_protocol)
        pid = first.pid
        first.stop()
        assert client.measure(blob, "noop", {}, tiny_protocol) == before
        assert second.pid != pid


def test_of_several_that_start_at_once_one_starts_the_agent(tmp_path):
    agents = [EmbeddedAgent(str(tmp_path / "state")) for _ in range(4)]
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(EmbeddedAgent.__enter__, agents))
    try:
        assert len({agent.pid for agent in agents}) == 1
    finally:
        for agent in agents:
            agent.stop()


def test_an_agent_that_does_not_answer_is_not_shared(tmp_path, monkeypatch):
    monkeypatch.setattr(embedded_agent, "_STOP_S", 0.0)
    state = tmp_path / "state"
    state.mkdir()
    with locks.try_lock(str(state / locks.STATE)):
        message = rf"another agent \(pid {os.getpid()} of .* on .*\) uses {state}"
        with pytest.raises(AgentError, match=message), EmbeddedAgent(str(state)):
            pass


def test_a_killed_agent_is_not_shared_while_a_child_still_has_its_lock_and_its_socket(tmp_path, monkeypatch):
    """As between the fork and the exec of a measuring child, whose agent is killed at that moment."""
    monkeypatch.setattr(embedded_agent, "_STOP_S", 0.0)
    state = tmp_path / "state"
    state.mkdir()
    ended = subprocess.Popen(["true"])
    ended.wait()
    with socket.create_server(("127.0.0.1", 0)) as listening, locks.try_lock(str(state / locks.STATE)) as lock:
        lock.seek(0)
        holder = dict(json.load(lock), pid=ended.pid)
        lock.truncate(0)
        lock.write(json.dumps(holder))
        lock.flush()
        (state / "port.json").write_text(json.dumps({"port": listening.getsockname()[1]}))
        tokens.write_tokens(str(state / tokens.FILE_NAME), (tokens.new_token(),))
        with pytest.raises(AgentError, match=rf"another agent \(pid {ended.pid} "), EmbeddedAgent(str(state)):
            pass


def test_the_token_is_private(agent, tmp_path):
    assert os.stat(str(tmp_path / "state" / "token")).st_mode & 0o777 == 0o600
