"""From a space file to a verified bundle, by the commands of docs/ship.md."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from PIL import Image

from support import PYTHON_PATH
from vitsearch.data.fashion_mnist import CLASS_NAMES, subset_split

pytestmark = pytest.mark.long

IMAGES = 50


def run(folder: Path, *command: str) -> str:
    environment = os.environ | {"PYTHONPATH": PYTHON_PATH}
    done = subprocess.run([sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_study_is_shipped_and_its_bundle_verified(unpruned):
    points = json.loads(run(unpruned, "-m", "vitsearch", "front", "unpruned", "--json"))["points"]
    said = json.loads(
        run(unpruned, "-m", "support.quick_search", "ship", "unpruned", "--pick", "max accuracy", "--json")
    )
    (point,) = (point for point in points if point["trial"] == said["trial"])
    bundle, archive = unpruned / said["folder"], unpruned / said["zip"]
    assert (bundle / "model.onnx").read_bytes() == Path(point["file"]).read_bytes()
    written = {one.key: one.value for one in onnx.load(bundle / "model.onnx").metadata_props}
    assert written["vitsearch.artifact_key"] == said["artifact_key"]

    first = archive.read_bytes()
    run(unpruned, "-m", "support.quick_search", "ship", "unpruned", "--pick", "max accuracy", "--to", "again")
    assert (unpruned / "again.zip").read_bytes() == first

    checks = json.loads(run(unpruned, "-m", "vitsearch_agent", "verify", str(archive), "--no-measure", "--json"))
    assert checks["passed"]
    assert checks["checks"][1]["message"].endswith("every image gets the same class as when shipped")

    test = subset_split("test")
    for number, image in enumerate(test.images[:IMAGES]):
        Image.fromarray(image[..., 0]).save(unpruned / f"{number}.png")
    found = run(bundle, "example.py", *(str(unpruned / f"{number}.png") for number in range(IMAGES)))
    right = [
        line.split("\t")[1] == CLASS_NAMES[label] for line, label in zip(found.splitlines(), test.labels, strict=False)
    ]
    assert sum(right) > 0.8 * IMAGES
