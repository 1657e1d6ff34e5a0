"""Measure what `class_weights: balanced` does to a rare class: base training, and fine-tune of a pruned model.

    python benchmarks/class_weights.py                   # from the weights that ship with vitsearch
    python benchmarks/class_weights.py --weights none    # from random weights, with 20 epochs for the base
    python benchmarks/class_weights.py --write parts     # only write the images into a folder

800 pullovers, 260 T-shirts and 90 shirts of `builtin:fashion-mnist-14k` to learn from, 400 others of each class to
judge by. A row is the mean of three seeds, which choose the images, their order and the new classifier. `base` and
`fine_tune` are the values of the key in these sections. The pruned model has half of the FFNs, and is trained for
three epochs with distillation from its base.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from vitsearch import stages
from vitsearch.backbones.builtin import FASHION_MNIST
from vitsearch.core.image_size import ImageSize
from vitsearch.core.plan import Compression, Deployment, Plan, Recipe
from vitsearch.core.resolve import BlockStructure, Scores, resolve
from vitsearch.data.fashion_mnist import CLASS_NAMES, subset_split
from vitsearch.models.onnx_format import OPSET
from vitsearch.stages.calibration import Calibration, Calibrations
from vitsearch.storage.files import FileStore
from vitsearch.tasks.classification.confusion import Confusion

LEARNED = {"Pullover": 800, "T-shirt/top": 260, "Shirt": 90}
BACKBONE, RESOLUTION = "efficientvit_fmnist", ImageSize.square(28)
CHOICES = ("none", "balanced")
HALF = Compression(ffn_pruning_ratio=0.5)
CALIBRATION = Calibration(256, 0)


def write_images(root: Path, seed: int) -> None:
    """A folder with `train` and `val`; the images to learn from are drawn, those to judge by are the same."""
    rng = np.random.default_rng(seed)
    for split in ("train", "validation", "test"):
        subset = subset_split(split)
        for name, count in LEARNED.items():
            folder = root / ("train" if split == "train" else "val") / name.replace("/", " or ")
            folder.mkdir(parents=True, exist_ok=True)
            rows = np.flatnonzero(subset.labels == CLASS_NAMES.index(name))
            chosen = rng.permutation(rows)[:count] if split == "train" else rows
            for row in chosen:
                Image.fromarray(subset.images[row, :, :, 0]).save(folder / f"{split}-{row}.png")


@dataclass(frozen=True)
class Setting:
    """One seed, and the weights of the classes in both trainings."""

    weights: str
    seed: int
    base: str
    fine_tune: str

    def recipe(self, epochs: int, lr: float, distillation: float, class_weights: str) -> Recipe:
        recipe = Recipe((0, epochs), 2048, 64, lr, 0.05, 8, distillation, 2.0, self.seed)
        return replace(recipe, class_weights=class_weights)


def counted(workspace: stages.Workspace, spec: stages.CompressionSpec, checkpoint: str | None) -> Confusion:
    """The answers of the exported file on the validation images."""
    deployment = Deployment("local", "onnxruntime", "cpu", "fp32")
    exported = stages.ExportJob(workspace, spec, deployment, OPSET, CALIBRATION, checkpoint).work()
    return Confusion.from_json(exported.judged.tally)


def measured(setting: Setting, folder: Path) -> tuple[Confusion, Confusion]:
    """The answers of the unpruned model and of the pruned one, both exported."""
    torch.manual_seed(setting.seed)
    stores = FileStore(folder / "artifacts"), FileStore(folder / "scratch")
    data = {"source": "folder", "root": str(folder / "images"), "image_size": RESOLUTION.to_json(), "channels": 1}
    workspace = stages.Workspace(data, *stores, folder / "cache")
    start = stages.Source(BACKBONE, setting.weights, RESOLUTION, FASHION_MNIST)
    epochs = 3 if setting.weights == "builtin" else 20
    base = stages.BaseJob(workspace, start, setting.recipe(epochs, 5e-4, 0.0, setting.base)).work()
    source = stages.Source(BACKBONE, f"{stages.STORED}{base.weights_sha256}", RESOLUTION, FASHION_MNIST)
    recipe = setting.recipe(3, 3e-4, 0.5, setting.fine_tune)
    deployment = Deployment("local", "onnxruntime", "cpu", "fp32")
    plan = Plan(BACKBONE, setting.weights, RESOLUTION, None, HALF, "logits", recipe, (deployment,))
    stored = stages.BlockStructureJob(workspace, source, CALIBRATION).work()
    structure, scores = BlockStructure.from_json(stored.block_structure), Scores.from_json(stored.scores)
    unpruned, cut = (
        stages.CompressionSpec(source, resolved, stored.statistics_sha256, calibrations)
        for deployed in (plan.unpruned(), plan)
        for resolved in [resolve(deployed, structure, scores, None)]
        for calibrations in [Calibrations.of(resolved, structure, RESOLUTION, CALIBRATION)]
    )
    logits = stages.LogitsJob(workspace, source, "train", recipe).work().sha256
    logits_sha256 = stages.LogitsJob(workspace, source, "holdout", recipe).work().sha256
    targets, reference = stages.DistillationTargets("logits", logits), stages.Reference(logits_sha256, base.qualities)
    before = stages.ProxyJob(workspace, cut, reference).work()
    tuned = stages.TrainJob(workspace, cut, recipe, 0, 3, None, targets, reference, before).work()
    return counted(workspace, unpruned, None), counted(workspace, cut, tuned.checkpoint_sha256)


def rows(weights: str, seeds: int) -> Iterator[list[str]]:
    for base in CHOICES:
        for fine_tune in CHOICES:
            measured_rows = []
            for seed in range(seeds):
                with tempfile.TemporaryDirectory() as name:
                    write_images(Path(name) / "images", seed)
                    measured_rows.append(measured(Setting(weights, seed, base, fine_tune), Path(name)))
            cells = []
            for models in zip(*measured_rows, strict=True):
                figures = [[model.accuracy, model.mean_recall, model.recalls[1]] for model in models]
                cells += [f"{value:.3f}" for value in np.mean(figures, axis=0)]
            yield [base, fine_tune, *cells]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", choices=("builtin", "none"), default="builtin")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--write", type=Path, help="only write the images of the first seed into this folder")
    options = parser.parse_args()
    if options.write is not None:
        write_images(options.write, 0)
        return
    torch.set_num_threads(1)
    heads = [
        f"{model}: {what}" for model in ("unpruned", "pruned") for what in ("accuracy", "balanced", "shirts found")
    ]
    print(f"| base | fine_tune | {' | '.join(heads)} |")
    print("|---|---|---|---|---|---|---|---|")
    for row in rows(options.weights, options.seeds):
        print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
