"""The reaper ends the processes of a killed driver, and leaves an orderly shutdown alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from vitsearch.workers.process_reaper import MARK, ProcessReaper, ProcessTree

pytestmark = pytest.mark.skipif(not Path("/proc").exists(), reason="the reaper works through /proc")

DRIVER = """
import os, subprocess, sys
from vitsearch.workers.process_reaper import MARK, ProcessReaper
with ProcessReaper():
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True, HOW)
    print(os.environ[MARK], child.pid, flush=True)
    sys.stdin.read()
    child.kill()
    child.wait()
"""


def start(how: str = "env=None") -> tuple[subprocess.Popen[bytes], str, int]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER.replace("HOW", how)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
    )
    assert driver.stdout is not None
    token, pid = driver.stdout.readline().decode().split()
    return driver, token, int(pid)


def alive(token: str) -> list[int]:
    return ProcessTree(token, os.getpid()).marked()


def marked_soon(child: int, token: str) -> bool:
    """A new process has no environment for a moment."""
    for _ in range(100):
        if child in alive(token):
            return True
        signal.sigtimedwait([], 0.1)
    return False


def await_none(token: str) -> list[int]:
    """The marked processes that are left after a minute; the reaper carries the mark too."""
    for _ in range(600):
        if not (left := alive(token)):
            return []
        signal.sigtimedwait([], 0.1)
    return left


def test_processes_of_a_killed_driver_are_killed():
    driver, token, child = start()
    assert marked_soon(child, token)
    driver.kill()
    driver.communicate()
    assert await_none(token) == []


def test_a_process_without_the_mark_is_found_as_a_descendant():
    driver, _, child = start("env={}")
    signal.sigtimedwait([], 2.0)  # the reaper scans ten times a second at first
    driver.kill()
    driver.communicate()
    for _ in range(600):
        if not Path(f"/proc/{child}").exists() or "Z" in Path(f"/proc/{child}/stat").read_text().split()[2]:
            return
        signal.sigtimedwait([], 0.1)
    pytest.fail("the child outlived its driver")


def test_a_driver_that_shuts_down_in_order_is_not_killed():
    driver, token, _ = start()
    driver.communicate()
    assert driver.returncode == 0
    assert await_none(token) == []


def test_the_mark_is_removed_on_exit():
    with ProcessReaper():
        assert MARK in os.environ
    assert MARK not in os.environ


def test_processes_started_before_the_reaper_are_left_out():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as before:
        tree = ProcessTree("no such token", os.getpid())
        with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as after:
            assert after.pid in tree.alive()
            assert before.pid not in tree.alive()


def test_pid_1_is_refused_as_a_driver():
    with pytest.raises(ValueError, match="pid 1 cannot be a driver"):
        ProcessTree("token", 1)
