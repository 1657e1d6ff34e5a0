"""Processes are recognised as Ray workers, as descendants of a driver, and by the run in their environment."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from vitsearch.workers.process_tree import ProcessId, ProcessTree, is_worker, process_id

pytestmark = pytest.mark.skipif(not Path("/proc").exists(), reason="processes are found in /proc")


def test_processes_from_before_a_run_are_left_out():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as before:
        tree = ProcessTree("no such token", os.getpid(), [process_id(before.pid)])
        with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as after:
            assert after.pid in tree.alive()
            assert before.pid not in tree.alive()


def test_pid_1_is_refused_as_a_driver():
    with pytest.raises(ValueError, match="pid 1 cannot be a driver"):
        ProcessTree("token", 1)


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("ray::_run_task_on", True),
        ("ray::IDLE\0\0\0", True),
        ("/usr/bin/python\0/lib/ray/_private/workers/default_worker.py\0--node-ip-address=127.0.0.1", True),
        ("ray::DashboardAgent", False),
        ("ray::RuntimeEnvAgent", False),
        (
            "raylet\0--python_worker_command=python /lib/ray/_private/workers/default_worker.py --node-ip-address=1",
            False,
        ),
        ("/usr/bin/python\0-m\0vitsearch_agent\0serve", False),
        ("", False),
    ],
)
def test_workers_are_told_from_the_rest_of_a_ray_node(command, expected):
    assert is_worker(command) == expected


@pytest.mark.parametrize(
    ("text", "process"),
    [("12.345", ProcessId(12, "345")), ("12.345.ab", ProcessId(12, "345")), ("", None), ("ab12", None), ("12", None)],
)
def test_a_process_is_read_back_from_its_text(text, process):
    assert ProcessId.of_text(text) == process
