"""Fault 28 of the list in `test_faults`: SIGSTOP of the agent and of a measuring process, for a while and for ever."""

import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from vitsearch_agent.base import processes
from vitsearch_agent.client import embedded_agent
from vitsearch_agent.client.client import Backoff, RequestOptions
from vitsearch_agent.errors import DeviceUnreachable, MeasurementFailed

pytestmark = pytest.mark.skipif(not os.path.isdir("/proc"), reason="finds the state of a process in /proc")

SETTINGS = {"timeout_s": 2.0, "backoff": Backoff(0.02, 0.2)}


@pytest.fixture
def gated(tmp_path, notes):
    """The options of a model whose runs wait for the gate, and which notes the pid of its process."""
    return {"fault": "none", "gate": str(tmp_path / "gate"), "note": str(notes / "pid")}


def pid_of(gated, until):
    """The measuring process, when it has its model."""
    until(lambda: os.path.exists(gated["note"]), "a model that is loaded")
    with open(gated["note"]) as stream:
        return int(stream.read())


def open_gate(gated):
    with open(gated["gate"], "w"):
        pass


def test_an_agent_that_is_stopped_for_longer_than_a_request_measures_once(
    faulty_agent, blob, tiny_protocol, gated, until
):
    heard = []
    request = RequestOptions(cancel=threading.Event(), on_trouble=heard.append)  # one that may be cancelled asks often
    with faulty_agent.client("study", deadline_s=120.0, **SETTINGS) as client, ThreadPoolExecutor(1) as pool:
        result = pool.submit(client.measure, blob, "faults", gated, tiny_protocol, request=request)
        pid_of(gated, until)
        os.kill(faulty_agent.pid, signal.SIGSTOP)
        open_gate(gated)
        until(lambda: heard, "a request without an answer")
        os.kill(faulty_agent.pid, signal.SIGCONT)
        measurement = result.result(120)
    assert "timed out" in str(heard[0])
    assert (measurement.attempts, measurement.latency_ms.n) == (1, 11)


@pytest.mark.long
def test_an_agent_that_stays_stopped_is_given_up_and_the_next_one_measures(
    faulty_agent, blob, tiny_protocol, gated, until, monkeypatch
):
    monkeypatch.setattr(embedded_agent, "_STOP_S", 0.5)
    with faulty_agent.client("study", deadline_s=5.0, **SETTINGS) as client, ThreadPoolExecutor(1) as pool:
        request = RequestOptions(cancel=threading.Event())
        result = pool.submit(client.measure, blob, "faults", gated, tiny_protocol, request=request)
        pid = pid_of(gated, until)
        os.kill(faulty_agent.pid, signal.SIGSTOP)
        with pytest.raises(DeviceUnreachable, match=r"timed out \(gave up after \d+ s without a useful answer\)"):
            result.result(120)
        faulty_agent.stop()
        until(lambda: processes.identify(pid) is None, "the end of the measuring process")
        open_gate(gated)
        assert faulty_agent.restart_if_dead()
    with faulty_agent.client("study") as client:
        assert client.measure(blob, "faults", gated, tiny_protocol).attempts == 2


@pytest.mark.long
def test_a_process_that_is_stopped_for_a_while_still_gives_its_result(faulty_client, blob, tiny_protocol, gated, until):
    with ThreadPoolExecutor(1) as pool:
        result = pool.submit(faulty_client.measure, blob, "faults", gated, tiny_protocol)
        pid = pid_of(gated, until)
        os.kill(pid, signal.SIGSTOP)
        open_gate(gated)
        until(lambda: state_of(pid) == "T", "a stopped process")
        assert not result.done()
        os.kill(pid, signal.SIGCONT)
        assert result.result(120).attempts == 1


@pytest.mark.long
def test_a_process_that_stays_stopped_runs_out_of_time_and_the_agent_is_healthy(
    faulty_client, blob, tiny_protocol, gated, until
):
    with ThreadPoolExecutor(1) as pool:
        short = tiny_protocol._replace(timeout_s=10.0)
        result = pool.submit(faulty_client.measure, blob, "faults", gated, short)
        pid = pid_of(gated, until)
        os.kill(pid, signal.SIGSTOP)
        with pytest.raises(MeasurementFailed, match="no result after") as caught:
            result.result(120)
    assert caught.value.kind == "timeout"
    assert processes.identify(pid) is None
    assert faulty_client.measure(blob, "noop", {"busy_us": 10}, tiny_protocol).latency_ms.n == 11


def state_of(pid):
    """The letter in /proc."""
    with open(f"/proc/{pid}/stat") as stream:
        return stream.read().rpartition(")")[2].split()[0]
