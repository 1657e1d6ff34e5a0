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

import support
from vitsearch.devices.registry import DeviceBook, KnownDevice

pytestmark = pytest.mark.long

SPACE = Path(support.REPOSITORY, "spaces", "quickstart.yaml")
UNPRUNED = (
    "study=moved",
    "search.trials=0",
    "space.backbone=efficientvit_fmnist",
    "baseline.backbone=efficientvit_fmnist",
    "space.resolution=28",
    "space.backend=onnxruntime",
    "space.quantization=[fp32, int8_ptq]",
)
OPENVINO = ("retarget", "moved", "--backend", "openvino", "--json")
WAIT_S = 120.0


def start(folder: Path, *command: str) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    program = [sys.executable, "-m", "support.quick_search", *command]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(program, cwd=folder, env=environment, text=True, start_new_session=True, **pipes)


def run(folder: Path, *command: str) -> str:
    process = start(folder, *command)
    said, errors = process.communicate()
    assert process.returncode == 0, said + errors
    return said


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("moved")
    run(folder, "run", str(SPACE), *UNPRUNED)
    return folder


def rows(folder: Path, table: str, columns: str) -> list[tuple[object, ...]]:
    with sqlite3.connect(folder / "studies" / "moved.db") as database:
        return database.execute(f"SELECT {columns} FROM {table}").fetchall()


def measurements(folder: Path) -> list[tuple[object, ...]]:
    return rows(folder, "vs_measurement", "graph_key, protocol, repeat")


def test_a_killed_command_resumes_and_nothing_is_trained(folder):
    pytest.importorskip("openvino")
    trainings, before = rows(folder, "vs_training", "*"), len(measurements(folder))
    killed = start(folder, *OPENVINO)
    end = time.monotonic() + WAIT_S
    while len(measurements(folder)) == before and time.monotonic() < end:
        time.sleep(0.1)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    for pipe in (killed.stdout, killed.stderr):
        pipe.close()  # what it has started may hold the other ends for a while
    assert len(measurements(folder)) > before

    found = json.loads(run(folder, *OPENVINO))
    assert {point["plan"]["deployments"][0]["runtime"] for point in found["front"]["points"]} == {"openvino"}
    assert found["front"]["device"] == "local+openvino"
    assert rows(folder, "vs_training", "*") == trainings
    measured = measurements(folder)
    assert len(measured) == len(set(measured))

    assert json.loads(run(folder, *OPENVINO)) == found
    assert measurements(folder) == measured
    shown = json.loads(run(folder, "front", "moved", "--device", "local+openvino", "--json"))
    assert [point["trial"] for point in shown["points"]] == [point["trial"] for point in found["front"]["points"]]


def test_a_device_that_does_not_answer_ends_it_with_code_1(folder, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder))
    DeviceBook.of_user(os.environ).put("nano", KnownDevice("http://127.0.0.1:9", "ab" * 32))
    process = start(folder, "retarget", "moved", "--device", "nano")
    _, errors = process.communicate()
    assert process.returncode == 1
    assert "device nano: " in errors
    assert "Traceback" not in errors
