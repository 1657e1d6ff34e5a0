"""The example of the documentation with real Tune: real trainings and measurements, and a trial that is killed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from support import PYTHON_PATH, REPOSITORY
from vitsearch import open_study
from vitsearch.core.stage import Stage
from vitsearch.storage.ledger import Ledger

pytestmark = pytest.mark.long

pytest.importorskip("ray.tune", reason="pip install 'vitsearch[tune]'", exc_type=ImportError)

TRIALS = 3
EXAMPLE = re.compile(r"```python\n# tune_parts\.py\n(.*?)```", re.DOTALL)
SPACE = """
study: parts
task:
  data: {source: folder, root: images}
  base: {epochs: 1, batch_size: 16}
  fine_tune: {rungs: [0, 1], images_per_epoch: 32, batch_size: 16}
  proxy: {calibration_images: 16}
objectives: {accuracy: maximize, cpu_ms_p50: minimize, size_mb: minimize}
limits: {accuracy: {max_drop: 1.0}}
space:
  backbone: {name: test_vit, weights: none}
  resolution: 32
  ffn_pruning_ratio: [0.5, 0.75, 0.9]
  pruning_scope: [uniform, global]
  width_multiple: 2
  quantization: fp32
  batch: 1
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the example has run."""
    folder = tmp_path_factory.mktemp("tune")
    draw = np.random.default_rng(0)
    for name in ("dark", "grey", "light"):
        (folder / "images" / name).mkdir(parents=True)
        for index in range(10):
            pixels = draw.integers(0, 200, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "images" / name / f"{index}.png")
    (folder / "spaces").mkdir()
    (folder / "spaces" / "parts.yaml").write_text(SPACE)
    (code,) = EXAMPLE.findall(Path(REPOSITORY, "docs", "ray_cluster.md").read_text())
    (folder / "tune_parts.py").write_text(code)
    command = [sys.executable, "-m", "support.tune_example", str(folder), str(folder / "tune_parts.py"), str(TRIALS)]
    environment = os.environ | {"PYTHONPATH": PYTHON_PATH, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return folder


@pytest.fixture(scope="module")
def results(folder):
    """What each trial has reported, by its id."""
    reports = {}
    for path in folder.glob("studies/tune/*/*/result.json"):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        reports[lines[0]["trial_id"]] = lines
    return reports


@pytest.fixture
def ledger(folder):
    ledger = Ledger.open(f"sqlite:///{folder / 'studies' / 'parts.db'}")
    yield ledger
    ledger.close()


def test_each_trial_reports_its_rungs(results):
    assert len(results) == TRIALS
    for lines in results.values():
        assert [line["training_iteration"] for line in lines] == list(range(1, len(lines) + 1))
        assert all(line["cpu_ms_p50"] > 0.0 and line["size_mb"] > 0.0 for line in lines)
        assert [line["outcome"] for line in lines[:-1]] == [None] * (len(lines) - 1)


def test_the_killed_trial_goes_on_at_its_rung(folder, results):
    lines = results[(folder / "killed").read_text()]
    assert [line["training_iteration"] for line in lines][:2] == [1, 2]
    assert lines[0]["pid"] != lines[1]["pid"]
    assert lines[1]["iterations_since_restore"] == 1


def test_no_stage_is_repeated(ledger):
    runs = ledger.costs.stages("parts")
    counts = Counter(run.stage for run in runs)
    assert counts[Stage.BASE] == counts[Stage.BLOCK_STRUCTURE] == 1
    plans = counts[Stage.PROXY]
    assert plans <= TRIALS
    assert counts[Stage.TRAIN] <= plans
    assert counts[Stage.EXPORT] <= plans + 1  # and the baseline


def test_one_model_is_measured_at_a_time(ledger):
    runs = [run for run in ledger.costs.stages("parts") if run.stage == Stage.MEASURE]
    spans = sorted((run.started_at, run.started_at + run.wall_seconds) for run in runs)
    assert len(spans) >= 2
    assert all(end <= start + 0.05 for (_, end), (start, _) in zip(spans, spans[1:], strict=False))


def test_what_was_confirmed_is_on_the_front(folder, results, monkeypatch):
    monkeypatch.chdir(folder)
    models = open_study("spaces/parts.yaml").models()
    points = {point.trial: point for point in (*models.points, *models.others)}
    ended = {line["trial"]: line for lines in results.values() for line in lines if line["outcome"] == "confirmed"}
    assert ended
    assert set(ended) == set(points)
    for number, line in ended.items():
        assert points[number].metrics.value("accuracy") == line["accuracy"]
    assert models.points
    assert models.baseline is not None
