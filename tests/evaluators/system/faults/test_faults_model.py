"""Faults 11, 12, 13, 22 and 24 of `test_faults`: models that crash, hang, use all memory or answer garbage."""

import contextlib
import os
import subprocess
import sys

import pytest

from support.marks import long
from vitsearch_agent.base import processes
from vitsearch_agent.errors import MeasurementFailed
from vitsearch_agent.measure.child_process import StopSignal, run_child

LIMIT_BYTES = 250_000_000


def fails(client, blob, protocol, **options):
    with pytest.raises(MeasurementFailed) as caught:
        client.measure(blob, "faults", options, protocol)
    return caught.value


def is_healthy(client, blob, protocol):
    return client.measure(blob, "noop", {"busy_us": 10}, protocol).latency_ms.n == 11


@pytest.mark.long
def test_a_job_that_crashes_once_is_repeated_and_done(faulty_client, blob, tiny_protocol, notes):
    options = {"fault": "segfault_once", "note": str(notes / "note")}
    assert faulty_client.measure(blob, "faults", options, tiny_protocol).attempts == 2


@pytest.mark.parametrize(("fault", "signal"), [("segfault", "SIGSEGV"), *long(("abort", "SIGABRT"))])
def test_a_repeated_crash_is_final_and_the_agent_is_healthy(faulty_client, blob, tiny_protocol, fault, signal):
    failure = fails(faulty_client, blob, tiny_protocol, fault=fault)
    assert (failure.kind, failure.details["signal"], failure.transient) == ("crash", signal, False)
    job = failure.details
    assert fails(faulty_client, blob, tiny_protocol, fault=fault).details == job, "it is not tried a third time"
    assert is_healthy(faulty_client, blob, tiny_protocol)


# An agent for which an hour passes as soon as the process of a model has left another behind.
HASTY_AGENT = """
import os, sys, time, types
from vitsearch_agent.cli import app
from vitsearch_agent.measure import child_process

def monotonic():
    return time.monotonic() + 3600.0 * os.path.exists({escaped!r})

child_process.time = types.SimpleNamespace(monotonic=monotonic)
sys.exit(app.main(sys.argv[1:]))
"""


@pytest.mark.long
def test_an_endless_model_ends_with_all_its_descendants(
    serve_agent, faulty_environment, blob, tiny_protocol, notes, tmp_path
):
    script = tmp_path / "hasty.py"
    script.write_text(HASTY_AGENT.format(escaped=str(notes / "pid.escaped")))
    served = serve_agent(config={"runtimes": {"faults": {"writable": [str(notes)]}}}, program=[str(script)])
    with served.client() as client:
        failure = fails(client, blob, tiny_protocol, fault="endless", note=str(notes / "pid"))
        assert failure.kind == "timeout"
        pids = [int((notes / name).read_text()) for name in ("pid", "pid.escaped")]
        assert [processes.identify(pid) for pid in pids] == [None, None]
        assert is_healthy(client, blob, tiny_protocol)


@pytest.fixture
def little_memory(faulty_agent, small_group):
    """Put the agent, and with it its children, into a cgroup of 250 MB."""
    small_group(faulty_agent.pid)
    yield
    faulty_agent.stop()


@pytest.fixture
def small_group():
    """Make a cgroup of 250 MB and return a function that puts a process into it."""
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        pytest.skip("only root can create a cgroup")
    with contextlib.ExitStack() as closing:
        for root, limit in (("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")):
            group = os.path.join(root, f"vitsearch-test-{os.getpid()}")
            try:
                os.mkdir(group)
                closing.callback(os.rmdir, group)
                write(os.path.join(group, limit), LIMIT_BYTES)
            except OSError:
                continue
            yield lambda pid, group=group: write(os.path.join(group, "cgroup.procs"), pid)
            return
    pytest.skip("cannot create a memory cgroup on this machine")


def write(path, value):
    with open(path, "w") as stream:
        stream.write(str(value))


def test_a_model_that_exhausts_the_memory_fails_and_the_agent_survives(
    faulty_agent, little_memory, faulty_client, blob, tiny_protocol
):
    """The kernel really kills the child, and its counter is the evidence."""
    pid = faulty_agent.pid
    failure = fails(faulty_client, blob, tiny_protocol, fault="hungry")
    assert (failure.kind, failure.transient) == ("out_of_memory", False)
    assert is_healthy(faulty_client, blob, tiny_protocol)
    assert faulty_agent.pid == pid


def test_without_a_kernel_counter_the_kernel_log_shows_the_kill(
    faulty_environment, small_group, tiny_protocol, tmp_path, monkeypatch
):
    monkeypatch.setattr(processes, "out_of_memory_kills", lambda: None)
    if not os.access("/dev/kmsg", os.R_OK):
        pytest.skip("cannot read the kernel's log on this machine")
    (tmp_path / "model.onnx").write_bytes(b"x")
    job = {"kind": "measure", "phase": "latency", "runtime": "faults", "options": {"fault": "hungry"}}
    job.update(protocol=tiny_protocol.to_json(), model="model.onnx", answer="answer.json")
    with pytest.raises(MeasurementFailed) as caught:
        run_child(job, str(tmp_path), 120.0, StopSignal(), lambda child: small_group(child.pid))
    assert caught.value.kind == "out_of_memory"


def test_a_memory_error_is_out_of_memory(faulty_client, blob, tiny_protocol):
    assert fails(faulty_client, blob, tiny_protocol, fault="memory").kind == "out_of_memory"


@pytest.mark.parametrize("note", ["nan", *long("text", "huge", "other", "empty")])
def test_garbage_is_a_protocol_failure_and_never_a_result(faulty_client, blob, tiny_protocol, note):
    assert fails(faulty_client, blob, tiny_protocol, fault="garbage", note=note).kind == "protocol"


def test_zombies_and_escaped_processes_are_removed(faulty_agent, faulty_client, blob, tiny_protocol, notes):
    options = {"fault": "escape", "note": str(notes / "pid")}
    assert faulty_client.measure(blob, "faults", options, tiny_protocol).latency_ms.n == 11
    assert processes.identify(int((notes / "pid.escaped").read_text())) is None
    listed = subprocess.run(["ps", "-o", "stat=", "--ppid", str(faulty_agent.pid)], stdout=subprocess.PIPE)
    assert listed.stdout.split() == []
