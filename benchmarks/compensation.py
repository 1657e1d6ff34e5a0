"""Print what closed-form compensation recovers of a hard plan, as a Markdown table.

In fp32 and static int8, with and without token pruning, on bases that ship with vitsearch. Nothing is trained.

python benchmarks/compensation.py [--plans 5]
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from quantization import RECIPE, Data

from vitsearch import backbones, stages
from vitsearch.backbones.builtin import FASHION_MNIST
from vitsearch.compress import prune, tokens
from vitsearch.compress.quantization import quantize
from vitsearch.core.image_size import ImageSize
from vitsearch.core.plan import Compression, Deployment, Plan
from vitsearch.core.resolve import BlockStructure, Scores, resolve
from vitsearch.export.graph.onnx_file import write_onnx
from vitsearch.stages.calibration import Calibration, Calibrations
from vitsearch.stages.parts.images import drawn
from vitsearch.storage.files import FileStore

DATA = {"source": "builtin:fashion-mnist-14k", "root": None, "image_size": None, "channels": None}
HARD = {"head_pruning_ratio": 0.67, "ffn_pruning_ratio": 0.75}
FEWER = {"token_pruning_ratio": 0.3, "token_pruning_method": "topk"}
PLANS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("vit_fmnist_p4", {}),
    ("vit_fmnist_p4", HARD),
    ("vit_fmnist_p4", HARD | FEWER),
    ("efficientvit_fmnist", {"head_pruning_ratio": 0.5, "ffn_pruning_ratio": 0.5}),
    ("mobilevit_fmnist", {"head_pruning_ratio": 0.5, "ffn_pruning_ratio": 0.5}),
)
STUDY, CALIBRATION = Calibration(256, 0), Calibration(32, 0)
PRECISIONS = ("fp32", "int8_ptq")
"""Precisions in onnxruntime; int8_ptq is calibrated on 32 training images."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--plans", type=int, help="the first rows")
    count = parser.parse_args().plans
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        stores = FileStore(folder / "artifacts"), FileStore(folder / "scratch")
        workspace = stages.Workspace(DATA | {"validation_share": 0.1, "seed": 0}, *stores, folder / "cache")
        head = ("base", "plan", *(f"{what}, {p}" for what in ("cut", "compensated") for p in PRECISIONS))
        for cells in (head, ["---"] * len(head)):
            print("| " + " | ".join(cells) + " |")
        for backbone, cut in PLANS[:count]:
            seen = [f"{value:.4f}" for value in accuracies(workspace, backbone, Compression(**cut), folder)]
            print(
                "| " + " | ".join([backbone, ", ".join(f"{k} {v}" for k, v in cut.items()), *seen]) + " |", flush=True
            )


def accuracies(workspace: stages.Workspace, backbone: str, cut: Compression, folder: Path) -> list[float]:
    source = stages.Source(backbone, "builtin", ImageSize.square(28), FASHION_MNIST)
    stored = stages.BlockStructureJob(workspace, source, STUDY).work()
    block_structure, scores = BlockStructure.from_json(stored.block_structure), Scores.from_json(stored.scores)
    deployment = Deployment("local", "onnxruntime", "cpu", "fp32")
    resolved = resolve(
        Plan(backbone, "builtin", ImageSize.square(28), None, cut, "none", RECIPE, (deployment,)),
        block_structure,
        scores,
    )
    calibrations = Calibrations.of(resolved, block_structure, ImageSize.square(28), STUDY)
    spec = stages.CompressionSpec(source, resolved, stored.statistics_sha256, calibrations)
    plain, data = only_cut(source, spec, folder), Data()
    values = []
    for precision in PRECISIONS:
        path = folder / f"{precision}.onnx"
        quantize.quantize(plain, path, precision, drawn(workspace, CALIBRATION, source.view).numpy())
        values.append(data.accuracy(path))
    for precision in PRECISIONS:
        job = stages.ExportJob(workspace, spec, replace(deployment, precision=precision), 17, CALIBRATION, None)
        exported = job.work()
        values.append(exported.judged.values["accuracy"])
    return values


def only_cut(source: stages.Source, spec: stages.CompressionSpec, folder: Path) -> Path:
    """The exported file of a model that is cut, but not refitted."""
    family = backbones.find(source.backbone)
    model = family.build(backbones.ModelSpec(source.backbone, "builtin", ImageSize.square(28), 10, 1)).model
    prune.apply(model, family, spec.resolved, torch.zeros(1, 1, 28, 28))
    tokens.apply(model, spec.resolved)
    write_onnx(model, (1, 1, 28, 28), folder / "plain.onnx")
    return folder / "plain.onnx"


if __name__ == "__main__":
    main()
