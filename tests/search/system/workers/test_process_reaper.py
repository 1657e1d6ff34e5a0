"""A driver that is killed leaves nothing behind; one that ends in order is left alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from vitsearch.workers.process_reaper import MARK, Family, ProcessReaper

pytestmark = pytest.mark.skipif(not Path("/proc").exists(), reason="the guard works through /proc")

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
    return Family(token, os.getpid()).marked()


def marked_soon(child: int, token: str) -> bool:
    """A process that has just begun has no environment yet for a moment."""
    for _ in range(100):
        if child in alive(token):
            return True
        signal.sigtimedwait([], 0.1)
    return False


def await_none(token: str) -> list[int]:
    """What is left; the guard itself bears the mark and is waited for too."""
    for _ in range(600):
        if not (left := alive(token)):
            return []
        signal.sigtimedwait([], 0.1)
    return left


def test_what_a_killed_driver_started_is_ended():
    driver, token, child = start()
    assert marked_soon(child, token)
    driver.kill()
    driver.communicate()
    assert await_none(token) == []


def test_what_lost_its_mark_is_known_by_its_parents():
    driver, _, child = start("env={}")
    signal.sigtimedwait([], 2.0)  # the guard looks ten times a second at first
    driver.kill()
    driver.communicate()
    for _ in range(600):
        if not Path(f"/proc/{child}").exists() or "Z" in Path(f"/proc/{child}/stat").read_text().split()[2]:
            return
        signal.sigtimedwait([], 0.1)
    pytest.fail("the child outlived its driver")


def test_a_driver_that_ends_in_order_is_not_killed():
    driver, token, _ = start()
    driver.communicate()
    assert driver.returncode == 0
    assert await_none(token) == []


def test_the_mark_is_gone_afterwards():
    with ProcessReaper():
        assert MARK in os.environ
    assert MARK not in os.environ


def test_what_the_driver_had_before_stays_out_of_it():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as before:
        family = Family("no such token", os.getpid())
        with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as after:
            assert after.pid in family.alive()
            assert before.pid not in family.alive()


def test_the_first_process_is_no_driver():
    with pytest.raises(ValueError, match="process 1 is no driver"):
        Family("token", 1)
