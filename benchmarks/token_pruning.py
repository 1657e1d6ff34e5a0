"""Print what each method of token pruning saves and costs, as two Markdown tables.

python benchmarks/token_pruning.py time        # DeiT-tiny at 224 pixels, 197 tokens, random weights
python benchmarks/token_pruning.py accuracy    # vit_fmnist_p4 on 2,000 validation images
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from timing import ROUNDS, cpu_ms
from torch import nn

from vitsearch import backbones, data
from vitsearch.backbones import ModelSpec
from vitsearch.compress import macs, sequential, tokens
from vitsearch.compress.quantization import fake_quant, quantize
from vitsearch.core.image_size import ImageSize
from vitsearch.core.plan import Recipe
from vitsearch.core.preprocessing import Preprocessing
from vitsearch.core.resolve import ResolvedBlock, ResolvedPlan
from vitsearch.core.token_counts import METHODS, tokens_left
from vitsearch.data.tensors import to_tensor
from vitsearch.export.graph.onnx_file import write_onnx
from vitsearch.tasks.classification.divergence import kl_divergences
from vitsearch.training import fine_tune, inference

DEIT = ModelSpec("deit_tiny_patch16_224", "none", ImageSize.square(224), 1000)
BASE = ModelSpec("vit_fmnist_p4", "builtin", ImageSize.square(28), 10, 1)
RATIO, RATIOS = 0.3, (0.1, 0.3, 0.5, 0.7)
PRECISIONS = ("fp32", "int8_dynamic", "int8_ptq", "int8_qat")
CALIBRATION_IMAGES = 256
RECIPE = Recipe((0, 1), 4096, 64, 1e-4, 0.05, 8, 0.5, 2.0, seed=0)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("table", choices=["time", "accuracy"])
    parser.add_argument("--methods", nargs="+", default=METHODS, choices=METHODS)
    parser.add_argument("--ratios", nargs="+", default=RATIOS, type=float, help="of the accuracy table")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of the time table")
    options = parser.parse_args()
    torch.set_num_threads(1)
    is_time = options.table == "time"
    rows = times(options.methods, options.rounds) if is_time else accuracies(options.methods, options.ratios)
    for cells in rows:
        print("| " + " | ".join(cells) + " |", flush=True)


def times(methods: Sequence[str], rounds: int) -> Iterator[tuple[str, ...]]:
    """CPU milliseconds, and the speed-up over the unpruned model in fp32."""
    yield "method", "tokens behind the blocks", "MMACs", "nodes", *PRECISIONS
    yield ("---",) * (4 + len(PRECISIONS))
    images = np.random.default_rng(0).normal(size=(8, 3, 224, 224)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        files, rows = {}, {}
        for method in (None, *methods):
            model, left = pruned(DEIT, method, RATIO)
            plain = Path(folder) / f"{method}.onnx"
            nodes = write_onnx(model, (1, 3, 224, 224), plain).nodes
            cost = macs.count(model, torch.zeros(1, 3, 224, 224))[0]
            rows[method] = (method or "none", _falling(left), f"{cost:.0f}", f"{nodes}")
            fake_quant.prepare(model, [torch.from_numpy(images)])
            for precision in PRECISIONS:
                files[f"{method} {precision}"] = Path(folder) / f"{method}.{precision}.onnx"
                learned = fake_quant.learned(model) if precision == "int8_qat" else ()
                quantize.quantize(plain, files[f"{method} {precision}"], precision, images, learned)
        medians = cpu_ms(files, rounds)
    for method, cells in rows.items():
        took = [medians[f"{method} {precision}"] for precision in PRECISIONS]
        yield *cells, *(f"{ms:.2f} ({medians['None fp32'] / ms:.2f})" for ms in took)


def _falling(left: tuple[int, ...]) -> str:
    return " ".join(map(str, sorted(set(left), reverse=True)))


def accuracies(methods: Sequence[str], ratios: Sequence[float]) -> Iterator[tuple[str, ...]]:
    yield "method", "ratio", "tokens behind the blocks", "MMACs", "cut only", "refitted", "KL", "tuned", "CPU s"
    yield ("---",) * 9
    images = data.load(data.DataSpec("builtin:fashion-mnist-14k"))
    family = backbones.find(BASE.backbone)
    base = family.build(BASE).model
    seen = Preprocessing(images.mean, images.std)
    logits = partial(inference.predict_logits, resolution=ImageSize.square(28), preprocessing=seen)
    expected = logits(base, images.validation.images)
    pool = fine_tune.training_pool(images.learned, RECIPE)
    targets = logits(base, images.train.images, rows=pool)
    chosen = np.random.default_rng(0).permutation(len(images.train))[:CALIBRATION_IMAGES]
    calibration = to_tensor(images.train.images[chosen], ImageSize.square(28), seen)
    wanted = sequential.targets(base, family, calibration)
    task = fine_tune.TrainingSpec(
        images.train.images,
        images.train.labels,
        ImageSize.square(28),
        seen,
        RECIPE,
        epochs=1,
        teacher_outputs=targets,
        pool=pool,
    )

    def accuracy(model: nn.Module) -> str:
        return f"{inference.accuracy(logits(model, images.validation.images), images.validation.labels):.4f}"

    yield "none", "0", "50", f"{macs.count(base, calibration[:1])[0]:.1f}", accuracy(base), "", "", "", ""
    for ratio in ratios:
        for method in methods:
            model, left = pruned(BASE, method, ratio)
            cost, untouched = macs.count(model, calibration[:1])[0], accuracy(model)
            if method == "dynamicvit":
                tokens.fit_predictors(model, torch.split(calibration, 64))
            if method != "tome":  # rung 0 fits before merging, and here nothing else is cut
                sequential.fit(model, family, wanted, calibration)
            divergence = float(kl_divergences(expected, logits(model, images.validation.images)).mean())
            refitted, begin = accuracy(model), time.process_time()
            auxiliary_loss = partial(tokens.auxiliary_loss, unpruned=base) if method == "dynamicvit" else None
            fine_tune.fine_tune(model, replace(task, auxiliary_loss=auxiliary_loss))
            seconds = f"{time.process_time() - begin:.0f}"
            yield (
                method,
                f"{ratio}",
                _falling(left),
                f"{cost:.1f}",
                untouched,
                refitted,
                f"{divergence:.3f}",
                accuracy(model),
                seconds,
            )


def pruned(spec: ModelSpec, method: str | None, ratio: float) -> tuple[nn.Module, tuple[int, ...]]:
    """A new model with token pruning at the default blocks of the method, and the tokens behind each block."""
    family = backbones.find(spec.backbone)
    model = family.build(spec).model.eval()
    block_structure = family.block_structure(model, spec)
    if method is None:
        return model, (block_structure.tokens,) * len(block_structure.blocks)
    patches = block_structure.tokens - block_structure.prefix_tokens
    left = tokens_left(method, ratio, (), len(block_structure.blocks), patches, block_structure.prefix_tokens)
    whole = tuple(ResolvedBlock(tuple(range(b.heads)), tuple(range(b.ffn_width))) for b in block_structure.blocks)
    tokens.apply(model, ResolvedPlan(spec.backbone, spec.resolution, None, whole, left, method))
    return model, left


if __name__ == "__main__":
    main()
