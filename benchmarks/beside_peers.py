"""The front of a study beside what a user would have without a search: the untouched bases in each runtime's tools.

    python benchmarks/beside_peers.py STUDY [--rounds 40]

For a study on Fashion-MNIST. CPU time is a ratio to the plain ViT in fp32 in onnxruntime: in each round, blocks of
30 ms of all files follow each other in one process, in an order that is drawn anew; shown are the median over the
rounds and a 95 % interval of it (bootstrap over rounds). Accuracy is that on the 2,000 validation images, on which the
search has chosen, and on the official 10,000 test images, which only this program reads.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from runtimes import BASES, Row, Subject, base, block, onnxruntime_dynamic, opened, tool_defaults

from vitsearch.core.image_size import ImageSize
from vitsearch.core.plan import plan_text
from vitsearch.core.preprocessing import Preprocessing
from vitsearch.data.arrays import Floats
from vitsearch.data.fashion_mnist import DEBIAN_FOLDER, full_split, subset_split
from vitsearch.data.splits import Split
from vitsearch.data.tensors import to_tensor
from vitsearch.export import evaluate
from vitsearch.export.device_jobs import device_job
from vitsearch.storage.stores import store_of
from vitsearch.study.front import read_front
from vitsearch.study.lookup import opened as opened_study
from vitsearch_agent.artifacts import model_files

BOOTSTRAPS = 1000


@dataclass(frozen=True)
class Entry:
    """A file, and the size of the images that it takes."""

    what: str
    row: Row
    resolution: ImageSize


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("study")
    parser.add_argument("--rounds", type=int, default=40)
    options = parser.parse_args()
    torch.set_num_threads(1)
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    with tempfile.TemporaryDirectory() as folder:
        entries = [*untouched(Path(folder)), *stored_models(options.study)]
        times = relative_times(entries, options.rounds)
        splits = [subset_split("validation"), full_split(DEBIAN_FOLDER, "test")]
        print("| model | CPU time | 95 % | size MB | validation | test |\n|---|---|---|---|---|---|")
        for entry, ratios in zip(entries, times, strict=True):
            low, high = interval(ratios)
            size = sum(Path(file).stat().st_size for file in model_files(str(entry.row.path)).values()) / 1e6
            cells = [f"{statistics.median(ratios):.3f}", f"{low:.3f} to {high:.3f}", f"{size:.2f}"]
            accuracies = [f"{accuracy(entry, split):.4f}" for split in splits]
            print(f"| {' | '.join([entry.what, *cells, *accuracies])} |", flush=True)
    return 0


def untouched(folder: Path) -> Iterator[Entry]:
    """Every base as torch exports it, in each runtime as it is and quantized by the runtime's own tool."""
    for name in BASES:
        own = folder / name
        own.mkdir()
        subject: Subject = base(name)
        rows = [*tool_defaults(subject, own), onnxruntime_dynamic(own / "plain.onnx", own / "dynamic.onnx")]
        for row in rows:
            if row.path is not None and opened(row) is not None:
                yield Entry(f"{name} {row.runtime} {row.what}", row, ImageSize.square(28))


def stored_models(name: str) -> Iterator[Entry]:
    """The front of the study."""
    with opened_study(name) as (study, ledger):
        store = store_of(ledger)
        for point in read_front(study, ledger).points:
            artifact = ledger.artifact(point.keys.artifact_key or "")
            if artifact is None or not store.holds(artifact.sha256):
                continue
            options = tuple(artifact.detail.get("options", {}).items())
            job = device_job(point.plan.deployment.with_options(options))
            row = Row(point.plan.deployment.runtime, point.name, store.model(artifact.sha256), job)
            yield Entry(f"**{point.name}** {plan_text(point.plan)}", row, point.plan.resolution)


def relative_times(entries: list[Entry], rounds: int) -> list[list[float]]:
    """The CPU time of each entry over that of the first, in each round."""
    sessions = [opened(entry.row) for entry in entries]
    order, draw = list(range(len(entries))), random.Random(0)
    ratios: list[list[float]] = [[] for _ in entries]
    for _ in range(rounds):
        draw.shuffle(order)
        times = {index: block(session) for index in order if (session := sessions[index]) is not None}
        for index, seconds in times.items():
            ratios[index].append(seconds / times[0])
    return ratios


def interval(ratios: list[float]) -> tuple[float, float]:
    draw = random.Random(0)
    medians = sorted(statistics.median(draw.choices(ratios, k=len(ratios))) for _ in range(BOOTSTRAPS))
    return medians[round(0.025 * BOOTSTRAPS)], medians[round(0.975 * BOOTSTRAPS)]


def accuracy(entry: Entry, split: Split) -> float:
    assert entry.row.path is not None
    assert entry.row.job is not None
    logits = evaluate.logits(entry.row.path, batches(split, entry.resolution), 1, job=entry.row.job)
    return float((logits.argmax(1) == split.labels).mean())


def batches(split: Split, resolution: ImageSize) -> Iterator[Floats]:
    for start in range(0, len(split.images), 500):
        yield to_tensor(split.images[start : start + 500], resolution, Preprocessing((0.2860,), (0.3530,))).numpy()


if __name__ == "__main__":
    sys.exit(main())
