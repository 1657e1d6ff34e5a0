"""Prints how well rung 0 foretells a fine-tune, and what each closed form recovers before any tuning.

Half of the plans are drawn from the usual range, half are hard (few heads, few neurons, few tokens). Each
is made four times: by magnitude, by Taylor scores, with the parallel refit, and as rung 0 has it. The last
is fine-tuned; Kendall's tau tells how alike each signal and the tuned accuracy order the plans.

    python benchmarks/closed_form.py --plans 20 --steps 160
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import nan, sqrt
from statistics import fmean

import numpy as np
import torch
from torch import nn

from vitsearch import backbones, data, train
from vitsearch.backbones import ModelSpec
from vitsearch.compress import macs, prune, refit, scores, sequential, tokens
from vitsearch.compress.statistics import Statistics
from vitsearch.data.tensors import to_tensor
from vitsearch.effect import Anatomy, Effect, Scores, resolve
from vitsearch.plan import Compression, Deployment, Plan, Recipe

SPEC = ModelSpec("vit_fmnist_p4", "builtin", 28, 10, 1)
CALIBRATION, SIGNAL, HELD_OUT, BATCH = 256, 1000, 5000, 64
SIGNALS = ("magnitude", "taylor", "parallel", "sequential")


@dataclass(frozen=True)
class Outcome:
    """Accuracy and KL to the base of each way to cut, CPU-seconds to make it; the tuned accuracy."""

    plan: Plan
    hard: bool
    macs: float
    accuracy: dict[str, float]
    kl: dict[str, float]
    seconds: dict[str, float]
    tuned: float
    tuning_seconds: float


class Bench:
    """The base, its statistics and logits; everything that all plans share."""

    def __init__(self, steps: int) -> None:
        self.family = backbones.find(SPEC.backbone)
        self.images = data.load(data.DataSpec("builtin:fashion-mnist"))
        self.base = self.family.build(SPEC).model
        self.anatomy: Anatomy = self.family.anatomy(self.base, SPEC)
        chosen = np.random.default_rng(0).permutation(len(self.images.train))[:CALIBRATION]
        self.inputs = self._tensor(self.images.train.images[chosen])
        labels = torch.tensor(self.images.train.labels[chosen])
        self.statistics: Statistics = scores.collect(self.base, self.family, self.inputs, labels)
        splits = self.images.validation, self._test()
        self.held_out = np.concatenate([split.images for split in splits])[:HELD_OUT]
        self.labels = np.concatenate([split.labels for split in splits])[:HELD_OUT]
        self.expected = self._logits(self.base, self.held_out[:SIGNAL])
        self.recipe = Recipe((0, 1), steps * BATCH, BATCH, 3e-4, 0.05, 8, 0.5, 2.0, 0)
        self.pool = train.training_pool(len(self.images.train), self.recipe)
        self.taught = self._logits(self.base, self.images.train.images[self.pool])

    def outcome(self, plan: Plan, hard: bool) -> Outcome:
        accuracy, kl, seconds = {}, {}, {}
        for signal in SIGNALS:
            start = time.process_time()
            model, effect = self.made(plan, signal)
            seconds[signal] = time.process_time() - start
            found = self._logits(model, self.held_out[:SIGNAL])
            accuracy[signal] = train.accuracy(found, self.labels[:SIGNAL])
            kl[signal] = train.kl_divergence(self.expected, found)
        cost = macs.count(model, self.inputs[:1])[0] / macs.count(self.base, self.inputs[:1])[0]
        report = train.fine_tune(model, self._task())
        tuned = train.accuracy(self._logits(model, self.held_out), self.labels)
        return Outcome(plan, hard, cost, accuracy, kl, seconds, tuned, report.cpu_seconds)

    def made(self, plan: Plan, signal: str) -> tuple[nn.Module, Effect]:
        """The model that ``plan`` asks for, as ``signal`` makes it."""
        by = self._magnitudes() if signal == "magnitude" else self.statistics.scores()
        effect = resolve(plan, self.anatomy, by)
        model = self.family.build(SPEC).model
        prune.apply(model, self.family, effect, self.inputs[:1])
        if signal in ("parallel", "sequential"):
            refit.refit(model, self.base, self.family, effect, self.statistics)
        tokens.apply(model, effect)
        if signal == "sequential":
            wanted = sequential.targets(self.base, self.family, self.inputs)
            sequential.fit(model, self.family, wanted, self.inputs)
        return model, effect

    def base_accuracy(self) -> float:
        return train.accuracy(self._logits(self.base, self.held_out), self.labels)

    def _magnitudes(self) -> Scores:
        """Heads: norm of their rows of ``qkv`` and columns of ``proj``; neurons: norm in times norm out."""
        heads, ffn = [], []
        for block in self.base.blocks:  # type: ignore[union-attr]
            read = block.attn.qkv.weight.reshape(3, block.attn.num_heads, -1).square().sum((0, 2))
            write = block.attn.proj.weight.reshape(len(block.attn.proj.weight), block.attn.num_heads, -1)
            heads.append(tuple((read + write.square().sum((0, 2))).sqrt().tolist()))
            ffn.append(tuple((block.mlp.fc1.weight.norm(dim=1) * block.mlp.fc2.weight.norm(dim=0)).tolist()))
        return Scores(tuple(heads), tuple(ffn))

    def _task(self) -> train.FineTuneTask:
        split = self.images.train
        return train.FineTuneTask(
            split.images,
            split.labels,
            SPEC.resolution,
            self.images.mean,
            self.images.std,
            self.recipe,
            1,
            teacher_logits=self.taught,
            pool=self.pool,
        )

    def _test(self) -> data.Split:
        assert self.images.test is not None
        return self.images.test

    def _logits(self, model: nn.Module, images: np.ndarray) -> np.ndarray:
        return train.predict_logits(model, images, SPEC.resolution, self.images.mean, self.images.std)

    def _tensor(self, images: np.ndarray) -> torch.Tensor:
        return to_tensor(images, SPEC.resolution, self.images.mean, self.images.std)


def plans(count: int) -> Iterator[tuple[Plan, bool]]:
    """Seeded; every second one is hard."""
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
        deployment = Deployment("local", "onnxruntime", "CPUExecutionProvider", "fp32")
        recipe = Recipe((0, 1), 0, BATCH, 0.0, 0.0, 0, 0.0, 1.0, 0)
        yield Plan(SPEC.backbone, "builtin", 28, None, compression, "logits", recipe, (deployment,)), hard


def kendall(first: Sequence[float], second: Sequence[float]) -> float:
    """Tau-b: 1 for the same order, ties counted."""
    signs = [
        ((a > b) - (a < b), (c > d) - (c < d)) for (a, c), (b, d) in combinations(zip(first, second, strict=True), 2)
    ]
    untied = [sum(pair[side] != 0 for pair in signs) for side in (0, 1)]
    return sum(one * other for one, other in signs) / sqrt(untied[0] * untied[1]) if all(untied) else nan


def tau(outcomes: Sequence[Outcome], signal: Callable[[Outcome], float]) -> float:
    return kendall([signal(outcome) for outcome in outcomes], [outcome.tuned for outcome in outcomes])


def summary(outcomes: Sequence[Outcome]) -> Iterator[str]:
    hard, usual = ([o for o in outcomes if o.hard is wanted] for wanted in (True, False))
    yield "| rung 0 by | CPU-s to make | tau by accuracy | tau by KL | accuracy untuned, usual | hard |"
    yield "|---|---|---|---|---|---|"
    yield f"| MACs | 0 | {tau(outcomes, lambda o: o.macs):.2f} | | | |"
    for name in SIGNALS:
        taus = tau(outcomes, lambda o, name=name: o.accuracy[name]), tau(outcomes, lambda o, name=name: -o.kl[name])  # type: ignore[misc]
        before = [fmean(o.accuracy[name] for o in group) for group in (usual, hard)]
        made = fmean(o.seconds[name] for o in outcomes)
        yield f"| {name} | {made:.2f} | {taus[0]:.2f} | {taus[1]:.2f} | {before[0]:.3f} | {before[1]:.3f} |"
    after = [fmean(o.tuned for o in group) for group in (usual, hard)]
    tuning = fmean(o.tuning_seconds for o in outcomes)
    yield f"| the fine-tune itself | {tuning:.1f} | | | {after[0]:.3f} | {after[1]:.3f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--plans", type=int, default=20)
    parser.add_argument("--steps", type=int, default=160)
    told = parser.parse_args()
    torch.set_num_threads(1)
    bench, outcomes = Bench(told.steps), []
    print(f"base: {bench.base_accuracy():.4f} of {len(bench.labels)} held-out images", flush=True)
    print(
        "| plan | MACs | magnitude | taylor | parallel | sequential | KL | tuned |\n|---|---|---|---|---|---|---|---|"
    )
    for plan, hard in plans(told.plans):
        found = bench.outcome(plan, hard)
        outcomes.append(found)
        cut = plan.compression
        name = f"heads-{cut.head_pruning_ratio:.0%} ffn-{cut.ffn_pruning_ratio:.0%}"
        name += f" tokens-{cut.token_pruning_ratio:.0%}@{list(cut.token_pruning_at)} {cut.scope}"
        untuned = " | ".join(f"{found.accuracy[signal]:.3f}" for signal in SIGNALS)
        print(
            f"| {name} | {found.macs:.2f} | {untuned} | {found.kl['sequential']:.3f} | {found.tuned:.4f} |", flush=True
        )
    print("\n".join(("", *summary(outcomes))))


if __name__ == "__main__":
    main()
