"""Does a plan that starts from the nearest larger trained plan of its backbone need fewer epochs?

    python benchmarks/warm_start.py run FILE [--plans 5]
    python benchmarks/warm_start.py report FILE

Each plan is trained for 1 epoch of 4,096 images and for 3 from rung 0, and for 1 and 2 from a *parent*: a plan of the
same backbone and resolution that keeps all that the plan keeps and was trained for 3. The parent's weights are put back
in the places of the unpruned model from which they were cut, all else is zero, and this model is cut and refitted in
closed form like any other. Of start, last and averaged weights the one of the least divergence on the holdout is kept,
as in a run. CPU-seconds are those of the training alone, one thread; accuracy is that on the 2,000 validation images,
which decides nothing.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import statistics
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from recipes import STUDY, Trainings, Try
from torch import nn

from vitsearch import backbones, stages
from vitsearch.backbones.builtin import FASHION_MNIST
from vitsearch.compress import prune, refit
from vitsearch.compress.statistics import Statistics
from vitsearch.core.image_size import ImageSize
from vitsearch.core.plan import Compression, Deployment, Plan
from vitsearch.core.resolve import BlockStructure, ResolvedPlan, Scores, resolve
from vitsearch.stages.calibration import Calibrations
from vitsearch.stages.parts import models
from vitsearch.stages.parts.images import blank
from vitsearch.training import fine_tune

Cut = dict[str, float]
PARENTS: dict[str, tuple[float, int, Cut]] = {
    "vit_fmnist_p4": (3e-4, 20, {"ffn_pruning_ratio": 0.25, "head_pruning_ratio": 0.17}),
    "efficientvit_fmnist": (1e-3, 28, {"ffn_pruning_ratio": 0.25}),
}
"""Of each backbone its learning rate, its resolution and its parent."""
CHILDREN: dict[str, tuple[Cut, ...]] = {
    "vit_fmnist_p4": (
        {"ffn_pruning_ratio": 0.5, "head_pruning_ratio": 0.17},
        {"ffn_pruning_ratio": 0.5, "head_pruning_ratio": 0.33},
        {"ffn_pruning_ratio": 0.75, "head_pruning_ratio": 0.33},
        {"ffn_pruning_ratio": 0.75, "head_pruning_ratio": 0.5},
        {"ffn_pruning_ratio": 0.5, "head_pruning_ratio": 0.5},
    ),
    "efficientvit_fmnist": (
        {"ffn_pruning_ratio": 0.5},
        {"ffn_pruning_ratio": 0.5, "head_pruning_ratio": 0.33},
        {"ffn_pruning_ratio": 0.75},
        {"ffn_pruning_ratio": 0.75, "head_pruning_ratio": 0.33},
        {"ffn_pruning_ratio": 0.75, "head_pruning_ratio": 0.5},
    ),
}
WAYS = {"1 from rung 0": 1, "3 from rung 0": 3, "1 from the parent": 1, "2 from the parent": 2}


@dataclass(frozen=True)
class Family:
    """A backbone at one resolution, with one ranking of all that can be cut."""

    trainings: Trainings
    backbone: str
    source: stages.Source
    structure: BlockStructure
    scores: Scores
    statistics_sha256: str

    @classmethod
    def of(cls, trainings: Trainings, backbone: str, resolution: ImageSize) -> Family:
        source = stages.Source(backbone, "builtin", resolution, FASHION_MNIST)
        stored = stages.BlockStructureJob(trainings.workspace, source, STUDY).work()
        structure, scores = BlockStructure.from_json(stored.block_structure), Scores.from_json(stored.scores)
        return cls(trainings, backbone, source, structure, scores, stored.statistics_sha256)

    def resolved(self, attempt: Try) -> ResolvedPlan:
        cut = Compression(**attempt.cut, width_multiple=16)
        deployment = Deployment("local", "onnxruntime", "cpu", "fp32")
        recipe = self.trainings.task(attempt, 1, 0).recipe
        plan = Plan(self.backbone, "builtin", attempt.resolution, None, cut, "logits", recipe, (deployment,))
        return resolve(plan, self.structure, self.scores)

    def spread(self, attempt: Try, trained: nn.Module) -> nn.Module:
        """The unpruned model with the weights of a cut one in their places, and zeros elsewhere."""
        base = models.base_model(self.source, self.trainings.workspace)
        state = base.state_dict()
        places = {
            name: torch.arange(value.numel(), dtype=torch.float64).reshape(value.shape)
            for name, value in state.items()
            if value.is_floating_point()
        }
        coded = copy.deepcopy(base).double()
        coded.load_state_dict(places, strict=False)
        workspace = self.trainings.workspace
        family = models.family_of(self.source, workspace)
        prune.apply(coded, family, self.resolved(attempt), blank(attempt.resolution, workspace).double())
        codes = coded.state_dict()
        for name, value in trained.state_dict().items():
            if name in places:
                flat = torch.zeros(state[name].numel(), dtype=state[name].dtype)
                flat[codes[name].long().flatten()] = value.flatten().to(flat.dtype)
                state[name] = flat.reshape(state[name].shape)
        base.load_state_dict(state)
        return base

    def cut_from(self, wide: nn.Module, attempt: Try) -> nn.Module:
        """A plan that is cut from an unpruned model and refitted to it, as at rung 0."""
        workspace, resolved = self.trainings.workspace, self.resolved(attempt)
        native = backbones.native_resolution(self.backbone)
        spec = stages.CompressionSpec(
            self.source, resolved, self.statistics_sha256, Calibrations.of(resolved, self.structure, native, STUDY)
        )
        model, family = copy.deepcopy(wide), models.family_of(self.source, workspace)
        prune.apply(model, family, resolved, blank(attempt.resolution, workspace))
        refit.refit(model, wide, family, resolved, Statistics.load(workspace.store.get(self.statistics_sha256)))
        models._sequential_fit(wide, model, spec, workspace)(model)
        return model.cpu()


def trained(trainings: Trainings, model: nn.Module, attempt: Try, epochs: int) -> tuple[nn.Module, dict[str, Any]]:
    """The best of start, last and averaged weights, and what is known of all."""
    start = copy.deepcopy(model.state_dict())
    judged = {"start": (trainings.judged(model, attempt), start)}
    report = fine_tune.fine_tune(model, trainings.task(attempt, epochs, 0))
    judged["last"] = trainings.judged(model, attempt), copy.deepcopy(model.state_dict())
    model.load_state_dict(report.average)
    judged["average"] = trainings.judged(model, attempt), report.average
    kept = min(judged, key=lambda name: judged[name][0]["kl"])
    model.load_state_dict(judged[kept][1])
    row = {"kept": kept, "cpu_s": report.cpu_seconds, "start": judged["start"][0], "end": judged[kept][0]}
    return model, row


def rows_of(
    trainings: Trainings, backbone: str, count: int | None, done: dict[str, Any]
) -> Iterator[tuple[str, dict[str, Any]]]:
    lr, pixels, cut = PARENTS[backbone]
    resolution = ImageSize.square(pixels)
    family = Family.of(trainings, backbone, resolution)
    whole = Try(backbone, resolution, cut, lr, False, "parent")
    children = [replace(whole, cut=child) for child in CHILDREN[backbone][:count]]
    if all(f"{child.plan} | {way}" in done for child in children for way in WAYS):
        return
    parent, row = trained(trainings, trainings.start(whole), whole, 3)
    yield f"{whole.plan} | parent", row
    wide = family.spread(whole, parent)
    for child in children:
        for way, epochs in WAYS.items():
            if f"{child.plan} | {way}" not in done:
                model = trainings.start(child) if "rung 0" in way else family.cut_from(wide, child)
                yield f"{child.plan} | {way}", trained(trainings, model, child, epochs)[1]


def run(path: Path, count: int | None) -> None:
    torch.set_num_threads(1)
    rows: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        trainings = Trainings(Path(folder))
        for backbone in PARENTS:
            for key, row in rows_of(trainings, backbone, count, rows):
                rows[key] = row
                path.write_text(json.dumps(rows, indent=1))


def report(path: Path) -> None:
    rows = json.loads(path.read_text())
    plans = list(dict.fromkeys(key.split(" | ")[0] for key in rows if not key.endswith("parent")))
    print(f"| plan | {' | '.join(f'{way}: before, after, CPU s' for way in WAYS)} |\n|{'---|' * (len(WAYS) + 1)}")
    for plan in plans:
        cells = [rows[f"{plan} | {way}"] for way in WAYS]
        shown = [f"{c['start']['validation']:.4f}, {c['end']['validation']:.4f}, {c['cpu_s']:.1f}" for c in cells]
        print(f"| {plan} | {' | '.join(shown)} |")
    whole = [rows[f"{plan} | 3 from rung 0"] for plan in plans]
    for way in (way for way in WAYS if way != "3 from rung 0"):
        pairs = list(zip([rows[f"{plan} | {way}"] for plan in plans], whole, strict=True))
        for judge in ("validation", "kl"):
            gaps = [100.0 * (a["end"][judge] - b["end"][judge]) for a, b in pairs]
            half = 2.262 * statistics.stdev(gaps) / math.sqrt(len(gaps))
            print(f"{way} minus 3 from rung 0, {judge}: {statistics.mean(gaps):+.2f} +- {half:.2f} hundredths")
        print(f"{way}: {sum(a['cpu_s'] for a, _ in pairs) / sum(b['cpu_s'] for _, b in pairs):.2f} of the CPU")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=("run", "report"))
    parser.add_argument("file", type=Path)
    parser.add_argument("--plans", type=int, help="of each backbone, the first ones")
    options = parser.parse_args()
    run(options.file, options.plans) if options.what == "run" else report(options.file)


if __name__ == "__main__":
    main()
