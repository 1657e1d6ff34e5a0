"""A real search that is watched: its metrics over HTTP while it runs, and its log file afterwards."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import urllib.request

import pytest

from support import PYTHON_PATH
from support.real_search import APART, write_images

pytestmark = pytest.mark.long

PATIENCE_S = 600
SPACE = """
study: watched
task:
  data: {{source: folder, root: "{root}"}}
  base: {{epochs: 1, batch_size: 16}}
  fine_tune: {{rungs: [0, 1], images_per_epoch: 32, batch_size: 16}}
  proxy: {{calibration_images: 16}}
objectives: {{accuracy: maximize, size_mb: minimize}}
limits: {{accuracy: {{max_drop: 1.0}}}}
space:
  backbone: {{name: test_vit, weights: none}}
  resolution: 32
  ffn_pruning_ratio: [0.0, 0.5]
  quantization: fp32
  batch: 1
search: {{trials: 0, candidates: 1, margin: 1.0}}
storage: "sqlite:///{folder}/watched.db"
"""


@pytest.fixture
def command(tmp_path):
    write_images(tmp_path / "images", APART, count=10, side=32)
    path = tmp_path / "watched.yaml"
    path.write_text(SPACE.format(root=tmp_path / "images", folder=tmp_path))
    program = [sys.executable, "-m", "support.quick_search", "run", str(path), "--plain"]
    return [*program, "--metrics", "0", "--log-file", str(tmp_path / "run.jsonl")]


def trials(url: str) -> float:
    """The finished trials as Prometheus reads them; 0 before there is a study."""
    with urllib.request.urlopen(url) as answer:
        text = answer.read().decode()
    return sum(float(value) for value in re.findall(r"^vitsearch_trials_total\{.*\} (\S+)$", text, re.MULTILINE))


def test_a_run_is_scraped_and_logged(command, tmp_path):
    environment = os.environ | {"PYTHONPATH": PYTHON_PATH}
    seen, said = [], []
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(command, cwd=tmp_path, env=environment, **streams) as running:
        limit = threading.Timer(PATIENCE_S, running.kill)
        limit.start()
        url = ""
        for line in running.stdout:
            said.append(line)
            if "metrics for Prometheus: " in line:
                url = line.split()[-1]
            elif re.search(r" trial +\d+ ", line):
                seen.append(trials(url))
        limit.cancel()
    assert running.returncode == 0, "".join(said)
    assert seen[-1] == len(seen) > 0
    lines = [json.loads(line) for line in (tmp_path / "run.jsonl").read_text().splitlines()]
    assert sum(line["event"] == "trial_ended" for line in lines) == len(seen)
    assert {"data", "base", "export"} <= {line["stage"] for line in lines if line["event"] == "stage_ended"}
    assert (lines[-1]["event"], lines[-1]["error"]) == ("run_ended", None)
