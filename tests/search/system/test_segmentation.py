"""A team's own images with masks, from the folder to a bundle that is verified."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from support import PYTHON_PATH

pytestmark = pytest.mark.long

CLASSES = ("ground", "disc", "square")
SPACE = """
study: shapes
task:
  kind: segmentation
  data: {{source: folder, root: "{root}", labels: masks}}
  base: {{epochs: 4, batch_size: 16, lr: 0.003}}
  fine_tune: {{rungs: [0, 1], images_per_epoch: 64, batch_size: 16}}
  proxy: {{calibration_images: 16}}
objectives: {{mean_iou: maximize, size_mb: minimize}}
limits: {{mean_iou: {{max_drop: 0.9}}}}
space:
  backbone: efficientvit_fmnist
  resolution: [[32, 64]]
  ffn_pruning_ratio: [0.0, 0.5]
  quantization: [fp32, int8_ptq]
  quantized_ops: linear
  backend: [onnxruntime, openvino]
  batch: 1
search: {{trials: 1, candidates: 1, margin: 1.0}}
"""


def write_shapes(root, counts):
    """A bright disc and a darker square on black, left and right in turn, with their masks."""
    rows, columns = np.mgrid[:32, :64]
    disc, square = (rows - 16) ** 2 + (columns - 16) ** 2 < 81, (abs(rows - 16) < 7) & (abs(columns - 48) < 7)
    for split, count in counts.items():
        for name in ("images", "masks"):
            (root / split / name).mkdir(parents=True)
        for index in range(count):
            mask = np.zeros((32, 64), np.uint8)
            mask[disc], mask[square] = 1, 2
            mask = mask[:, ::-1] if index % 2 else mask
            noise = np.random.default_rng(index).integers(0, 40, mask.shape)
            Image.fromarray((np.array([0, 200, 100])[mask] + noise).astype(np.uint8)).save(
                root / split / "images" / f"{index}.png"
            )
            Image.fromarray(mask).save(root / split / "masks" / f"{index}.png")
    (root / "classes.txt").write_text("\n".join(CLASSES))


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """The folder of a finished search."""
    folder = tmp_path_factory.mktemp("shapes")
    write_shapes(folder / "shapes", {"train": 160, "val": 24, "test": 16})
    (folder / "space.yaml").write_text(SPACE.format(root=folder / "shapes"))
    run(folder, "run", "space.yaml")
    return folder


def run(folder, *arguments):
    environment = {name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"}
    done = subprocess.run(
        [sys.executable, "-m", "support.quick_search", *arguments],
        cwd=folder,
        env=environment | {"PYTHONPATH": PYTHON_PATH},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_front_knows_the_classes_and_the_report_their_masks(searched):
    front = json.loads(run(searched, "front", "shapes", "--json"))
    assert front["baseline"]["values"]["mean_iou"] > 0.5, "a guess has at most a third"
    details = json.loads(run(searched, "show", "shapes", "baseline", "--json"))["task_details"]
    assert list(details["classes"]) == list(CLASSES)
    assert "0." in run(searched, "show", "shapes", "baseline", "--per-class")
    run(searched, "report", "shapes", "--to", "report.html")
    page = (searched / "report.html").read_text()
    assert all(f'"name":"{name}"' in page for name in ("image", "truth", "the baseline"))


def test_a_bundle_verifies_by_its_masks_and_its_example_writes_one(searched):
    run(searched, "ship", "shapes", "knee", "--to", "bundle")
    verified = run(searched, "verify", "bundle", "--no-measure")
    assert "passed      outputs         100.00 % of the positions of 16 maps" in verified
    assert "passed      mean_iou" in verified
    example = [sys.executable, "bundle/example.py", "masks", "shapes/test/images/0.png", "shapes/test/images/1.png"]
    subprocess.run(example, cwd=searched, check=True, capture_output=True)
    truth = np.asarray(Image.open(searched / "shapes/test/masks/1.png"))
    with Image.open(searched / "masks/1.png") as mask:
        assert mask.size == (64, 32)
        assert (np.asarray(mask) == truth).mean() > 0.8
