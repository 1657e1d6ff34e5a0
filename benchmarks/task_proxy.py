"""Print how well rung 0 orders plans of a task as their fine-tune does.

The plans are those of `benchmarks/closed_form.py`: half of them usual, half hard; for maps without token pruning. Each
plan is made as in rung 0 and judged on the holdout; then it is fine-tuned on the outputs of the unpruned model (and on
the labels, where the task reads them), and judged on the validation images, which nothing has seen. Spearman's
correlation, and a 95 % interval by a bootstrap of the plans.

    python benchmarks/task_proxy.py embedding --plans 20
    python benchmarks/task_proxy.py segmentation --plans 20
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from closed_form import named, plans
from scipy.stats import spearmanr

from vitsearch import stages
from vitsearch.backbones.builtin import FASHION_MNIST
from vitsearch.core.image_size import ImageSize
from vitsearch.core.plan import Plan, Recipe
from vitsearch.core.resolve import BlockStructure, Scores, resolve
from vitsearch.stages.calibration import Calibration, Calibrations
from vitsearch.stages.parts import images, models
from vitsearch.storage.files import FileStore
from vitsearch.tasks import TaskSource

CALIBRATION = Calibration(256, 0)
DRAWS = 2000


@dataclass(frozen=True)
class Subject:
    """A task with a backbone and data, how its base and its plans are trained, and the metrics that are printed."""

    task: str
    backbone: str
    data: str
    size: ImageSize
    base: Recipe
    recipe: Recipe
    metrics: tuple[str, ...]


SUBJECTS = {
    "embedding": Subject(
        "embedding",
        "vit_fmnist_p4",
        "builtin:fashion-mnist-14k",
        ImageSize.square(28),
        Recipe((0, 1), 4096, 64, 3e-4, 0.05, 8, 0.0, 1.0, 0),
        Recipe((0, 1), 4096, 64, 3e-4, 0.05, 8, 0.0, 1.0, 0),
        ("cosine", "knn_accuracy"),
    ),
    "segmentation": Subject(
        "segmentation",
        "efficientvit_fmnist",
        "builtin:fashion-mosaic",
        ImageSize.square(56),
        Recipe((0, 3), 0, 64, 1e-3, 0.05, 8, 0.0, 1.0, 0),
        Recipe((0, 1), 2048, 64, 5e-4, 0.05, 8, 0.5, 1.0, 0),
        ("mean_iou", "pixel_accuracy"),
    ),
}


@dataclass(frozen=True)
class Outcome:
    """A plan: its divergence at rung 0, and the metrics then and after the fine-tune."""

    plan: str
    divergence: float
    before: tuple[float, ...]
    after: tuple[float, ...]


class PlanRunner:
    """Makes plans of the unpruned model of a subject, in `folder`."""

    def __init__(self, subject: Subject, folder: Path) -> None:
        self.subject = subject
        stores = FileStore(folder / "artifacts"), FileStore(folder / "scratch")
        task = TaskSource(subject.task)
        has_reference = task.find().has_reference
        reference = stages.ReferenceModel(subject.backbone, "builtin") if has_reference else None
        data = {"source": subject.data}
        self.workspace = stages.Workspace(data, *stores, folder / "cache", task=task, reference=reference)
        start = stages.Source(subject.backbone, "builtin", subject.size, FASHION_MNIST)
        base = stages.BaseJob(self.workspace, start, subject.base).work()
        print(f"unpruned: {', '.join(f'{name} {base.qualities[name]:.4f}' for name in subject.metrics)}\n", flush=True)
        self.source = replace(start, weights=f"{stages.STORED}{base.weights_sha256}", trained_at=subject.size)
        made = stages.BlockStructureJob(self.workspace, self.source, CALIBRATION).work()
        self.structure, self.scores = BlockStructure.from_json(made.block_structure), Scores.from_json(made.scores)
        self.statistics = made.statistics_sha256
        self.outputs = {name: self._outputs(name) for name in ("train", "holdout", "validation")}
        truth = self.outputs["holdout"] if has_reference else None
        self.reference = stages.Reference(self.outputs["holdout"], base.qualities, truth)
        self.truth = self.outputs["validation"] if has_reference else None

    def _outputs(self, name: stages.Images) -> str:
        return stages.LogitsJob(self.workspace, self.source, name, self.subject.recipe).work().sha256

    def run(self, plan: Plan) -> Outcome:
        resolved = resolve(plan, self.structure, self.scores, None)
        calibrations = Calibrations.of(resolved, self.structure, self.subject.size, CALIBRATION)
        spec = stages.CompressionSpec(self.source, resolved, self.statistics, calibrations)
        before = stages.ProxyJob(self.workspace, spec, self.reference).work()
        targets = stages.DistillationTargets("logits", self.outputs["train"])
        recipe = self.subject.recipe
        job = stages.TrainJob(self.workspace, spec, recipe, 0, 1, None, targets, self.reference, before)
        trained = job.work()
        model = models.compressed(spec, self.workspace, trained.checkpoint_sha256)
        outputs = images.predict(model, images.load_data(self.workspace).validation.images, self.source.view)
        after = self.workspace.task.find().judge(outputs, images.validation_truth(self.workspace, self.truth)).values
        metrics = self.subject.metrics
        return Outcome(
            named(plan),
            before.divergence,
            tuple(before.qualities[name] for name in metrics),
            tuple(after[name] for name in metrics),
        )


def plans_of(subject: Subject, count: int) -> Iterator[Plan]:
    """Plans of the backbone of a subject."""
    for plan, _ in plans(count):
        cut = plan.compression
        if subject.task == "segmentation":
            cut = replace(cut, token_pruning_ratio=0.0, token_pruning_method=None, token_pruning_at=())
        yield replace(plan, backbone=subject.backbone, resolution=subject.size, compression=cut)


def correlation(first: list[float], second: list[float]) -> str:
    """Spearman's correlation with the 95 % interval of a bootstrap of the plans."""
    a, b, rng = np.array(first), np.array(second), np.random.default_rng(0)
    drawn = [rng.integers(0, len(a), len(a)) for _ in range(DRAWS)]
    values = [spearmanr(a[rows], b[rows]).statistic for rows in drawn]
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return f"{spearmanr(a, b).statistic:.2f} [{low:.2f}, {high:.2f}]"


def summary(subject: Subject, outcomes: list[Outcome]) -> Iterator[str]:
    yield f"| by | {' | '.join(f'tuned {name}' for name in subject.metrics)} |"
    yield "|---|" + "---|" * len(subject.metrics)
    signals = {"divergence": [-outcome.divergence for outcome in outcomes]}
    for place, name in enumerate(subject.metrics):
        signals[name] = [outcome.before[place] for outcome in outcomes]
    tuned = [[outcome.after[place] for outcome in outcomes] for place in range(len(subject.metrics))]
    for name, values in signals.items():
        yield f"| {name} of rung 0 | {' | '.join(correlation(values, after) for after in tuned)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=SUBJECTS)
    parser.add_argument("--plans", type=int, default=20)
    options = parser.parse_args()
    torch.set_num_threads(1)
    subject = SUBJECTS[options.task]
    outcomes = []
    with tempfile.TemporaryDirectory() as folder:
        runner = PlanRunner(subject, Path(folder))
        columns = ["plan", "divergence", *subject.metrics, *(f"tuned {name}" for name in subject.metrics)]
        print(f"| {' | '.join(columns)} |\n{'|---' * len(columns)}|")
        for plan in plans_of(subject, options.plans):
            outcome = runner.run(plan)
            outcomes.append(outcome)
            cells = [outcome.divergence, *outcome.before, *outcome.after]
            print(f"| {outcome.plan} | {' | '.join(f'{cell:.4f}' for cell in cells)} |", flush=True)
    print("\n".join(["", *summary(subject, outcomes)]))


if __name__ == "__main__":
    main()
