"""The guard ends the processes of a killed driver, pauses workers, and lets nothing stay stopped, whoever is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from support import PYTHON_PATH
from support.marks import long
from vitsearch.workers import process_guard
from vitsearch.workers.process_guard import ProcessGuard, Watch
from vitsearch.workers.process_tree import MARK, ProcessTree

pytestmark = pytest.mark.skipif(not Path("/proc").exists(), reason="the guard works through /proc")

DRIVER = """
import os, subprocess, sys
from vitsearch.workers.process_guard import MARK, ProcessGuard
with ProcessGuard():
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True, HOW)
    print(os.environ[MARK], child.pid, flush=True)
    sys.stdin.read()
    child.kill()
    child.wait()
"""
PAUSING_DRIVER = """
import subprocess, sys
from vitsearch.workers.process_guard import ProcessGuard

def start(title, script):
    return subprocess.Popen([title, "-c", script], executable="/bin/sh", stdout=subprocess.PIPE, text=True)

CHILD = "setsid sleep 600 & echo 2 $!; wait"
with ProcessGuard() as guard:
    helper = start("ray::DashboardAgent", "exec sleep 600")
    worker = start("ray::_run_task_on", f"sh -c '{CHILD}' & echo 1 $!; wait")
    tree = worker.pid, *(line.split()[1] for line in sorted(worker.stdout.readline() for _ in range(2)))
    print(guard.pid, helper.pid, *tree, flush=True)
    for line in sys.stdin:
        getattr(guard, line.strip())()
        print(guard.pid, flush=True)
"""


def start(how: str = "env=None") -> tuple[subprocess.Popen[bytes], str, int]:
    driver = run_driver(DRIVER.replace("HOW", how))
    assert driver.stdout is not None
    token, pid = driver.stdout.readline().decode().split()
    return driver, token, int(pid)


def run_driver(script: str) -> subprocess.Popen[bytes]:
    environment = os.environ | {"PYTHONPATH": PYTHON_PATH}
    return subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    )


@dataclass
class PausingDriver:
    """A driver with a worker, a child of the worker, and a grandchild in a session of its own."""

    process: subprocess.Popen[bytes]
    guard: int
    helper: int
    worker: int
    child: int
    grandchild: int

    @property
    def tree(self) -> list[int]:
        return [self.worker, self.child, self.grandchild]

    def ask(self, request: str) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{request}\n".encode())
        self.process.stdin.flush()
        self.guard = int(self.process.stdout.readline())

    def states(self) -> list[str]:
        return [state(pid) for pid in self.tree]


@pytest.fixture
def paused() -> Iterator[PausingDriver]:
    process = run_driver(PAUSING_DRIVER)
    assert process.stdout is not None
    driver = PausingDriver(process, *map(int, process.stdout.readline().split()))
    driver.ask("pause")
    assert driver.states() == ["T", "T", "T"]
    yield driver
    process.kill()
    process.communicate()
    for pid in [driver.helper, *driver.tree]:
        kill(pid)


def kill(pid: int) -> None:
    if state(pid) != "gone":
        os.kill(pid, signal.SIGKILL)


def state(pid: int) -> str:
    """The letter in /proc; "gone" for a process that has ended."""
    try:
        letter = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "gone"
    return "gone" if letter in "ZX" else letter


def soon(condition: Callable[[], bool]) -> bool:
    """Whether it holds within a minute."""
    for _ in range(600):
        if condition():
            return True
        signal.sigtimedwait([], 0.1)
    return False


def alive(token: str) -> list[int]:
    return ProcessTree(token, os.getpid()).marked()


def test_processes_of_a_killed_driver_are_killed():
    driver, token, child = start()
    assert soon(lambda: child in alive(token))  # a new process has no environment for a moment
    driver.kill()
    driver.communicate()
    assert soon(lambda: alive(token) == [])  # the guard carries the mark too


@pytest.mark.long
def test_a_process_without_the_mark_is_found_as_a_descendant():
    driver, _, child = start("env={}")
    signal.sigtimedwait([], 2.0)  # the guard scans ten times a second at first
    driver.kill()
    driver.communicate()
    assert soon(lambda: state(child) == "gone"), "the child outlived its driver"


def test_a_driver_that_shuts_down_in_order_is_not_killed():
    driver, token, _ = start()
    driver.communicate()
    assert driver.returncode == 0
    assert soon(lambda: alive(token) == [])


def test_the_mark_is_removed_on_exit():
    with ProcessGuard():
        assert MARK in os.environ
    assert MARK not in os.environ


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_processes_of_a_driver_whose_guard_was_killed_or_stopped_end_with_it(monkeypatch, number):
    monkeypatch.setattr(process_guard, "ANSWER_S", 1.0)
    with ProcessGuard() as guard:
        os.kill(guard.pid, number)
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert child.wait() == -signal.SIGKILL
    child.communicate()


def test_a_pause_stops_workers_with_their_descendants_and_nothing_else(paused):
    assert state(paused.helper) != "T"
    assert state(paused.process.pid) != "T"


def test_after_a_pause_all_continue(paused):
    paused.ask("resume")
    assert soon(lambda: "T" not in paused.states())
    assert "gone" not in paused.states()


def test_a_worker_that_starts_during_a_pause_is_stopped():
    with ProcessGuard() as guard:
        guard.pause()
        with subprocess.Popen(["ray::IDLE", "600"], executable="/bin/sleep") as worker:
            assert soon(lambda: state(worker.pid) == "T")
            guard.resume()
            assert soon(lambda: state(worker.pid) == "S")
            worker.kill()


def test_nothing_stays_stopped_when_the_driver_is_killed(paused):
    paused.process.kill()
    assert soon(lambda: paused.states() == ["gone"] * 3)


def test_nothing_stays_stopped_when_the_worker_is_killed(paused):
    kill(paused.worker)
    paused.ask("resume")
    assert soon(lambda: "T" not in paused.states())
    assert state(paused.grandchild) != "gone"  # it has lost its parent, and is found all the same


@pytest.mark.parametrize("number", [signal.SIGKILL, *long(signal.SIGSTOP)])
def test_the_driver_resumes_when_the_guard_is_killed_or_stopped(paused, number):
    before = paused.guard
    os.kill(before, number)
    paused.ask("resume")
    assert soon(lambda: "T" not in paused.states())
    assert paused.guard != before
    assert soon(lambda: state(before) == "gone")


@pytest.mark.long
def test_a_guard_that_was_stopped_for_a_moment_does_what_was_asked_meanwhile(paused):
    before = paused.guard
    os.kill(before, signal.SIGSTOP)
    threading.Timer(2.0, os.kill, (before, signal.SIGCONT)).start()
    paused.ask("resume")
    assert soon(lambda: "T" not in paused.states())
    assert paused.guard == before


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_pause_goes_on_with_another_guard_when_the_guard_is_killed_or_stopped(paused, number):
    os.kill(paused.guard, number)
    paused.ask("pause")
    assert paused.states() == ["T", "T", "T"]
    paused.process.kill()
    assert soon(lambda: paused.states() == ["gone"] * 3)


def test_the_next_run_kills_what_is_stopped_when_driver_and_guard_are_killed(paused):
    kill(paused.guard)
    paused.process.kill()
    paused.process.wait()
    assert paused.states() == ["T", "T", "T"]
    with ProcessGuard():
        assert soon(lambda: paused.states() == ["gone"] * 3)


class CountingTree:
    def __init__(self) -> None:
        self.done: list[str] = []

    def stop_workers(self) -> None:
        self.done.append("stop")

    def resume(self) -> None:
        self.done.append("resume")

    def scan(self) -> None:
        self.done.append("scan")


@pytest.mark.parametrize(("lease_s", "done"), [(600.0, ["stop", "stop"]), (-1.0, ["stop", "resume"])])
def test_a_pause_that_the_driver_does_not_ask_for_again_ends(monkeypatch, lease_s, done):
    monkeypatch.setattr(process_guard, "LEASE_S", lease_s)
    watch = Watch(tree := CountingTree())
    watch._pause()
    watch._look()
    assert tree.done == done
