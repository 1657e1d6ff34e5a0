"""Kill anything, twenty times, in a real search: real Ray, real agent, real trainings, real onnxruntime.

Whatever dies, no finished stage may be lost or made again, no trial may stay open, and nothing may
be left running. The moments are random (seeded by the clock, printed on failure), the waits only
bounds against hanging.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

KILLS = {"driver": 8, "worker": 4, "agent": 4, "child": 4}
TRIALS = 60
PATIENCE_S = 600
TABLES = {
    "vs_block_structure": "key",
    "vs_training": "weights_key || ':' || rung",
    "vs_artifact": "artifact_key",
    "vs_accuracy": "artifact_key || ':' || split",
    "vs_measurement": "graph_key || ':' || device_id || ':' || protocol || ':' || repeat",
}

pytestmark = [
    pytest.mark.skipif(not Path("/proc").exists(), reason="finds the processes of a run in /proc"),
]

SPACE = """
study: survival
task:
  data: {{source: folder, root: "{root}"}}
  base: {{epochs: 1, batch_size: 16}}
  fine_tune: {{rungs: [0, 1], images_per_epoch: 32, batch_size: 16}}
  proxy: {{calibration_images: 16}}
# Many objectives, and two without noise: there is always a plan with a predicted gain.
objectives: {{accuracy: maximize, cpu_ms_p50: minimize, size_mb: minimize, macs_m: minimize}}
limits: {{accuracy: {{max_drop: 1.0}}}}
space:
  backbone: {{name: test_vit, weights: none}}
  resolution: [32, 48, 64]
  head_pruning_ratio: [0.0, 0.5]
  ffn_pruning_ratio: {{low: 0.0, high: 0.9, step: 0.02}}
  width_multiple: 2
  pruning_scope: [uniform, global]
  quantization: [fp32, int8_dynamic]
  batch: 1
search: {{trials: {trials}, candidates: 1, margin: 1.0}}
storage: "sqlite:///{folder}/survival.db"
"""


@dataclass
class Search:
    folder: Path
    trials: int = TRIALS

    def start(self) -> subprocess.Popen[bytes]:
        command = [
            sys.executable,
            "-m",
            "support.quick_search",
            "run",
            str(self.folder / "survival.yaml"),
            f"search.trials={self.trials}",
        ]
        with (self.folder / "run.log").open("ab") as log:
            return subprocess.Popen(
                command,
                cwd=self.folder,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=marked(self.folder),
                # A shell that started the tests in the background made them, and this, deaf to Ctrl-C.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )

    def log(self) -> str:
        return (self.folder / "run.log").read_text()[-4000:]

    def rows(self) -> dict[str, float]:
        """When each finished stage was written."""
        found: dict[str, float] = {}
        with closing(sqlite3.connect(self.folder / "survival.db", timeout=60)) as database:
            for table, key in TABLES.items():
                if database.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (table,)).fetchone():
                    found |= {
                        f"{table} {k}": at for k, at in database.execute(f"SELECT {key}, created_at FROM {table}")
                    }
        return found

    def states(self) -> list[str]:
        with closing(sqlite3.connect(self.folder / "survival.db", timeout=60)) as database:
            return [state for (state,) in database.execute("SELECT state FROM trials ORDER BY number")]

    def chosen(self, *states: str) -> set[str]:
        """The weights that trials in these states were chosen to train."""
        stored = "SELECT value_json FROM trial_user_attributes JOIN trials USING (trial_id)"
        found = f"{stored} WHERE key = 'trains' AND state = ?"
        with closing(sqlite3.connect(self.folder / "survival.db", timeout=60)) as database:
            return {json.loads(weights) for state in states for (weights,) in database.execute(found, (state,))}


def marked(folder: Path) -> dict[str, str]:
    """An environment by which all processes of this search can be found, whoever their parent is."""
    return os.environ | {"VITSEARCH_TEST_MARK": str(folder), "PYTHONPATH": os.pathsep.join(sys.path)}


def processes(folder: Path) -> dict[int, str]:
    """Living processes of the search: command line by pid."""
    mark, found = f"VITSEARCH_TEST_MARK={folder}".encode(), {}
    for place in Path("/proc").glob("[0-9]*"):
        try:
            ours = mark in (place / "environ").read_bytes().split(b"\0")
            # A measuring child gets a clean environment, but works in the agent's folder.
            ours = ours or folder in (place / "cwd").readlink().parents
            state = (place / "stat").read_text().rpartition(")")[2].split()[0]
            if ours and state not in "ZX":
                found[int(place.name)] = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue  # ended meanwhile
    return found


def victim(folder: Path, kind: str, driver: subprocess.Popen[bytes]) -> int | None:
    if kind == "driver":
        return driver.pid
    marks = {
        "worker": "ray::_run_task_on",
        "agent": "vitsearch_evaluators serve",
        "child": "vitsearch_evaluators.measure.child.main",
    }
    pids = [pid for pid, command in processes(folder).items() if marks[kind] in command and pid != driver.pid]
    return random.choice(pids) if pids else None


def await_end_of_all(folder: Path) -> dict[int, str]:
    deadline = time.monotonic() + 60
    while (left := processes(folder)) and time.monotonic() < deadline:
        time.sleep(0.2)
    return left


@pytest.fixture
def search(tmp_path: Path) -> Iterator[Search]:
    write_images(tmp_path / "images")
    text = SPACE.format(root=tmp_path / "images", folder=tmp_path, trials=TRIALS)
    (tmp_path / "survival.yaml").write_text(text)
    # By default, an agent gives a job up during which it was killed three times.
    config = tmp_path / "survival.files" / "runs" / "survival" / "agent" / "config.json"
    config.parent.mkdir(parents=True)
    config.write_text('{"limits": {"interruptions_max": 100}}')
    yield Search(tmp_path)
    for pid in processes(tmp_path):
        os.kill(pid, signal.SIGKILL)


def write_images(root: Path) -> None:
    """Three classes of noise that overlap in brightness, so that accuracy is neither 1 nor chance."""
    draw = np.random.default_rng(0)
    for number, name in enumerate(("dark", "grey", "light")):
        (root / name).mkdir(parents=True)
        for index in range(20):
            pixels = draw.integers(0, 200 + 4 * number, (48, 48, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{index}.png")


def await_victim(search: Search, kind: str, driver: subprocess.Popen[bytes]) -> int | None:
    """A process of that kind, as soon as there is one after a random moment; None when the driver ended first."""
    time.sleep(random.uniform(0.0, 3.0))
    deadline = time.monotonic() + PATIENCE_S
    while driver.poll() is None:
        if pid := victim(search.folder, kind, driver):
            time.sleep(random.uniform(0.0, 0.5))
            return pid
        assert time.monotonic() < deadline, f"no {kind} came up\n{search.log()}"
        time.sleep(0.01)
    return None


def kill_once(search: Search, kind: str, driver: subprocess.Popen[bytes]) -> subprocess.Popen[bytes]:
    """Kill one process of that kind; the driver that goes on, a new one when it was the driver itself."""
    while (pid := await_victim(search, kind, driver)) is None:
        assert driver.returncode == 0, search.log()
        search.trials += TRIALS
        driver = search.start()
    before = search.rows() if (search.folder / "survival.db").exists() else {}
    with suppress(ProcessLookupError):  # it may have ended by itself in the last half second
        os.kill(pid, signal.SIGKILL)
    if kind == "driver":
        driver.wait()
        assert await_end_of_all(search.folder) == {}, "processes outlived their driver"
        driver = search.start()
    after = search.rows() if before else {}
    assert {key: after.get(key) for key in before} == before, "a finished stage was lost or made again"
    return driver


def test_twenty_kills_lose_nothing(search: Search) -> None:
    random.seed(seed := time.time_ns())
    print(f"seed {seed}")  # shown when the test fails
    kinds = [kind for kind, count in KILLS.items() for _ in range(count)]
    random.shuffle(kinds)
    driver = search.start()
    for kind in kinds:
        driver = kill_once(search, kind, driver)

    await_victim(search, "worker", driver)  # it has opened the study, so what the killed one left open is its own
    driver.send_signal(signal.SIGINT)
    assert driver.wait(PATIENCE_S) in (0, 130), search.log()
    assert await_end_of_all(search.folder) == {}
    assert "RUNNING" not in search.states(), search.log()

    search.trials = 2 + search.states().count("COMPLETE")
    assert search.start().wait(PATIENCE_S) == 0, search.log()
    assert set(search.states()) <= {"COMPLETE", "PRUNED", "WAITING"}, search.log()
    assert await_end_of_all(search.folder) == {}

    rows = search.rows()
    assert search.start().wait(PATIENCE_S) == 0, search.log()
    assert search.rows() == rows, "a finished study made something new"


def test_a_second_run_joins_the_first_and_goes_on_when_that_is_killed(search: Search) -> None:
    search.trials = 4
    first = search.start()
    assert await_victim(search, "agent", first), search.log()
    second = search.start()
    deadline = time.monotonic() + PATIENCE_S
    while "this run joins it" not in search.log() or not any(row.startswith("vs_training") for row in search.rows()):
        assert second.poll() is None, search.log()
        assert time.monotonic() < deadline, search.log()
        time.sleep(0.2)
    before = search.rows()
    first.kill()
    first.wait()
    assert second.wait(PATIENCE_S) == 0, search.log()
    after = search.rows()
    assert {key: after.get(key) for key in before} == before, "a finished stage was lost or made again"
    assert set(search.states()) <= {"COMPLETE", "PRUNED"}, search.log()
    assert 1 <= len(search.chosen("COMPLETE")) <= search.trials, "it may end as converged"
    # A training that was cut short by the kill may add nothing to what is known when it is done.
    trained = {row.split()[1].split(":")[0] for row in after if row.startswith("vs_training") and row[-2:] != ":0"}
    assert len(trained - search.chosen("COMPLETE", "PRUNED")) == 1, "only the base is trained without being chosen"
    assert await_end_of_all(search.folder) == {}
