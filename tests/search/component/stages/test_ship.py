"""What a bundle keeps of the outputs of a model for its images, by the task."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from vitsearch import stages
from vitsearch.core.image_size import ImageSize
from vitsearch.core.plan import Deployment
from vitsearch.core.preprocessing import Preprocessing
from vitsearch.data import DataSpec
from vitsearch.export import ExportTask, metadata
from vitsearch.stages import ship
from vitsearch.stages.parts import exporting
from vitsearch.storage.files import FileStore
from vitsearch.tasks import TaskSource

CLASSES = ("road", "tree", "sky")
HEIGHT, WIDTH = 16, 24
OWN_TASK = """
from vitsearch.tasks.segmentation.task import Segmentation

class Corners(Segmentation):
    kind = "corners"
"""


@pytest.fixture
def make_job(tmp_path):
    """make_job(task): ships a layer that gives a map of half the size, for four images with masks."""
    rng = np.random.default_rng(0)
    for kind, count in (("images", 255), ("masks", len(CLASSES))):
        for split in ("train", "val"):
            (folder := tmp_path / "data" / split / kind).mkdir(parents=True)
            for number in range(4):
                Image.fromarray(rng.integers(0, count, (HEIGHT, WIDTH), np.uint8)).save(folder / f"{number}.png")
    (tmp_path / "data" / "classes.txt").write_text("\n".join(CLASSES))
    deployment, size = Deployment("local", "onnxruntime", "cpu", "fp32", 1), ImageSize(HEIGHT, WIDTH)
    source = stages.Source("levit_128s", "none", size, Preprocessing((0.5,), (0.5,)))
    store = FileStore(tmp_path / "artifacts")

    def make(task):
        spec = DataSpec("folder", root=str(tmp_path / "data"), labels="masks")
        workspace = stages.Workspace(
            spec.to_json(), store, FileStore(tmp_path / "scratch"), tmp_path / "cache", task=task
        )
        layer = torch.nn.Conv2d(1, len(CLASSES), 2, stride=2).eval()
        blank = np.zeros((1, 1, HEIGHT, WIDTH), np.float32)
        path = exporting.write(layer, ExportTask("levit", deployment, blank), tmp_path).file.path
        metadata.write(path, metadata.describe("c" * 64, source.view.settings(size, 1), CLASSES))
        return stages.ShipJob(workspace, source, deployment, store.put_model(path).sha256, None, 1, 3)

    return make


def stored(job, digest):
    return np.load(job.workspace.store.get(digest))


def test_of_a_segmentation_the_classes_and_the_masks_are_kept(make_job):
    job = make_job(TaskSource("segmentation"))
    shipped = job.work()
    maps = stored(job, shipped.outputs_sha256)
    assert (maps.dtype, maps.shape, maps.max() < len(CLASSES)) == (np.uint8, (3, HEIGHT // 2, WIDTH // 2), True)
    assert stored(job, shipped.masks_sha256).shape == (3, HEIGHT, WIDTH)
    assert shipped.labels is None


def test_of_another_task_with_masks_the_outputs_are_kept(make_job, tmp_path):
    (tmp_path / "corners_of_a_test.py").write_text(OWN_TASK)
    job = make_job(TaskSource("corners_of_a_test:Corners", str(tmp_path)))
    shipped = job.work()
    outputs = stored(job, shipped.outputs_sha256)
    assert (outputs.dtype, outputs.shape) == (np.float32, (3, len(CLASSES), HEIGHT // 2, WIDTH // 2))
    assert (shipped.masks_sha256, shipped.labels) == (None, None)


@pytest.mark.parametrize("kind", ["segmentation", "edges_of_a_test:Corners"])
def test_a_bundle_has_as_many_images_as_its_verify_reads(make_job, tmp_path, monkeypatch, kind):
    (tmp_path / "edges_of_a_test.py").write_text(OWN_TASK)
    of_image = HEIGHT * WIDTH if kind == "segmentation" else 4 * len(CLASSES) * HEIGHT * WIDTH // 4
    monkeypatch.setattr(ship, "OUTPUTS_MAX_BYTES", 2 * of_image + 1)
    job = make_job(TaskSource(kind, str(tmp_path)) if ":" in kind else TaskSource(kind))
    shipped = job.work()
    assert [len(stored(job, digest)) for digest in (shipped.images_sha256, shipped.outputs_sha256)] == [2, 2]
    assert shipped.n == 4, "all are judged"
