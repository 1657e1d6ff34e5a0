"""A real study on another runtime: real exports, a real agent, and a command that is killed in the middle."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from support import PYTHON_PATH
from vitsearch.devices.registry import DeviceBook, KnownDevice

pytestmark = pytest.mark.long

OPENVINO = ("retarget", "unpruned", "--backend", "openvino", "--json")
WAIT_S = 120.0


def start(folder: Path, *command: str) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": PYTHON_PATH, "OMP_NUM_THREADS": "1"}
    program = [sys.executable, "-m", "support.quick_search", *command]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(program, cwd=folder, env=environment, text=True, start_new_session=True, **pipes)


def run(folder: Path, *command: str) -> str:
    process = start(folder, *command)
    said, errors = process.communicate()
    assert process.returncode == 0, said + errors
    return said


def rows(folder: Path, table: str, columns: str) -> list[tuple[object, ...]]:
    with sqlite3.connect(folder / "studies" / "unpruned.db") as database:
        return database.execute(f"SELECT {columns} FROM {table}").fetchall()


def measurements(folder: Path) -> list[tuple[object, ...]]:
    return rows(folder, "vs_measurement", "graph_key, protocol, repeat")


def test_a_killed_command_resumes_and_nothing_is_trained(unpruned):
    pytest.importorskip("openvino")
    trainings, before = rows(unpruned, "vs_training", "*"), len(measurements(unpruned))
    killed = start(unpruned, *OPENVINO)
    end = time.monotonic() + WAIT_S
    while len(measurements(unpruned)) == before and time.monotonic() < end:
        time.sleep(0.1)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    for pipe in (killed.stdout, killed.stderr):
        pipe.close()  # what it has started may hold the other ends for a while
    assert len(measurements(unpruned)) > before

    found = json.loads(run(unpruned, *OPENVINO))
    assert {point["plan"]["deployments"][0]["runtime"] for point in found["front"]["points"]} == {"openvino"}
    assert found["front"]["device"] == "local+openvino"
    assert rows(unpruned, "vs_training", "*") == trainings
    measured = measurements(unpruned)
    assert len(measured) == len(set(measured))

    assert json.loads(run(unpruned, *OPENVINO)) == found
    assert measurements(unpruned) == measured
    shown = json.loads(run(unpruned, "front", "unpruned", "--device", "local+openvino", "--json"))
    assert [point["trial"] for point in shown["points"]] == [point["trial"] for point in found["front"]["points"]]


def test_a_device_that_does_not_answer_ends_it_with_code_1(unpruned, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(unpruned))
    DeviceBook.of_user(os.environ).put("nano", KnownDevice("http://127.0.0.1:9", "ab" * 32))
    process = start(unpruned, "retarget", "unpruned", "--device", "nano")
    _, errors = process.communicate()
    assert process.returncode == 1
    assert "device nano: " in errors
    assert "Traceback" not in errors
