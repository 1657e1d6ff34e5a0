"""A real search whose files are in S3: real workers upload, and another machine goes on with what they have stored."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import urllib.request
from contextlib import closing
from pathlib import Path

import pytest

from support import PYTHON_PATH
from support.real_search import OVERLAPPING, write_images
from support.s3_server import s3_server

pytestmark = pytest.mark.long

PATIENCE_S = 600
SPACE = """
study: far
task:
  data: {{source: folder, root: "{root}"}}
  base: {{epochs: 1, batch_size: 16}}
  fine_tune: {{rungs: [0, 1], images_per_epoch: 32, batch_size: 16}}
  proxy: {{calibration_images: 16}}
# Many objectives, some of them noisy: there is always a plan with a predicted gain.
objectives: {{accuracy: maximize, cpu_ms_p50: minimize, size_mb: minimize, macs_m: minimize}}
limits: {{accuracy: {{max_drop: 1.0}}}}
space:
  backbone: {{name: test_vit, weights: none}}
  resolution: [32, 48]
  head_pruning_ratio: [0.0, 0.5]
  ffn_pruning_ratio: {{low: 0.0, high: 0.9, step: 0.02}}
  width_multiple: 2
  quantization: fp32
  batch: 1
search: {{trials: 0, candidates: 1, margin: 1.0}}
storage: "sqlite:///{folder}/far.db"
files: s3://far/vit
"""


@pytest.fixture
def environment(tmp_path):
    with s3_server() as server:
        url = f"{server['AWS_ENDPOINT_URL']}/far"
        urllib.request.urlopen(urllib.request.Request(url, method="PUT")).close()
        yield os.environ | server | {"PYTHONPATH": PYTHON_PATH}


@pytest.fixture
def space(tmp_path):
    write_images(tmp_path / "images", OVERLAPPING)
    path = tmp_path / "far.yaml"
    path.write_text(SPACE.format(root=tmp_path / "images", folder=tmp_path))
    return path


def run(space: Path, environment: dict[str, str], cache: str, *overrides: str) -> None:
    vitsearch(space, environment, cache, "run", str(space), "--plain", *overrides)


def vitsearch(space: Path, environment: dict[str, str], cache: str, *arguments: str) -> None:
    command = [sys.executable, "-m", "support.quick_search", *arguments]
    own = environment | {"XDG_CACHE_HOME": str(space.parent / cache)}
    done = subprocess.run(
        command, cwd=space.parent, env=own, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def stages(folder: Path) -> list[str]:
    """What was made in all runs, without measurements."""
    with closing(sqlite3.connect(folder / "far.db", timeout=60)) as database:
        return [stage for (stage,) in database.execute("SELECT stage FROM vs_stage_cost WHERE stage != 'measure'")]


def test_another_machine_goes_on_with_the_database_and_the_store_alone(space, environment, tmp_path):
    run(space, environment, "first")
    assert not (tmp_path / "far.files" / "artifacts").exists()
    before = stages(tmp_path)
    shutil.rmtree(tmp_path / "far.files")
    # The other machine is this one, without the state of its agent: a person says that it is the same device.
    vitsearch(space, environment, "second", "devices", "accept", "local", str(space))
    run(space, environment, "second", "search.budget=15s")
    stage_lines = stages(tmp_path)[len(before) :]
    assert {"screen", "proxy"} <= set(stage_lines), "plans were cut from a base that this machine did not make"
    assert "base" not in stage_lines
