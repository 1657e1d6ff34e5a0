"""A driver that is killed leaves nothing behind; one that ends in order is left alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from vitsearch.guard import MARK, Guard, marked

pytestmark = pytest.mark.skipif(not Path("/proc").exists(), reason="the guard works through /proc")

DRIVER = """
import os, subprocess, sys
from vitsearch.guard import MARK, Guard
with Guard():
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    print(os.environ[MARK], child.pid, flush=True)
    sys.stdin.read()
    child.kill()
    child.wait()
"""


def start() -> tuple[subprocess.Popen[bytes], str, int]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    )
    assert driver.stdout is not None
    token, pid = driver.stdout.readline().decode().split()
    return driver, token, int(pid)


def await_none(token: str) -> list[int]:
    """What is left; the guard itself bears the mark and is waited for too."""
    for _ in range(600):
        if not (left := marked(token)):
            return []
        signal.sigtimedwait([], 0.1)
    return left


def test_what_a_killed_driver_started_is_ended():
    driver, token, child = start()
    assert child in marked(token)
    driver.kill()
    driver.communicate()
    assert await_none(token) == []


def test_a_driver_that_ends_in_order_is_not_killed():
    driver, token, _ = start()
    driver.communicate()
    assert driver.returncode == 0
    assert await_none(token) == []


def test_the_mark_is_gone_afterwards():
    with Guard():
        assert MARK in os.environ
    assert MARK not in os.environ
