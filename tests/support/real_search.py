"""A real search in processes of its own: tests kill some of them, and read what was written."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from support import PYTHON_PATH

PATIENCE_S = 600
TABLES = {
    "vs_block_structure": "key",
    "vs_training": "weights_key || ':' || rung",
    "vs_artifact": "artifact_key",
    "vs_evaluation": "artifact_key || ':' || split",
    "vs_measurement": "graph_key || ':' || device_id || ':' || protocol || ':' || repeat",
}
"""The tables of finished stages, with what identifies a row."""


def write_images(root: Path, brightness: dict[str, tuple[int, int]], count: int = 20, side: int = 48) -> None:
    """Write a folder of noise for each class, whose pixels lie between two values."""
    draw = np.random.default_rng(0)
    for name, (low, high) in brightness.items():
        (root / name).mkdir(parents=True)
        for index in range(count):
            Image.fromarray(draw.integers(low, high, (side, side, 3), dtype=np.uint8)).save(
                root / name / f"{index}.png"
            )


OVERLAPPING = {"dark": (0, 200), "grey": (0, 204), "light": (0, 208)}
"""Classes that are hard to tell apart: the accuracy of a model is neither 1 nor chance."""
APART = {"dark": (0, 130), "grey": (60, 190), "light": (120, 250)}
"""Classes that a short training tells apart."""


ENDLESS = """
study: {study}
task:
  data: {{source: folder, root: "{folder}/images"}}
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
search: {{trials: 0, candidates: 1, margin: 1.0}}
storage: "sqlite:///{folder}/{study}.db"
"""
"""A space file of a search that never converges."""


@dataclass
class RealSearch:
    """`vitsearch run` with short measurements, in a folder that has the images and the space file of the study."""

    folder: Path
    study: str
    trials: int
    program: str = "support.quick_search"
    least_gain: float = 0.001

    @classmethod
    def write(cls, folder: Path, study: str, space: str, trials: int) -> "RealSearch":
        """Write a space file in which `{folder}` and `{study}` stand for those of the study."""
        (folder / f"{study}.yaml").write_text(space.format(folder=folder, study=study))
        return cls(folder, study, trials)

    def start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", self.program, "run", f"{self.study}.yaml", "--plain"]
        with (self.folder / "run.log").open("ab") as log:
            return subprocess.Popen(
                [*command, f"search.trials={self.trials}", f"search.least_gain={self.least_gain}"],
                cwd=self.folder,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environment(),
                # A shell that started the tests in the background made them, and this, deaf to Ctrl-C.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )

    def finish(self) -> None:
        """Run the search to its end."""
        assert self.start().wait(PATIENCE_S) == 0, self.log()

    def command(self, *arguments: str) -> str:
        """What a command of `vitsearch` prints, in the folder of the study."""
        command = [sys.executable, "-m", self.program, *arguments]
        ended = subprocess.run(command, cwd=self.folder, env=self._environment(), capture_output=True, text=True)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout

    def log(self) -> str:
        return (self.folder / "run.log").read_text()[-4000:]

    def rows(self) -> dict[str, float]:
        """When each finished stage was written."""
        rows: dict[str, float] = {}
        if not (self.folder / f"{self.study}.db").exists():
            return rows
        with self._database() as database:
            for table, key in TABLES.items():
                if database.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (table,)).fetchone():
                    rows |= {f"{table} {k}": at for k, at in database.execute(f"SELECT {key}, created_at FROM {table}")}
        return rows

    def states(self) -> list[str]:
        with self._database() as database:
            return [state for (state,) in database.execute("SELECT state FROM vs_trial ORDER BY number")]

    def chosen(self, *states: str) -> set[str]:
        """The weights that trials in these states were chosen to train."""
        query = "SELECT trains FROM vs_trial WHERE trains IS NOT NULL AND state = ?"
        with self._database() as database:
            return {weights for state in states for (weights,) in database.execute(query, (state,))}

    def processes(self) -> dict[int, str]:
        """Living processes of the search: command line by pid."""
        mark, living = f"VITSEARCH_TEST_MARK={self.folder}".encode(), {}
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                is_ours = mark in (entry / "environ").read_bytes().split(b"\0")
                # A measuring child gets a clean environment, but works in the agent's folder.
                is_ours = is_ours or self.folder in (entry / "cwd").readlink().parents
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
                if is_ours and state not in "ZX":
                    living[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue  # ended meanwhile
        return living

    def left_after_the_end(self) -> dict[int, str]:
        """What is left of the processes a minute after the driver has ended; nothing, if all is well."""
        deadline = time.monotonic() + 60
        while self.processes() and time.monotonic() < deadline:
            time.sleep(0.2)
        return self.processes()

    def kill_all(self) -> None:
        for pid in self.processes():
            os.kill(pid, signal.SIGKILL)

    def _environment(self) -> dict[str, str]:
        """By its mark all processes of this search can be found, whoever their parent is."""
        mark = {"VITSEARCH_TEST_MARK": str(self.folder), "COLUMNS": "200"}
        return os.environ | mark | {"PYTHONPATH": PYTHON_PATH}

    def _database(self) -> closing[sqlite3.Connection]:
        return closing(sqlite3.connect(self.folder / f"{self.study}.db", timeout=60))
