"""Parents of measuring processes: when they serve, when they are replaced, and when none is kept."""

import contextlib
import os
import signal
import sys
import threading

import pytest

from support.marks import long
from vitsearch_agent.base import processes
from vitsearch_agent.base.system import System
from vitsearch_agent.measure import warm_parents
from vitsearch_agent.measure.child_process import StopSignal, child_environment, run_child
from vitsearch_agent.measure.warm_parents import ParentKey, WarmParents

KEY = ParentKey("here", "faults", 0)


@pytest.fixture
def parents(faulty_environment):
    processes.adopt_orphans()
    with contextlib.closing(WarmParents()) as kept:
        yield kept
    processes._prctl(processes._PR_SET_CHILD_SUBREAPER, 0)


@pytest.fixture
def parent_of(parents, tmp_path):
    """parent_of(key): the parent that serves a key."""
    return lambda key=KEY: parents.parent(key, child_environment(sys.executable, str(tmp_path)))


@pytest.fixture
def report(tmp_path, tiny_protocol):
    """report(parent): that of a process which this parent forks."""
    (tmp_path / "model.onnx").write_bytes(b"model")
    job = {"kind": "measure", "phase": "latency", "runtime": "faults", "options": {"fault": "none"}}
    job = dict(job, protocol=tiny_protocol.to_json(), model="model.onnx", answer="answer.json")
    with contextlib.closing(StopSignal()) as stop:
        yield lambda parent: run_child(job, str(tmp_path), 60.0, stop, parent=parent)["report"]


def test_a_parent_serves_several_processes(parent_of, report):
    first = parent_of()
    assert [report(parent_of())["load_ms"] for _ in range(3)] == [None] * 3
    assert parent_of() is first


def test_a_parent_is_replaced_after_its_last_process(parent_of, report, monkeypatch):
    monkeypatch.setattr(warm_parents, "MOST_CHILDREN", 1)
    first = parent_of()
    report(first)
    second = parent_of()
    assert second is not first
    assert first.is_over
    assert report(second)["load_ms"] is None


def test_a_process_is_started_where_its_parent_was_killed(parent_of, report):
    parent = parent_of()
    report(parent)
    os.kill(parent.pid, signal.SIGKILL)
    assert report(parent)["load_ms"] is not None
    assert parent_of() is not parent


def test_a_process_is_started_where_its_parent_is_stopped(parent_of, report, monkeypatch):
    parent = parent_of()
    report(parent)
    monkeypatch.setattr(warm_parents, "FORK_S", 0.5)
    os.kill(parent.pid, signal.SIGSTOP)
    assert report(parent)["load_ms"] is not None
    assert parent.is_over
    assert parent_of() is not parent


@pytest.mark.long
def test_a_parent_that_is_stopped_for_a_while_still_serves(parent_of, report):
    parent = parent_of()
    report(parent)
    os.kill(parent.pid, signal.SIGSTOP)
    threading.Timer(1.0, os.kill, (parent.pid, signal.SIGCONT)).start()
    assert report(parent)["load_ms"] is None
    assert parent_of() is parent


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="Linux only")
@pytest.mark.parametrize("change", [*long("nice"), "limit"])
def test_a_parent_that_was_changed_is_replaced(parent_of, report, change):
    import resource

    parent = parent_of()
    report(parent)
    if change == "nice":
        os.setpriority(os.PRIO_PROCESS, parent.pid, 5)
    else:
        resource.prlimit(parent.pid, resource.RLIMIT_NOFILE, (64, 64))
    assert report(parent)["load_ms"] is not None
    replacement = parent_of()
    assert replacement is not parent
    assert report(replacement)["load_ms"] is None


def test_a_process_outlives_its_parent(parent_of, tmp_path):
    parent = parent_of()
    (tmp_path / "job.json").write_text("{")  # it cannot be read: the process ends with code 1
    alive, alive_write = os.pipe()
    with open(str(tmp_path / "log"), "wb") as log:
        child = parent.fork(str(tmp_path / "job.json"), str(tmp_path), log, alive_write)
    os.close(alive_write)
    parent.close()
    assert child.wait(60.0) == 1
    assert b"json" in (tmp_path / "log").read_bytes()
    os.close(alive)


def test_parents_of_another_environment_end(parent_of):
    first = parent_of()
    parent_of(KEY._replace(environment="elsewhere"))
    assert first.is_over


def test_the_parent_that_was_used_least_recently_ends_first(parent_of, monkeypatch):
    monkeypatch.setattr(warm_parents, "MOST_PARENTS", 2)
    first, second = parent_of(), parent_of(KEY._replace(place=1))
    assert parent_of() is first
    parent_of(KEY._replace(place=2))
    assert second.is_over
    assert not first.is_over


def test_no_parent_is_kept_while_memory_is_short(parent_of, parents, tmp_path, monkeypatch):
    first = parent_of()
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "meminfo").write_text("MemTotal:  4000000 kB\nMemAvailable:  900000 kB\n")
    monkeypatch.setattr(parents, "_system", System(root=str(tmp_path)))
    parents.make_room()
    assert first.is_over
    assert parent_of() is None


def test_a_runtime_that_starts_threads_has_no_parents(parent_of, report, faulty_environment):
    with open(os.path.join(faulty_environment, "faults_runtime.py"), "a") as stream:
        stream.write("import threading\nthreading.Thread(target=time.sleep, args=(600,), daemon=True).start()\n")
    assert report(parent_of())["load_ms"] is not None
    assert parent_of() is None


def test_closing_ends_all(parent_of, parents):
    started = [parent_of(KEY._replace(place=place)) for place in range(3)]
    parents.close()
    assert all(parent.is_over for parent in started)
    assert not {parent.pid for parent in started} & processes.children()
