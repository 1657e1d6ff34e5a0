"""Kill the driver, a worker or the guard of small studies while their workers are paused, and see what is left.

    python benchmarks/paused_kills.py --studies 20

Each study trains and confirms every model on this machine, as a limit on the 95th percentile needs. When a measurement
has stopped a worker within a stage (state T in /proc), one process is killed with SIGKILL. Then every process that was
stopped must run again or end, the study must come to its end (after a second `vitsearch run` where the driver was
killed), and each row that the ledger held at the kill must still be there, unchanged. The exit code is the number of
studies in which that was not so.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import count, cycle, islice
from pathlib import Path

import numpy as np
from PIL import Image

MARK = "VITSEARCH_PAUSED_KILLS"
KINDS = ("driver", "worker", "guard")
STAGE, GUARD = "ray::_run_task_on", "process_guard.py"
"""What the command lines of a worker within a stage, and of the guard, contain."""
WAIT_S = 900.0
"""The longest wait for a paused moment, and for the end of a study."""
RECOVER_S = 60.0
FAILED = "FAILED"
POLL_S = 0.05
TABLES = {
    "vs_block_structure": "key",
    "vs_training": "weights_key || ':' || rung",
    "vs_artifact": "artifact_key",
    "vs_evaluation": "artifact_key || ':' || split",
    "vs_measurement": "graph_key || ':' || device_id || ':' || protocol || ':' || repeat",
}
SPACE = """
study: paused
task:
  data: {{source: folder, root: "{folder}/images"}}
  base: {{epochs: 1, batch_size: 16}}
  fine_tune: {{rungs: [0, 20, 21], images_per_epoch: 512, batch_size: 16}}
  proxy: {{calibration_images: 16}}
objectives: {{accuracy: maximize, cpu_ms_p50: minimize, size_mb: minimize}}
limits: {{accuracy: {{max_drop: 1.0}}, latency_ms_p95: {{max: 1000}}}}
space:
  backbone: {{name: test_vit, weights: none}}
  resolution: [32, 48, 64]
  ffn_pruning_ratio: {{low: 0.0, high: 0.9, step: 0.1}}
  width_multiple: 2
search: {{trials: 2, candidates: 3, margin: 1.0, seed: {seed}}}
storage: "sqlite:///{folder}/paused.db"
"""


@dataclass(frozen=True)
class Process:
    state: str
    command: str


class Lost(Exception):
    """What this benchmark looks for."""


class NeverPaused(Exception):
    """No measurement of a study fell into a stage: the workers had nothing to do each time."""


@dataclass(frozen=True)
class Study:
    folder: Path

    @classmethod
    def create(cls, folder: Path, seed: int) -> Study:
        draw = np.random.default_rng(seed)
        for number, name in enumerate(("dark", "grey", "light")):
            (folder / "images" / name).mkdir(parents=True)
            for index in range(200):
                pixels = draw.integers(0, 200 + 4 * number, (48, 48, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / "images" / name / f"{index}.png")
        (folder / "paused.yaml").write_text(SPACE.format(folder=folder, seed=seed))
        return cls(folder)

    def start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "vitsearch", "run", str(self.folder / "paused.yaml")]
        with (self.folder / "run.log").open("ab") as log:
            environment = os.environ | {MARK: str(self.folder)}
            return subprocess.Popen(command, cwd=self.folder, stdout=log, stderr=subprocess.STDOUT, env=environment)

    def processes(self) -> dict[int, Process]:
        """The living processes of the study by pid."""
        mark, process_ids = f"{MARK}={self.folder}".encode(), {}
        for place in Path("/proc").glob("[0-9]*"):
            try:
                if mark in (place / "environ").read_bytes().split(b"\0"):
                    state = (place / "stat").read_text().rpartition(")")[2].split()[0]
                    process_ids[int(place.name)] = Process(state, (place / "cmdline").read_text(errors="replace"))
            except OSError:
                continue  # it has ended, or belongs to another user
        return {pid: process for pid, process in process_ids.items() if process.state not in "ZX"}

    def stopped(self) -> set[int]:
        return {pid for pid, process in self.processes().items() if process.state == "T"}

    def pids(self, title: str) -> list[int]:
        return [pid for pid, process in self.processes().items() if title in process.command]

    def stages_stopped(self) -> list[int]:
        """The workers that a pause has stopped within a stage."""
        return sorted(self.stopped() & set(self.pids(STAGE)))

    def rows(self) -> dict[str, float]:
        """When each finished stage was written."""
        rows: dict[str, float] = {}
        with closing(sqlite3.connect(self.folder / "paused.db", timeout=60)) as database:
            for table, key in TABLES.items():
                rows |= {f"{table} {k}": at for k, at in database.execute(f"SELECT {key}, created_at FROM {table}")}
        return rows


@contextmanager
def ended(study: Study) -> Iterator[None]:
    """Kill what a failure has left running."""
    try:
        yield
    finally:
        for pid in study.processes():
            os.kill(pid, signal.SIGKILL)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--studies", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    random.seed(options.seed)
    failed, seeds = 0, count(options.seed)
    for number, kind in enumerate(islice(cycle(KINDS), options.studies)):
        begin = time.monotonic()
        outcome = None
        while outcome is None:
            outcome = run_study(next(seeds), kind)
        failed += outcome.startswith(FAILED)
        print(f"study {number + 1:2d}  {kind:<6}  {time.monotonic() - begin:5.0f} s  {outcome}", flush=True)
    print(f"{options.studies - failed} of {options.studies} studies lost nothing and left nothing stopped")
    return failed


def run_study(seed: int, kind: str) -> str | None:
    """What became of one study; None when it was never paused within a stage."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        study = Study.create(Path(folder), seed)
        with ended(study):
            try:
                return kill_once(study, kind)
            except NeverPaused:
                return None
            except Lost as lost:
                return f"{FAILED}: {lost}\n{(study.folder / 'run.log').read_text()[-2000:]}"


def kill_once(study: Study, kind: str) -> str:
    """Kill one process of that kind in a paused moment; a line about what followed."""
    driver = study.start()
    victim, stopped = paused_moment(study, kind, driver)
    rows = study.rows()
    os.kill(victim, signal.SIGKILL)
    killed = time.monotonic()
    left = set(stopped)

    def none_left() -> bool:
        left.intersection_update(study.stopped())
        return not left

    require("processes stay stopped", none_left, RECOVER_S)
    resumed_s = time.monotonic() - killed
    if kind == "driver":
        driver.wait()
        require("processes outlive their driver", lambda: not study.processes(), RECOVER_S)
        driver = study.start()
    require("the study does not end", lambda: driver.poll() is not None, WAIT_S)
    if driver.returncode:
        raise Lost(f"vitsearch run ends with {driver.returncode}")
    require("processes outlive a finished study", lambda: not study.processes(), RECOVER_S)
    after = study.rows()
    if gone := [row for row, written in rows.items() if after.get(row) != written]:
        raise Lost(f"lost or made again: {gone}")
    return f"{len(stopped)} stopped, resumed or ended after {resumed_s:.1f} s, {len(rows)} of {len(after)} rows kept"


def paused_moment(study: Study, kind: str, driver: subprocess.Popen[bytes]) -> tuple[int, set[int]]:
    """The process to kill, and those that are stopped, at a random moment of a pause."""
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline and driver.poll() is None:
        time.sleep(POLL_S)
        if not study.stages_stopped():
            continue
        time.sleep(random.uniform(0.0, 0.5))
        if workers := study.stages_stopped():
            victims = {"driver": [driver.pid], "worker": workers, "guard": study.pids(GUARD)}
            return random.choice(victims[kind]), study.stopped()
    if driver.returncode:
        raise Lost(f"vitsearch run ends with {driver.returncode}, before anything was killed")
    raise NeverPaused


def require(problem: str, condition: Callable[[], bool], at_most_s: float) -> None:
    """Wait until the condition holds; `Lost` when it does not in time."""
    deadline = time.monotonic() + at_most_s
    while not condition():
        if time.monotonic() > deadline:
            raise Lost(f"{problem} ({at_most_s:.0f} s)")
        time.sleep(POLL_S)


if __name__ == "__main__":
    sys.exit(main())
