"""Print what each operator does to the project's plain ViT, alone and together, as a Markdown table.

    python benchmarks/operators.py             # all rows: about 15 CPU-minutes
    python benchmarks/operators.py fp32 heads  # rows whose name contains one of the words

Every row is a plan that runs through the stages of a search, on the committed data and base. The columns are accuracy
on the 2,000 validation images after the cut alone, after closed-form compensation, after one epoch of fine-tuning on
4,096 images, and of the exported file in onnxruntime; then CPU time of that file (batch 1, one thread, all files in
interleaved rounds), its size, and its compressed size.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import timing
import torch

from vitsearch import backbones, data, stages
from vitsearch.backbones import ModelSpec
from vitsearch.backbones.builtin import FASHION_MNIST
from vitsearch.compress import prune, sparse_file, sparsity, tokens
from vitsearch.core import legality, precisions
from vitsearch.core.image_size import ImageSize
from vitsearch.core.plan import Compression, Deployment, Distillation, Plan, QuantizationAware, Recipe, Scope
from vitsearch.core.preprocessing import Preprocessing
from vitsearch.core.resolve import BlockStructure, ResolvedPlan, Scores, resolve
from vitsearch.data.tensors import to_tensor
from vitsearch.models.onnx_format import OPSET
from vitsearch.stages.calibration import Calibration, Calibrations
from vitsearch.storage.files import FileStore
from vitsearch.training import inference

BACKBONE, RESOLUTION, IMAGES = "vit_fmnist_p4", ImageSize.square(28), 2000
SMALL = ImageSize.square(20)
RECIPE = Recipe((0, 1), 4096, 64, 3e-4, 0.05, 8, 0.5, 2.0, 0)
DATA = {"source": "builtin:fashion-mnist-14k", "root": None, "image_size": None, "channels": None}
QAT = QuantizationAware()
STUDIED, QUANTIZED = Calibration(256, 0), Calibration(32, 0)


@dataclass(frozen=True)
class Row:
    """Accuracies: `cut`, `compensated` and `tuned` of the torch model, `shipped` of the file in its runtime."""

    name: str
    cut: float
    compensated: float
    tuned: float
    shipped: float
    macs_m: float
    file: Path

    def cells(self, cpu_ms: float, of_base: float) -> tuple[str, ...]:
        accuracies = (f"{value:.4f}" for value in (self.cut, self.compensated, self.tuned, self.shipped))
        sizes = (f"{size / 1e6:.2f}" for size in (self.file.stat().st_size, sparse_file.compressed_bytes(self.file)))
        return self.name, *accuracies, f"{self.macs_m:.1f}", f"{cpu_ms:.2f}", f"{cpu_ms / of_base:.2f}", *sizes


HEAD = ("plan", "cut", "compensated", "tuned", "shipped", "MMACs", "CPU ms", "of fp32", "MB", "MB gzip")
UNPRUNED = "unpruned, fp32"
WHOLE = Compression(width_multiple=16)
SCOPES: tuple[Scope, ...] = ("uniform", "global", "isomorphic")
DISTILLATIONS: tuple[Distillation, ...] = ("none", "logits", "feature")


def plan(
    cut: Compression = WHOLE,
    precision: str = "fp32",
    resolution: ImageSize = RESOLUTION,
    distillation: Distillation = "logits",
) -> Plan:
    deployment = Deployment("local", "onnxruntime", "cpu", precision)
    return Plan(BACKBONE, "builtin", resolution, None, cut, distillation, RECIPE, (deployment,))


def source_with(weights: str) -> stages.Source:
    return stages.Source(BACKBONE, weights, RESOLUTION, FASHION_MNIST)


def plans() -> Iterator[tuple[str, Plan]]:
    half = replace(WHOLE, head_pruning_ratio=0.5, ffn_pruning_ratio=0.5)
    yield UNPRUNED, plan()
    yield "resolution 20", plan(resolution=SMALL)
    yield "heads -50%", plan(replace(WHOLE, head_pruning_ratio=0.5))
    yield "FFN -50%", plan(replace(WHOLE, ffn_pruning_ratio=0.5))
    for scope in SCOPES:
        yield f"heads and FFN -50%, {scope}", plan(replace(half, scope=scope))
    yield "depth -33%", plan(replace(WHOLE, depth_pruning_ratio=0.33))
    yield "embedding -25%", plan(replace(WHOLE, embed_pruning_ratio=0.25))
    for method in ("topk", "evit", "tome", "dynamicvit"):
        yield f"tokens -30%, {method}", plan(replace(WHOLE, token_pruning_ratio=0.3, token_pruning_method=method))
    for zeros in ("50%", "75%", "2:4"):
        yield f"zeros {zeros}", plan(replace(WHOLE, weight_sparsity=zeros))
    for precision in ("fp16", "int8_weights", "int8_dynamic", "int8_ptq", "int8_mixed", "int8_qat"):
        yield precision, plan(precision=precision)
    for targets in DISTILLATIONS:
        yield f"heads and FFN -50%, distillation {targets}", plan(half, distillation=targets)
    best = replace(WHOLE, head_pruning_ratio=0.17, ffn_pruning_ratio=0.75, scope="global")
    merged = replace(best, token_pruning_ratio=0.3, token_pruning_method="tome")
    for precision in ("int8_ptq", "int8_qat"):
        yield f"resolution 20, heads -17%, FFN -75%, {precision}", plan(best, precision, SMALL)
        yield f"resolution 20, heads -17%, FFN -75%, tome -30%, {precision}", plan(merged, precision, SMALL)


@dataclass(frozen=True)
class StageRunner:
    """Runs the stages of a search on one backbone, one after another."""

    workspace: stages.Workspace
    base: stages.Base
    targets: stages.DistillationTargets
    reference: stages.Reference

    @classmethod
    def open(cls, folder: Path) -> StageRunner:
        stores = FileStore(folder / "artifacts"), FileStore(folder / "scratch")
        workspace = stages.Workspace(DATA | {"validation_share": 0.1, "seed": 0}, *stores, folder / "cache")
        base = stages.BaseJob(workspace, source_with("builtin"), RECIPE).work()
        source = source_with(f"file:{workspace.store.get(base.weights_sha256)}")
        logits = stages.LogitsJob(workspace, source, "train", RECIPE).work().sha256
        features = stages.FeaturesJob(workspace, source, "train", RECIPE).work().sha256
        logits_sha256 = stages.LogitsJob(workspace, source, "holdout", RECIPE).work().sha256
        return cls(
            workspace,
            base,
            stages.DistillationTargets("logits", logits, features),
            stages.Reference(logits_sha256, base.qualities),
        )

    def row(self, name: str, requested: Plan) -> Row:
        legality.refuse(requested, backbones.supports)
        spec = self._pruned(requested)
        targets = stages.DistillationTargets("none") if requested.distillation == "none" else self.targets
        seen = stages.ProxyJob(self.workspace, spec, self.reference).work()
        job = stages.TrainJob(
            self.workspace, spec, RECIPE, 0, 1, None, replace(targets, method=requested.distillation),
            self.reference, seen,
        )  # fmt: skip
        tuned = job.work()
        ready = tuned
        if requested.deployment.precision in precisions.TRAINED:
            rounding = replace(job, recipe=QAT.recipe(RECIPE, BACKBONE), start=1, end=1 + QAT.epochs(1))
            changed = vars(rounding) | {"checkpoint_sha256": tuned.checkpoint_sha256, "calibration": QUANTIZED}
            ready = stages.QatJob(**changed).work()
        shipped = stages.ExportJob(
            self.workspace, spec, requested.deployment, OPSET, QUANTIZED, ready.checkpoint_sha256
        ).work()
        refitted, after, exported = (
            qualities["accuracy"] for qualities in (seen.qualities, tuned.evaluation.qualities, shipped.judged.values)
        )
        accuracies = self._cut(spec), refitted, after, exported
        return Row(name, *accuracies, shipped.graph.macs_m, self.workspace.store.model(shipped.graph.sha256))

    def _cut(self, spec: stages.CompressionSpec) -> float:
        """Accuracy after the cut alone."""
        images = data.load(data.DataSpec.from_json(dict(self.workspace.data)), self.workspace.cache)
        source, resolved, family = spec.source, spec.resolved, backbones.find(BACKBONE)
        model = family.build(ModelSpec(BACKBONE, source.weights, source.resolution, 10, 1)).model
        example = to_tensor(images.train.images[:1], source.resolution, Preprocessing(images.mean, images.std))
        prune.apply(model, family, resolved, example)
        if resolved.weight_sparsity != sparsity.NONE:
            sparsity.magnitude(model, resolved.weight_sparsity)
        tokens.apply(model, resolved)
        split, size = images.validation, source.resolution
        logits = inference.predict_logits(model, split.images[:IMAGES], size, Preprocessing(images.mean, images.std))
        return inference.accuracy(logits, split.labels[:IMAGES])

    def _pruned(self, requested: Plan) -> stages.CompressionSpec:
        weights = f"file:{self.workspace.store.get(self.base.weights_sha256)}"
        source = replace(source_with(weights), resolution=requested.resolution)
        stored = stages.BlockStructureJob(self.workspace, source, STUDIED).work()
        block_structure = BlockStructure.from_json(stored.block_structure)
        sensitivity = self._sensitivity(source) if requested.deployment.precision in precisions.MIXED else None
        resolved: ResolvedPlan = resolve(requested, block_structure, Scores.from_json(stored.scores), sensitivity)
        steps = Calibrations.of(resolved, block_structure, RESOLUTION, STUDIED)
        return stages.CompressionSpec(source, resolved, stored.statistics_sha256, steps)

    def _sensitivity(self, source: stages.Source) -> dict[str, float]:
        stored = stages.SensitivityJob(self.workspace, source, QUANTIZED).work()
        sensitivity: dict[str, float] = json.loads(self.workspace.store.get(stored.sha256).read_text())
        return sensitivity


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("words", nargs="*", help="only rows whose name contains one of them")
    parser.add_argument("--rounds", type=int, default=timing.ROUNDS)
    options = parser.parse_args()
    words = options.words
    torch.set_num_threads(1)
    wanted = [(name, requested) for name, requested in plans() if not words or any(word in name for word in words)]
    with tempfile.TemporaryDirectory() as folder:
        runner = StageRunner.open(Path(folder))
        rows = []
        for name, requested in wanted:
            rows.append(runner.row(name, requested))
            print(f"{len(rows)} of {len(wanted)}: {rows[-1]}", file=sys.stderr, flush=True)
        cost = timing.cpu_ms({row.name: row.file for row in rows}, options.rounds)
        whole = cost.get(UNPRUNED, math.nan)
        for cells in (HEAD, ("---",) * len(HEAD), *(row.cells(cost[row.name], whole) for row in rows)):
            print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
