"""Print how well rung 0 predicts a fine-tune, and how much accuracy each closed form recovers before any tuning.

Half of the plans are drawn from the usual range, half are hard (few heads, few neurons, few tokens). Each is made four
times: by magnitude, by Taylor scores, with the parallel refit, and as in rung 0. The last one is fine-tuned. Kendall's
tau measures how similarly each proxy and the tuned accuracy order the plans.

    python benchmarks/closed_form.py --plans 20 --steps 160

Fits use training images only; proxies are evaluated on 1,000 validation images, the tuned accuracy on 11,000 other
held-out ones. Each row is written when it is done, and an interrupted run continues after the last one.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from math import isnan, nan, sqrt
from pathlib import Path
from statistics import fmean, quantiles
from typing import Any

import numpy as np
import torch
from torch import nn

from vitsearch import backbones, data
from vitsearch.backbones import ModelSpec
from vitsearch.compress import macs, prune, refit, scores, sequential, tokens
from vitsearch.compress.statistics import Statistics
from vitsearch.core.image_size import ImageSize
from vitsearch.core.plan import Compression, Deployment, Plan, Recipe
from vitsearch.core.preprocessing import Preprocessing
from vitsearch.core.resolve import BlockStructure, Scores, resolve
from vitsearch.data import Split
from vitsearch.data.tensors import to_tensor
from vitsearch.tasks.classification.divergence import kl_divergences
from vitsearch.training import fine_tune, inference

SPEC = ModelSpec("vit_fmnist_p4", "builtin", ImageSize.square(28), 10, 1)
CALIBRATION, PROXY, REFERENCE, BATCH = 256, 1000, 11000, 64
PROXIES = ("magnitude", "taylor", "parallel", "sequential")
DRAWS = 1000
"""Bootstrap draws of the plans, for the interval of tau."""


@dataclass(frozen=True)
class Outcome:
    """Accuracy, KL to the base and CPU-seconds of each proxy, and the tuned accuracy."""

    plan: str
    hard: bool
    steps: int
    macs: float
    accuracy: dict[str, float]
    kl: dict[str, float]
    seconds: dict[str, float]
    tuned: float
    tuning_seconds: float


class PlanRunner:
    """Runs plans. Holds the base, its statistics and its logits, which all plans share."""

    def __init__(self, steps: int) -> None:
        self.family = backbones.find(SPEC.backbone)
        self.images = data.load(data.DataSpec("builtin:fashion-mnist"))
        self.base = self.family.build(SPEC).model
        self.block_structure: BlockStructure = self.family.block_structure(self.base, SPEC)
        chosen = np.random.default_rng(0).permutation(len(self.images.train))[:CALIBRATION]
        self.inputs = self._tensor(self.images.train.images[chosen])
        answers = torch.tensor(self.images.train.labels[chosen])
        self.statistics: Statistics = scores.collect(self.base, self.family, self.inputs, answers)
        splits = self.images.validation, self._test()
        held_out, labels = (np.concatenate([getattr(it, part) for it in splits]) for part in ("images", "labels"))
        self.seen = Split.of(held_out[:PROXY], labels[:PROXY])
        self.reference = Split.of(held_out[PROXY:][:REFERENCE], labels[PROXY:][:REFERENCE])
        self.expected = self._logits(self.base, self.seen.images)
        self.steps = steps
        self.recipe = Recipe((0, 1), steps * BATCH, BATCH, 1e-4, 0.05, 8, 0.5, 2.0, 0)
        self.pool = fine_tune.training_pool(self.images.learned, self.recipe)
        self.targets = self._logits(self.base, self.images.train.images[self.pool])

    def outcome(self, plan: Plan, hard: bool) -> Outcome:
        accuracy, kl, seconds = {}, {}, {}
        for proxy in PROXIES:
            start = time.process_time()
            model = self.made(plan, proxy)
            seconds[proxy] = time.process_time() - start
            logits = self._logits(model, self.seen.images)
            accuracy[proxy] = inference.accuracy(logits, self.seen.labels)
            kl[proxy] = float(kl_divergences(self.expected, logits).mean())
        cost = macs.count(model, self.inputs[:1])[0] / macs.count(self.base, self.inputs[:1])[0]
        report = fine_tune.fine_tune(model, self._task())
        tuned = self.judged(model)
        return Outcome(named(plan), hard, self.steps, cost, accuracy, kl, seconds, tuned, report.cpu_seconds)

    def made(self, plan: Plan, proxy: str) -> nn.Module:
        """The model of `plan`, made in the way of `proxy`."""
        by = self._magnitudes() if proxy == "magnitude" else self.statistics.scores()
        resolved = resolve(plan, self.block_structure, by)
        model = self.family.build(SPEC).model
        prune.apply(model, self.family, resolved, self.inputs[:1])
        if proxy in ("parallel", "sequential"):
            refit.refit(model, self.base, self.family, resolved, self.statistics)
        tokens.apply(model, resolved)
        if proxy == "sequential":
            wanted = sequential.targets(self.base, self.family, self.inputs)
            sequential.fit(model, self.family, wanted, self.inputs)
        return model

    def judged(self, model: nn.Module) -> float:
        """Accuracy on the reference images."""
        return inference.accuracy(self._logits(model, self.reference.images), self.reference.labels)

    def _magnitudes(self) -> Scores:
        """Norms as scores: of a head its rows of `qkv` and columns of `proj`, of a neuron input times output
        norm."""
        heads, ffn = [], []
        blocks: Any = self.base.blocks  # timm's, without types
        for block in blocks:
            read = block.attn.qkv.weight.reshape(3, block.attn.num_heads, -1).square().sum((0, 2))
            write = block.attn.proj.weight.reshape(len(block.attn.proj.weight), block.attn.num_heads, -1)
            heads.append(tuple((read + write.square().sum((0, 2))).sqrt().tolist()))
            ffn.append(tuple((block.mlp.fc1.weight.norm(dim=1) * block.mlp.fc2.weight.norm(dim=0)).tolist()))
        return Scores(tuple(heads), tuple(ffn))

    def _task(self) -> fine_tune.TrainingSpec:
        split = self.images.train
        return fine_tune.TrainingSpec(
            split.images,
            split.labels,
            SPEC.resolution,
            Preprocessing(self.images.mean, self.images.std),
            self.recipe,
            1,
            teacher_outputs=self.targets,
            pool=self.pool,
        )

    def _test(self) -> Split:
        assert self.images.test is not None
        return self.images.test

    def _logits(self, model: nn.Module, images: np.ndarray) -> np.ndarray:
        return inference.predict_logits(
            model, images, SPEC.resolution, Preprocessing(self.images.mean, self.images.std)
        )

    def _tensor(self, images: np.ndarray) -> torch.Tensor:
        return to_tensor(images, SPEC.resolution, Preprocessing(self.images.mean, self.images.std))


def plans(count: int) -> Iterator[tuple[Plan, bool]]:
    """Random plans from a fixed seed; every second one is hard."""
    draw = random.Random(0)
    for number in range(count):
        hard = number % 2 == 1
        heads = draw.choice((1 / 3, 1 / 2, 2 / 3, 5 / 6) if hard else (0.0, 1 / 6, 1 / 3, 1 / 2))
        ffn = draw.choice((0.5, 0.625, 0.75, 0.875) if hard else (0.0, 0.25, 0.5, 0.75))
        dropped = draw.choice((0.0, 0.3, 0.5, 0.7) if hard else (0.0, 0.1, 0.3, 0.5))
        compression = Compression(
            head_pruning_ratio=heads,
            ffn_pruning_ratio=ffn,
            token_pruning_ratio=dropped,
            token_pruning_method="topk" if dropped else None,
            token_pruning_at=draw.choice(((1,), (2,), (3,), (1, 3), (2, 4))) if dropped else (),
            scope=draw.choice(("uniform", "global")),
        )
        deployment = Deployment("local", "onnxruntime", "cpu", "fp32")
        recipe = Recipe((0, 1), 0, BATCH, 0.0, 0.0, 0, 0.0, 1.0, 0)
        yield (
            Plan(SPEC.backbone, "builtin", ImageSize.square(28), None, compression, "logits", recipe, (deployment,)),
            hard,
        )


def named(plan: Plan) -> str:
    cut = plan.compression
    name = f"heads-{cut.head_pruning_ratio:.0%} ffn-{cut.ffn_pruning_ratio:.0%}"
    tokens_cut = f" tokens-{cut.token_pruning_ratio:.0%}@{','.join(map(str, cut.token_pruning_at))}"
    return f"{name}{tokens_cut if cut.token_pruning_ratio else ''} {cut.scope}"


def kendall(first: Sequence[float], second: Sequence[float]) -> float:
    """Kendall's tau-b, which accounts for ties; 1 for the same order."""
    signs = [
        ((a > b) - (a < b), (c > d) - (c < d)) for (a, c), (b, d) in combinations(zip(first, second, strict=True), 2)
    ]
    untied = [sum(pair[side] != 0 for pair in signs) for side in (0, 1)]
    return sum(sign * other for sign, other in signs) / sqrt(untied[0] * untied[1]) if all(untied) else nan


def tau(proxy: Sequence[float], tuned: Sequence[float]) -> str:
    """Tau against the tuned accuracy, with the [5, 95] percentiles over bootstrap draws of the plans."""
    pairs = list(zip(proxy, tuned, strict=True))
    draw = random.Random(0)
    spread = [kendall(*zip(*draw.choices(pairs, k=len(pairs)), strict=True)) for _ in range(DRAWS)]
    edges = quantiles([value for value in spread if not isnan(value)], n=20)
    return f"{kendall(*zip(*pairs, strict=True)):.2f} [{edges[0]:.2f}, {edges[-1]:.2f}]"


def summary(outcomes: Sequence[Outcome]) -> Iterator[str]:
    hard, usual = ([o for o in outcomes if o.hard is wanted] for wanted in (True, False))
    tuned = [o.tuned for o in outcomes]
    yield "| rung 0 by | CPU-s to make | tau by accuracy | tau by KL | accuracy untuned, usual | hard |"
    yield "|---|---|---|---|---|---|"
    yield f"| MACs | 0 | {tau([o.macs for o in outcomes], tuned)} | | | |"
    for name in PROXIES:
        by_accuracy = tau([o.accuracy[name] for o in outcomes], tuned)
        by_kl = tau([-o.kl[name] for o in outcomes], tuned)
        before = [fmean(o.accuracy[name] for o in group) for group in (usual, hard)]
        seconds = fmean(o.seconds[name] for o in outcomes)
        yield f"| {name} | {seconds:.2f} | {by_accuracy} | {by_kl} | {before[0]:.3f} | {before[1]:.3f} |"
    after = [fmean(o.tuned for o in group) for group in (usual, hard)]
    tuning = fmean(o.tuning_seconds for o in outcomes)
    yield f"| the fine-tune itself | {tuning:.1f} | | | {after[0]:.3f} | {after[1]:.3f} |"


def row(outcome: Outcome) -> str:
    untuned = (f"{outcome.accuracy[proxy]:.3f}" for proxy in PROXIES)
    kind, kl = "hard" if outcome.hard else "usual", outcome.kl["sequential"]
    return (
        f"| {' | '.join((outcome.plan, kind, f'{outcome.macs:.2f}', *untuned, f'{kl:.3f}', f'{outcome.tuned:.4f}'))} |"
    )


def known(rows: Path, steps: int) -> dict[str, Outcome]:
    """Results of an earlier run with the same number of steps, by plan."""
    lines = rows.read_text().splitlines() if rows.exists() else []
    outcomes = [Outcome(**json.loads(line)) for line in lines]
    return {outcome.plan: outcome for outcome in outcomes if outcome.steps == steps}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--plans", type=int, default=20)
    parser.add_argument("--steps", type=int, default=160)
    parser.add_argument("--rows", type=Path, default=Path("studies/closed_form.jsonl"), help="results so far")
    options = parser.parse_args()
    torch.set_num_threads(1)
    runner, outcomes = PlanRunner(options.steps), known(options.rows, options.steps)
    print(f"base: {runner.judged(runner.base):.4f} of {REFERENCE} held-out images\n", flush=True)
    print(f"| plan | | MACs | {' | '.join(PROXIES)} | KL | tuned |\n|{'---|' * 9}")
    for plan, hard in plans(options.plans):
        if named(plan) not in outcomes:
            outcomes[named(plan)] = runner.outcome(plan, hard)
            with options.rows.open("a") as file:
                file.write(json.dumps(asdict(outcomes[named(plan)])) + "\n")
        print(row(outcomes[named(plan)]), flush=True)
    print("\n".join(("", *summary([outcomes[named(plan)] for plan, _ in plans(options.plans)]))))


if __name__ == "__main__":
    main()
