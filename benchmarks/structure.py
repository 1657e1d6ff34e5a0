"""Print what dropping blocks and pruning the width of the residual stream cost the plain ViT base, as a Markdown table.

    python benchmarks/structure.py [--cuts 10]

vit_fmnist_p4 on 2,000 validation images: after the cut, refitted in closed form, tuned for one epoch of 4,096 images.
Blocks are ranked in two ways: by Taylor scores, and by the KL when each alone is dropped (not tuned).
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch

from vitsearch import backbones, data, stages
from vitsearch.backbones import ModelSpec
from vitsearch.backbones.builtin import FASHION_MNIST
from vitsearch.core.image_size import ImageSize
from vitsearch.core.plan import Compression, Deployment, Plan, Recipe
from vitsearch.core.preprocessing import Preprocessing
from vitsearch.core.resolve import BlockStructure, Scores, resolve
from vitsearch.data.tensors import to_tensor
from vitsearch.stages.calibration import Calibration, Calibrations
from vitsearch.storage.files import FileStore
from vitsearch.tasks.classification.divergence import kl_divergences

BASE, CALIBRATION = "vit_fmnist_p4", Calibration(256, 0)
RECIPE = Recipe((0, 1), 4096, 64, 1e-4, 0.05, 8, 0.5, 2.0, seed=0)
DATA = {"source": "builtin:fashion-mnist-14k", "root": None, "image_size": None, "channels": None}
FP32 = Deployment("local", "onnxruntime", "cpu", "fp32")
DEPTHS, WIDTHS = (1 / 6, 2 / 6, 3 / 6), (0.125, 0.25, 0.5)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cuts", type=int, help="the first rows")
    cuts = parser.parse_args().cuts
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        for row in rows(Path(folder), cuts):
            print("| " + " | ".join(row) + " |", flush=True)


def rows(folder: Path, most: int | None) -> Iterator[tuple[str, ...]]:
    yield "cut", "MMACs", "M parameters", "cut only", "refitted", "KL", "tuned"
    yield ("---",) * 7
    stores = FileStore(folder / "artifacts"), FileStore(folder / "scratch")
    workspace = stages.Workspace(DATA | {"validation_share": 0.1, "seed": 0}, *stores, folder / "cache")
    source = stages.Source(BASE, "builtin", ImageSize.square(28), FASHION_MNIST)
    stored = stages.BlockStructureJob(workspace, source, CALIBRATION).work()
    qualities = stages.BaseJob(workspace, source, RECIPE).work().qualities
    logits_sha256 = stages.LogitsJob(workspace, source, "holdout", RECIPE).work().sha256
    reference = stages.Reference(logits_sha256, qualities)
    targets = stages.DistillationTargets("logits", stages.LogitsJob(workspace, source, "train", RECIPE).work().sha256)
    block_structure, taylor = BlockStructure.from_json(stored.block_structure), Scores.from_json(stored.scores)
    by_kl = replace(taylor, depth=kl_without_each(block_structure))
    cuts = [(f"depth {ratio:.0%}", Compression(depth_pruning_ratio=ratio), taylor) for ratio in DEPTHS]
    cuts += [(f"depth {ratio:.0%}, by KL", Compression(depth_pruning_ratio=ratio), by_kl) for ratio in DEPTHS]
    cuts += [(f"embedding {ratio:.1%}", Compression(embed_pruning_ratio=ratio), taylor) for ratio in WIDTHS]
    for name, cut, scores in [("none", Compression(), taylor), *cuts][:most]:
        resolved = resolve(
            Plan(BASE, "builtin", ImageSize.square(28), None, cut, "logits", RECIPE, (FP32,)), block_structure, scores
        )
        spec = stages.CompressionSpec(source, resolved, stored.statistics_sha256)
        graph = stages.ScreenJob(workspace, spec, FP32, 17, CALIBRATION).work()
        raw = stages.ProxyJob(workspace, spec, reference).work()
        cells: tuple[str, ...] = name, f"{graph.macs_m:.1f}", f"{graph.params_m:.2f}", accuracy_of(raw)
        if cut.is_identity:
            yield *cells, "", "", ""
            continue
        spec = replace(spec, calibrations=Calibrations(refit=CALIBRATION))
        fitted = stages.ProxyJob(workspace, spec, reference).work()
        cells = *cells, accuracy_of(fitted), f"{fitted.divergence:.4f}"
        if scores is by_kl:
            yield *cells, ""
            continue
        job = stages.TrainJob(workspace, spec, RECIPE, 0, 1, None, targets, reference, fitted)
        yield *cells, accuracy_of(job.work().evaluation)


def accuracy_of(evaluation: stages.Evaluation) -> str:
    return f"{evaluation.qualities['accuracy']:.4f}"


def kl_without_each(block_structure: BlockStructure) -> tuple[float, ...]:
    """KL to the base without each block, on the first 256 training images."""
    images = data.load(data.DataSpec("builtin:fashion-mnist-14k"))
    inputs = to_tensor(
        images.train.images[: CALIBRATION.images], ImageSize.square(28), Preprocessing(images.mean, images.std)
    )
    model = backbones.find(BASE).build(ModelSpec(BASE, "builtin", ImageSize.square(28), 10, 1)).model.eval()
    with torch.inference_mode():
        expected = model(inputs).numpy()
        losses = []
        for block in block_structure.blocks:
            hook = model.get_submodule(block.name).register_forward_hook(lambda _, seen, __: seen[0])
            losses.append(float(kl_divergences(expected, model(inputs).numpy()).mean()))
            hook.remove()
    return tuple(losses)


if __name__ == "__main__":
    main()
