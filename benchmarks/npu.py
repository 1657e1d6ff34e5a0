"""Print what files for Qualcomm's NPUs keep of a model: W8A8 and W8A16 beside fp32, as a Markdown table.

For the three bases that ship with vitsearch and a pruned plan of each (half of the FFN channels, and a third of the
heads where the family can cut heads; refitted in closed form, not trained). Accuracy is that on the 2,000 validation
images, in onnxruntime on this CPU. The contexts and the operators that are left to the CPU are those of the compiler,
for each chip; twenty validation images run in its emulation of each chip's NPU. fp32 is not compiled: an NPU would
compute it in fp16, in minutes of emulation.

    vitsearch install-converter qnn
    python benchmarks/npu.py --chips sm8650 sm8350
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from runtimes import BASES, Subject, base
from torch import nn

from vitsearch import backbones, data
from vitsearch.backbones import Backbone, ModelSpec
from vitsearch.compress import prune, refit, scores
from vitsearch.core.image_size import ImageSize
from vitsearch.core.plan import Compression, Deployment, Plan, Recipe
from vitsearch.core.precisions import QUANTIZED_BITS
from vitsearch.core.preprocessing import Preprocessing
from vitsearch.core.resolve import resolve
from vitsearch.data.tensors import to_tensor
from vitsearch.export import ExportTask, deploy, evaluate
from vitsearch.ship.shipped_context import agreement
from vitsearch.stages.parts.exporting import write
from vitsearch.targets.onnxruntime import QNN
from vitsearch.targets.onnxruntime.qnn import contexts
from vitsearch.targets.onnxruntime.qnn.chips import Chip, chip_of
from vitsearch.training import inference

SIZE = ImageSize.square(28)
STATISTICS, EMULATED = 256, 20
FFN, HEADS = 0.5, 0.34
RECIPE = Recipe((0, 1), 64, 64, 1e-4, 0.05, 8, 0.5, 2.0, 0)
HEAD = ("model", "precision", "accuracy", "MB", "export s")
PER_CHIP = ("contexts", "on the CPU", "classes as on the CPU", "largest difference")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", nargs="+", default=list(BASES))
    parser.add_argument("--chips", nargs="+", default=["sm8650", "sm8350"])
    options = parser.parse_args()
    torch.set_num_threads(1)
    chips, python = [chip_of(name) for name in options.chips], contexts.installed_python()
    columns = [*HEAD, *(f"{chip.name}: {name}" for chip in chips for name in PER_CHIP)]
    print(f"| {' | '.join(columns)} |\n{'|---' * len(columns)}|", flush=True)
    for name in options.models:
        whole = base(name)
        for subject in (whole, pruned(whole)):
            with tempfile.TemporaryDirectory() as folder:
                for precision in ("fp32", *QUANTIZED_BITS):
                    named = chips if precision in QUANTIZED_BITS else []
                    cells = list(row(subject, precision, named, python, Path(folder, precision)))
                    cells += [""] * (len(columns) - 1 - len(cells))
                    print(f"| {subject.name} | {' | '.join(cells)} |", flush=True)


def pruned(whole: Subject) -> Subject:
    """The plan of `whole` in which heads and FFN channels are cut, refitted in closed form."""
    family, spec = backbones.find(whole.name), ModelSpec(whole.name, "builtin", SIZE, 10, 1)
    model = family.build(spec).model.eval()
    images = data.load(data.DataSpec("builtin:fashion-mnist-14k"))
    rows = np.random.default_rng(1).permutation(len(images.train))[:STATISTICS]
    drawn = to_tensor(images.train.images[rows], SIZE, Preprocessing(images.mean, images.std))
    statistics = scores.collect(model, family, drawn, torch.tensor(images.train.labels[rows]))
    plan = Plan(whole.name, "builtin", SIZE, None, _cut(family, whole.name), "none", RECIPE, (_deployment("fp32"),))
    resolved = resolve(plan, family.block_structure(model, spec), statistics.scores())
    smaller: nn.Module = family.build(spec).model.eval()
    prune.apply(smaller, family, resolved, drawn[:1])
    refit.refit(smaller, model, family, resolved, statistics)
    ships = deploy.deployed(smaller, family, (1, 1, 28, 28))
    return Subject(f"{whole.name}, pruned", ships, whole.images, whole.validation, whole.labels)


def _deployment(precision: str) -> Deployment:
    return Deployment("chip", "onnxruntime", QNN, precision, 1)


def _cut(family: Backbone, name: str) -> Compression:
    heads = 0.0 if family.supports(name, "head_pruning_ratio", HEADS) else HEADS
    return Compression(head_pruning_ratio=heads, ffn_pruning_ratio=FFN)


def row(subject: Subject, precision: str, chips: list[Chip], python: Path, folder: Path) -> Iterator[str]:
    """The cells of a file, after that of the model."""
    assert subject.validation is not None
    assert subject.labels is not None
    folder.mkdir()
    begin = time.process_time()
    family = backbones.find(subject.name.partition(",")[0]).family
    task = ExportTask(family, _deployment(precision), subject.images)
    path = write(subject.model, task, folder).file.path
    export_s = time.process_time() - begin
    logits = evaluate.logits(path, subject.validation, 1)
    yield from (precision, f"{inference.accuracy(logits, subject.labels):.4f}")
    yield from (f"{path.stat().st_size / 1e6:.2f}", f"{export_s:.1f}")
    for chip in chips:
        context = contexts.compiled(python, path, chip, folder / f"{chip.name}.onnx")
        images = subject.validation[:EMULATED]
        seen = agreement(logits[:EMULATED], contexts.outputs(python, context, images), True)
        ties = f" and {seen.ties} ties" if seen.ties else ""
        left = ", ".join(f"{name} {count}" for name, count in context.cpu_operators.items()) or "none"
        yield from (str(context.contexts), left, f"{seen.same_class} of {seen.images}{ties}")
        yield f"{seen.largest_difference:.2g} of {seen.largest_logit:.2g}"


if __name__ == "__main__":
    main()
