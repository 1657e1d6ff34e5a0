"""Print how well rung 0 orders plans of the embedding task as their fine-tune does.

The plans are those of `benchmarks/closed_form.py`: half of them usual, half hard. The reference is the unpruned model
itself, without its classifier. Each plan is made as in rung 0 and judged on the holdout; then it is fine-tuned on the
outputs of the reference, and judged on the 2,000 validation images, which nothing has seen. Spearman's correlation, and
a 95 % interval by a bootstrap of the plans.

    python benchmarks/embedding_proxy.py --plans 20
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

from vitsearch.backbones.builtin import FASHION_MNIST
from vitsearch.core.image_size import ImageSize
from vitsearch.core.plan import Plan, Recipe
from vitsearch.core.resolve import BlockStructure, Scores, resolve
from vitsearch.pipeline import jobs
from vitsearch.pipeline.calibration import Calibration, Calibrations
from vitsearch.storage.files import FileStore
from vitsearch.tasks import TaskSource
from vitsearch.workers import images, models, tasks

BACKBONE = "vit_fmnist_p4"
RECIPE = Recipe((0, 1), 4096, 64, 3e-4, 0.05, 8, 0.0, 1.0, 0)
CALIBRATION = Calibration(256, 0)
DRAWS = 2000


@dataclass(frozen=True)
class Outcome:
    """A plan: its divergence at rung 0, and both metrics then and after the fine-tune."""

    plan: str
    divergence: float
    cosine: float
    knn: float
    tuned_cosine: float
    tuned_knn: float


class PlanRunner:
    """Makes plans of the unpruned model in `folder`."""

    def __init__(self, folder: Path) -> None:
        stores = FileStore(folder / "artifacts"), FileStore(folder / "scratch")
        reference = jobs.ReferenceModel(BACKBONE, "builtin")
        data = {"source": "builtin:fashion-mnist-14k"}
        kind = TaskSource("embedding")
        self.workspace = jobs.Workspace(data, *stores, folder / "cache", task=kind, reference=reference)
        start = jobs.Source(BACKBONE, "builtin", ImageSize.square(28), FASHION_MNIST)
        base = tasks.prepare_base(jobs.BaseJob(self.workspace, start, RECIPE))
        self.source = replace(start, weights=f"{jobs.STORED}{base.weights_sha256}")
        made = tasks.find_block_structure(jobs.BlockStructureJob(self.workspace, self.source, CALIBRATION))
        self.structure, self.scores = BlockStructure.from_json(made.block_structure), Scores.from_json(made.scores)
        self.statistics = made.statistics_sha256
        self.outputs = {name: self._outputs(name) for name in ("train", "holdout", "validation")}
        self.reference = jobs.Reference(self.outputs["holdout"], base.qualities, self.outputs["holdout"])

    def _outputs(self, name: jobs.Images) -> str:
        return tasks.cache_logits(jobs.LogitsJob(self.workspace, self.source, name, RECIPE)).sha256

    def run(self, plan: Plan) -> Outcome:
        resolved = resolve(plan, self.structure, self.scores, None)
        calibrations = Calibrations.of(resolved, self.structure, ImageSize.square(28), CALIBRATION)
        spec = jobs.CompressionSpec(self.source, resolved, self.statistics, calibrations)
        before = tasks.score_proxy(jobs.ProxyJob(self.workspace, spec, self.reference))
        targets = jobs.DistillationTargets("logits", self.outputs["train"])
        job = jobs.TrainJob(self.workspace, spec, RECIPE, 0, 1, None, targets, self.reference, before)
        trained = tasks.train_rung(job)
        model = models.compressed(spec, self.workspace, trained.checkpoint_sha256)
        outputs = images.predict(model, images.load_data(self.workspace).validation.images, self.source.view)
        truth = images.validation_truth(self.workspace, self.outputs["validation"])
        after = self.workspace.task.find().judge(outputs, truth).values
        qualities = before.qualities
        return Outcome(
            named(plan),
            before.divergence,
            qualities["cosine"],
            qualities["knn_accuracy"],
            after["cosine"],
            after["knn_accuracy"],
        )


def correlation(first: list[float], second: list[float]) -> str:
    """Spearman's correlation with the 95 % interval of a bootstrap of the plans."""
    a, b, rng = np.array(first), np.array(second), np.random.default_rng(0)
    drawn = [rng.integers(0, len(a), len(a)) for _ in range(DRAWS)]
    values = [spearmanr(a[rows], b[rows]).statistic for rows in drawn]
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return f"{spearmanr(a, b).statistic:.2f} [{low:.2f}, {high:.2f}]"


def summary(outcomes: list[Outcome]) -> Iterator[str]:
    yield "| by | tuned cosine | tuned knn_accuracy |"
    yield "|---|---|---|"
    signals = {
        "divergence": [-outcome.divergence for outcome in outcomes],
        "cosine": [outcome.cosine for outcome in outcomes],
        "knn_accuracy": [outcome.knn for outcome in outcomes],
    }
    tuned = [[getattr(outcome, name) for outcome in outcomes] for name in ("tuned_cosine", "tuned_knn")]
    for name, values in signals.items():
        yield f"| {name} of rung 0 | {' | '.join(correlation(values, after) for after in tuned)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plans", type=int, default=20)
    options = parser.parse_args()
    torch.set_num_threads(1)
    outcomes = []
    print("| plan | divergence | cosine | knn | tuned cosine | tuned knn |\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        runner = PlanRunner(Path(folder))
        for plan, _ in plans(options.plans):
            outcome = runner.run(plan)
            outcomes.append(outcome)
            cells = [outcome.divergence, outcome.cosine, outcome.knn, outcome.tuned_cosine, outcome.tuned_knn]
            print(f"| {outcome.plan} | {' | '.join(f'{cell:.4f}' for cell in cells)} |", flush=True)
    print("\n".join(["", *summary(outcomes)]))


if __name__ == "__main__":
    main()
