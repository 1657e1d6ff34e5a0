"""Print what learning rates, schedules, averaged weights and frozen batch norms give to pruned models, as a table.

Every plan starts from rung 0 and is trained with each recipe: for 1 epoch of 4,096 images, for 2 more from there, and
for 3 in one. CPU-seconds are those of the training alone, one thread. KL is that on the holdout of the training
images, which decides what a rung keeps; accuracy is that on the 2,000 validation images, which decides nothing.

    python benchmarks/recipes.py run FILE [--backbone NAME] [--trainings NUMBER]
    python benchmarks/recipes.py report FILE

`run` writes every row when it is done, and goes on after the last one. The whole takes about an hour.
"""

from __future__ import annotations

import argparse
import copy
import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice, product
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vitsearch import backbones, stages
from vitsearch.backbones.builtin import FASHION_MNIST
from vitsearch.compress.quantization import fake_quant
from vitsearch.core.image_size import ImageSize
from vitsearch.core.plan import Compression, Deployment, Plan, Recipe
from vitsearch.core.preprocessing import ModelView
from vitsearch.core.resolve import BlockStructure, Scores, resolve
from vitsearch.stages.calibration import Calibration, Calibrations
from vitsearch.stages.parts.images import drawn_batches, load_data, predict
from vitsearch.stages.parts.models import base_model, refitted
from vitsearch.storage.files import FileStore
from vitsearch.tasks.classification.divergence import kl_divergences
from vitsearch.training import fine_tune, inference

DATA = {"source": "builtin:fashion-mnist-14k"}
STUDY, CALIBRATION = Calibration(256, 0), Calibration(32, 0)
RECIPE = Recipe((0, 1, 3), 4096, 64, 1e-3, 0.05, 8, 0.5, 2.0, 0)
LIGHT = {"ffn_pruning_ratio": 0.5, "head_pruning_ratio": 0.33}
HARD = {"ffn_pruning_ratio": 0.75, "head_pruning_ratio": 0.5}
SHALLOW = {"ffn_pruning_ratio": 0.75, "depth_pruning_ratio": 0.33}
CUTS: dict[str, tuple[tuple[int, dict[str, Any]], ...]] = {
    "vit_fmnist_p4": ((20, HARD), (28, LIGHT), (20, SHALLOW)),
    "efficientvit_fmnist": ((20, HARD), (28, LIGHT)),
    "mobilevit_fmnist": ((20, HARD), (28, LIGHT)),
}
WITH_BATCH_NORM = ("efficientvit_fmnist", "mobilevit_fmnist")
INT8 = "1 with int8 rounding"
SCHEDULES = {"1, then 2 more": (1, 2), "3 in one": (3,)}


@dataclass(frozen=True)
class Try:
    """One training of one plan."""

    backbone: str
    resolution: ImageSize
    cut: dict[str, Any]
    lr: float
    frozen: bool
    schedule: str

    @property
    def plan(self) -> str:
        parts = [f"{name.split('_')[0]}-{share:.0%}" for name, share in self.cut.items()]
        return f"{self.backbone}@{self.resolution} {' '.join(parts)}"

    @property
    def key(self) -> str:
        return " | ".join([self.plan, f"{self.lr:g}", "frozen" if self.frozen else "", self.schedule])


def tries(only: str | None) -> Iterator[Try]:
    """What decides most comes first."""
    ladder, whole = SCHEDULES
    for (lr, frozen), (at, schedule) in [
        *product(((1e-3, False), (1e-3, True), (3e-4, False), (2e-3, False)), ((0, ladder),)),
        *product(product((3e-4, 1e-4, 3e-5), (False, True)), ((1, INT8),)),
        *product(((1e-3, False), (3e-4, False)), ((1, "1"),)),
        *product(((1e-3, False), (3e-4, False)), ((0, whole),)),
        *product(((3e-4, False), (1e-3, False)), ((2, ladder),)),
        *product(((3e-4, True), (1e-3, True)), ((1, "1"),)),
    ]:
        for backbone in CUTS if only is None else (only,):
            if at < len(CUTS[backbone]) and (backbone in WITH_BATCH_NORM or not frozen):
                pixels, cut = CUTS[backbone][at]
                yield Try(backbone, ImageSize.square(pixels), cut, lr, frozen, schedule)


class Trainings:
    """Rung 0 of each plan, the logits that trainings learn from, and the images that judge."""

    def __init__(self, folder: Path) -> None:
        stores = FileStore(folder / "artifacts"), FileStore(folder / "scratch")
        self.workspace = stages.Workspace(DATA, *stores, folder / "cache")
        self.images = load_data(self.workspace)
        self.pool = fine_tune.training_pool(self.images.learned, RECIPE)
        self._targets: dict[str, Any] = {}
        self._judging: dict[str, Any] = {}
        self._starts: dict[str, nn.Module] = {}

    def start(self, attempt: Try) -> nn.Module:
        """A copy of rung 0."""
        if attempt.plan not in self._starts:
            self._starts[attempt.plan] = self._rung0(attempt)
        model = copy.deepcopy(self._starts[attempt.plan])
        if attempt.schedule == INT8:
            fake_quant.prepare(
                model, drawn_batches(self.workspace, CALIBRATION, ModelView(attempt.resolution, FASHION_MNIST))
            )
        return model

    def judged(self, model: nn.Module, attempt: Try) -> dict[str, float]:
        images = self.images
        if attempt.backbone not in self._judging:
            source = stages.Source(attempt.backbone, "builtin", ImageSize.square(28), FASHION_MNIST)
            base = base_model(source, self.workspace)
            self._judging[attempt.backbone] = predict(base, images.train.images, source.view, images.holdout)
        view = ModelView(attempt.resolution, FASHION_MNIST)
        logits = predict(model, images.train.images, view, images.holdout)
        unseen = predict(model, images.validation.images, view)
        labels = torch.from_numpy(images.train.labels[images.holdout])
        return {
            "loss": float(nn.functional.cross_entropy(torch.from_numpy(logits), labels)),
            "kl": float(kl_divergences(self._judging[attempt.backbone], logits).mean()),
            "holdout": inference.accuracy(logits, labels.numpy()),
            "validation": inference.accuracy(unseen, images.validation.labels),
        }

    def task(self, attempt: Try, epochs: float, before: float) -> fine_tune.TrainingSpec:
        images = self.images
        if attempt.backbone not in self._targets:
            source = stages.Source(attempt.backbone, "builtin", ImageSize.square(28), FASHION_MNIST)
            base = base_model(source, self.workspace)
            self._targets[attempt.backbone] = predict(base, images.train.images, source.view, self.pool)
        return fine_tune.TrainingSpec(
            images.train.images,
            images.train.labels,
            attempt.resolution,
            FASHION_MNIST,
            replace(RECIPE, lr=attempt.lr, frozen_statistics=attempt.frozen),
            epochs,
            teacher_outputs=self._targets[attempt.backbone],
            epochs_before=before,
            pool=self.pool,
        )

    def _rung0(self, attempt: Try) -> nn.Module:
        source = stages.Source(attempt.backbone, "builtin", attempt.resolution, FASHION_MNIST)
        stored = stages.BlockStructureJob(self.workspace, source, STUDY).work()
        structure, scores = BlockStructure.from_json(stored.block_structure), Scores.from_json(stored.scores)
        cut, deployment = (
            Compression(**attempt.cut, width_multiple=16),
            Deployment("local", "onnxruntime", "cpu", "fp32"),
        )
        plan = Plan(attempt.backbone, "builtin", attempt.resolution, None, cut, "logits", RECIPE, (deployment,))
        resolved = resolve(plan, structure, scores)
        native = backbones.native_resolution(attempt.backbone)
        calibrations = Calibrations.of(resolved, structure, native, STUDY)
        return refitted(
            stages.CompressionSpec(source, resolved, stored.statistics_sha256, calibrations), self.workspace
        )


def measure(trainings: Trainings, attempt: Try, rows: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The rows of one training: one for each rung."""
    model = trainings.start(attempt)
    zero = f"{attempt.plan} | rung 0" + (" | int8" if attempt.schedule == INT8 else "")
    if zero not in rows:
        yield zero, {"plan": attempt.plan, "start": trainings.judged(model, attempt)}
    start, done = rows[zero]["start"], 0
    for epochs in SCHEDULES.get(attempt.schedule, (1,)):
        began = {name: value.clone() for name, value in model.state_dict().items()}
        report = fine_tune.fine_tune(model, trainings.task(attempt, epochs, done))
        last = {name: value.clone() for name, value in model.state_dict().items()}
        done += epochs
        states = {"start": (start, began), "last": (trainings.judged(model, attempt), last)}
        model.load_state_dict(report.average)
        states["average"] = trainings.judged(model, attempt), report.average
        kept = min(states, key=lambda name: states[name][0]["kl"])
        start = states[kept][0]
        model.load_state_dict(states[kept][1])
        row = {name: judged for name, (judged, _) in states.items()}
        described = {
            "plan": attempt.plan,
            "lr": attempt.lr,
            "frozen": attempt.frozen,
            "schedule": attempt.schedule,
            "epochs": done,
        }
        yield f"{attempt.key} | {done}", described | row | {"kept": kept, "cpu_s": report.cpu_seconds}


def run(path: Path, only: str | None, count: int | None) -> None:
    torch.set_num_threads(1)
    rows: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        trainings = Trainings(Path(folder))
        for attempt in islice(tries(only), count):
            last = sum(SCHEDULES.get(attempt.schedule, (1,)))
            if f"{attempt.key} | {last}" in rows:
                continue
            for key, row in measure(trainings, attempt, rows):
                rows[key] = row
                path.write_text(json.dumps(rows, indent=1))


def report(path: Path) -> None:
    print("| plan | lr | norms | epochs | CPU s | rung 0 | last | average | kept | KL before, after |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for row in json.loads(path.read_text()).values():
        if "kept" not in row:
            continue
        accuracies = [f"{row[name]['validation']:.4f}" for name in ("start", "last", "average")]
        kls = f"{row['start']['kl']:.4f}, {row[row['kept']]['kl']:.4f}"
        epochs = f"{row['epochs']}{', one cosine' if row['schedule'] == '3 in one' else ''}"
        norms = "frozen" if row["frozen"] else ""
        name = row["plan"] + (" int8_qat" if row["schedule"] == INT8 else "")
        kept = f"{row['kept']} {row[row['kept']]['validation']:.4f}"
        cells = [name, f"{row['lr']:g}", norms, epochs, f"{row['cpu_s']:.0f}", *accuracies, kept, kls]
        print("| " + " | ".join(cells) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("run", "report"))
    parser.add_argument("file", type=Path)
    parser.add_argument("--backbone", choices=CUTS)
    parser.add_argument("--trainings", type=int, help="the first ones")
    options = parser.parse_args()
    if options.what == "run":
        run(options.file, options.backbone, options.trainings)
    else:
        report(options.file)


if __name__ == "__main__":
    main()
