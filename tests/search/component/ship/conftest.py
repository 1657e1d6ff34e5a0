"""Models that were shipped: small and untrained, on folders of images of many kinds."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from vitsearch import data, stages
from vitsearch.core.figures import Metrics
from vitsearch.core.image_size import ImageSize
from vitsearch.core.plan import Compression, Deployment, Plan, Recipe
from vitsearch.core.precisions import default_provider
from vitsearch.core.preprocessing import Preprocessing
from vitsearch.core.record import Keys, Shipped
from vitsearch.export import EXPORTERS, ExportTask, metadata
from vitsearch.export.device_jobs import device_job
from vitsearch.ship.bundled_model import BundledModel, SplitResult
from vitsearch.ship.prepare import Final
from vitsearch.stages.parts import exporting, images
from vitsearch.storage.files import FileStore
from vitsearch.storage.ledger import ArtifactRow
from vitsearch.tasks import CLASSIFICATION, Tally
from vitsearch.tasks.classification.confusion import Confusion
from vitsearch.tasks.classification.task import judged_counts
from vitsearch.testing.fakes import fake_measurement
from vitsearch_agent.measure.local_job import Request
from vitsearch_agent.wire.measure_protocol import ONE_PROCESS

KEY = "ab" * 32
CLASSES = ("cat", "cow", "dog", "hen")
ROTATED = 6
PROTOCOL = ONE_PROCESS._replace(id="test-1", warmup_min_runs=1, warmup_min_s=0.0, min_runs=11, min_s=0.0)


def picture(number: int, size: int, grey: bool) -> Image.Image:
    """A picture of its own: waves and noise, of a size and mode that files of users have."""
    draw = np.random.default_rng(number)
    width, height = int(size * draw.uniform(0.7, 1.8)), int(size * draw.uniform(0.7, 1.8))
    across, down = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    waves = [np.sin(draw.uniform(2, 20) * across + draw.uniform(2, 20) * down + draw.uniform(0, 6)) for _ in range(3)]
    values = (127 + 90 * np.stack(waves, 2) + draw.normal(0, 12, (height, width, 3))).clip(0, 255).astype(np.uint8)
    if grey:
        return Image.fromarray(values[..., 0])
    coloured = Image.fromarray(values)
    if number % 5 == 1:
        coloured.putalpha(Image.fromarray(values[..., 1]))
    return coloured.convert("P") if number % 5 == 2 else coloured


def save(image: Image.Image, path: Path, number: int) -> None:
    """As a PNG or as a JPEG, some of them with an orientation in their EXIF data."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if number % 2 and image.mode in ("L", "RGB"):
        exif = Image.Exif()
        exif[0x0112] = ROTATED if number % 7 == 0 else 1
        image.save(path.with_suffix(".jpg"), quality=90, exif=exif)
    else:
        image.save(path.with_suffix(".png"))


def folder_of(root: Path, count: int, size: int, grey: bool, first: int = 0) -> list[Path]:
    """`count` pictures, in turn of each class, in ROOT/CLASS."""
    for number in range(count):
        name = CLASSES[number % len(CLASSES)]
        save(picture(first + number, size, grey), root / name / f"{number:04d}", number)
    return sorted(path for path in root.rglob("*") if path.is_file())


def network(channels: int, runtime: str) -> nn.Module:
    """It gives pictures different classes without a training. The converters of LiteRT and
    ExecuTorch do not know the maximum of a map."""
    torch.manual_seed(channels)
    pool = nn.AdaptiveAvgPool2d(1) if runtime in ("litert", "executorch") else nn.AdaptiveMaxPool2d(1)
    layers = nn.Conv2d(channels, 12, 5, stride=3), nn.GELU(), nn.Conv2d(12, 24, 3, stride=2), pool
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(24, len(CLASSES))).eval()


@pytest.fixture(scope="session")
def pictures() -> Callable[..., list[Path]]:
    """pictures(root, count, size, grey, first): files of images in ROOT/CLASS."""
    return folder_of


@pytest.fixture(scope="session")
def without_vitsearch() -> Callable[..., subprocess.CompletedProcess[str]]:
    """without_vitsearch(folder, SCRIPT, ...): run a script of a bundle in its folder, in an environment without us.
    `NAME=VALUE` adds a variable to it."""

    def run(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        entries = os.environ.get("PYTHONPATH", "").split(os.pathsep)
        path = [entry for entry in entries if not list(Path(entry).glob("vitsearch*"))]
        environment = {"PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(path)}
        command = [sys.executable, *arguments]
        return subprocess.run(command, cwd=folder, env=environment | variables, capture_output=True, text=True)

    return run


@pytest.fixture
def new_key(tmp_path: Path) -> Callable[..., Path]:
    """new_key(name, passphrase, kind): a private key of OpenSSH, with its public half beside it. Never skipped where CI
    is set."""
    if shutil.which("ssh-keygen") is None:
        assert "CI" not in os.environ, "CI needs ssh-keygen: make setup-long"
        pytest.skip("no ssh-keygen here; install openssh-client")

    def make(name: str = "key", passphrase: str = "", kind: str = "ed25519") -> Path:
        path = tmp_path / name
        command = ["ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-C", "ada", "-f", path]
        subprocess.run(command, check=True, capture_output=True)
        return path

    return make


@dataclass(frozen=True)
class Task:
    """A set of images, with the model that was shipped for it."""

    model: BundledModel
    images: data.ImageData


@pytest.fixture(scope="session")
def make_task(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Task]:
    """make_task(grey, image_size, resolution, runtime, ...): the images are files, the model is an exported one."""

    def make(
        grey: bool,
        image_size: int | list[int],
        resolution: int | list[int],
        runtime: str = "onnxruntime",
        batch: int | None = 1,
        test: bool = True,
        preprocessing: Preprocessing | None = None,
        precision: str = "fp32",
        options: dict[str, Any] | None = None,
        provider: str | None = None,
    ) -> Task:
        if (missing := EXPORTERS.get(runtime)().missing()) is not None:
            pytest.skip(missing)
        root = tmp_path_factory.mktemp("task")
        for number, part in enumerate(("train", "val", *(["test"] if test else []))):
            folder_of(root / "data" / part, 24, max(ImageSize.of(image_size).sides), grey, 1000 * number)
        spec = data.DataSpec(
            "folder", str(root / "data"), image_size=ImageSize.of(image_size), channels=1 if grey else 3
        )
        stores = FileStore(root / "artifacts"), FileStore(root / "scratch")
        workspace = stages.Workspace(spec.to_json(), *stores, root / "cache")
        data_set = images.load_data(workspace)
        deployment = Deployment("local", runtime, provider or default_provider(runtime), precision, batch)
        blank = np.zeros((1, data_set.channels, *ImageSize.of(resolution).sides), np.float32)
        written = exporting.write(network(data_set.channels, runtime), ExportTask("levit", deployment, blank), root)
        source = stages.Source(
            "levit_128s", "none", ImageSize.of(resolution), preprocessing or Preprocessing(data_set.mean, data_set.std)
        )
        settings = source.view.settings(data_set.image_size, data_set.channels)
        metadata.write(written.file.path, metadata.describe(KEY, settings, data_set.class_names))
        stored = stores[0].put_model(written.file.path)
        judged = None if written.file.judged is None else stores[0].put_model(written.file.judged).sha256
        job = stages.ShipJob(workspace, source, deployment, stored.sha256, judged, batch or 1, 20)
        needed = dict(written.file.options) | (options or {})
        return Task(_described(job, job.work(), data_set, stored.size_bytes, needed), data_set)

    return make


def _described(
    job: stages.ShipJob, shipped: Shipped, data_set: data.ImageData, size: int, options: dict[str, Any]
) -> BundledModel:
    store, deployment = job.workspace.store, job.deployment
    recipe = Recipe((0, 1), 64, 32, 1e-4, 0.05, 2, 0.5, 2.0, 0)
    plan = Plan("levit_128s", "none", job.source.resolution, None, Compression(), "none", recipe, (deployment,))
    seen = asdict(job.source.preprocessing)
    detail: dict[str, Any] = {
        "preprocessing": seen,
        "start": "ef" * 32,
        "macs_m": 1.0,
        "params_m": 0.1,
        "options": options,
        "shares": {"fp32": 1.0},
    }
    agents = device_job(deployment).runtime
    request = Request(agents, {}, PROTOCOL)
    judged = judged_counts(Confusion(((0, 0, 6), (0, 1, len(data_set.validation) - 6))), data_set.class_names)
    tally = Tally(CLASSIFICATION, judged.tally, data_set.class_names)
    validation = SplitResult("validation", len(data_set.validation), Metrics(judged.figures), tally)
    return BundledModel(
        study="tiny",
        trial=7,
        final=Final(plan, Keys("a" * 64, "b" * 64, KEY, "device"), 0),
        data=data_set.to_json(),
        source={"source": "folder"},
        artifact=ArtifactRow(KEY, "model", job.model_sha256, size, "", detail),
        path=store.model(job.model_sha256),
        images=store.get(shipped.images_sha256),
        outputs=store.get(shipped.outputs_sha256),
        masks=None,
        reference=None,
        shipped=shipped,
        task=CLASSIFICATION,
        quality="accuracy",
        validation=validation,
        device={
            "name": "local",
            "kind": "physical",
            "fingerprint": {"cpu": "none", "board": "none"},
            "runtimes": [agents],
        },
        measurements=(fake_measurement(2.0, request.protocol, runtime=agents, runtime_version="10.3.0"),),
        metrics=Metrics.of({"latency_ms_p50": 2.0, "size_mb": size / 1e6}, {"latency_ms_p50": (1.9, 2.1)}),
        versions={"torch": "2"},
    )
