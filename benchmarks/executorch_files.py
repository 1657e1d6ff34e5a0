"""ExecuTorch's files beside those of onnxruntime and LiteRT: parity, accuracy, CPU time, and CPU-seconds to make them.

    python benchmarks/executorch_files.py [--models NAME ...] [--rounds 12]

The three Fashion-MNIST bases, and a pruned plan of each with the refit and no training (a third of the heads, half of
the FFN channels), in fp32 and in static int8 of the usual form. CPU time as in `runtimes.py`: blocks of 30 ms of all
files of a model alternate in one process, over fp32 in onnxruntime, the median of the rounds. Accuracy is that of the
file in its own runtime on 2,000 validation images. What it takes to make a file has the comparison with torch in it.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from runtimes import BASES, Row, Subject, accuracy, base, cpu_times, opened, ours

from vitsearch import stages
from vitsearch.backbones.builtin import FASHION_MNIST
from vitsearch.core.image_size import ImageSize
from vitsearch.core.plan import Compression, Deployment, Plan, Recipe
from vitsearch.core.precisions import default_provider
from vitsearch.core.resolve import BlockStructure, Scores, resolve
from vitsearch.export import EXPORTERS
from vitsearch.stages.calibration import Calibration, Calibrations
from vitsearch.stages.parts import models
from vitsearch.storage.files import FileStore
from vitsearch.targets.executorch import shares as executorch

RUNTIMES = ("onnxruntime", "litert", "executorch")
PRECISIONS = ("fp32", "int8_ptq")
CUT = Compression(head_pruning_ratio=0.33, ffn_pruning_ratio=0.5)
CALIBRATION = Calibration(256, 0)
RECIPE = Recipe((0, 1), 4096, 64, 1e-4, 0.05, 8, 0.5, 2.0, seed=0)
DATA = {"source": "builtin:fashion-mnist-14k", "root": None, "image_size": None, "channels": None}
COLUMNS = [
    *("model", "runtime", "precision", "CPU time", "CPU ms", "accuracy", "parity", "in int8", "MB", "calls"),
    "CPU-s to make",
]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", nargs="+", default=list(BASES))
    parser.add_argument("--runtimes", nargs="+", default=list(RUNTIMES))
    parser.add_argument("--rounds", type=int, default=12)
    options = parser.parse_args()
    torch.set_num_threads(1)
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    print(f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|")
    for name in options.models:
        unpruned = base(name)
        for subject in (unpruned, pruned(unpruned)):
            with tempfile.TemporaryDirectory() as folder:
                files = files_of(subject, name, options.runtimes, Path(folder))
                report(subject, list(files), options.rounds)
    return 0


def pruned(unpruned: Subject) -> Subject:
    """The base without a third of its heads and half of its FFN channels, refitted in closed form."""
    name = unpruned.name
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        stores = FileStore(folder / "artifacts"), FileStore(folder / "scratch")
        workspace = stages.Workspace(DATA | {"validation_share": 0.1, "seed": 0}, *stores, folder / "cache")
        source = stages.Source(name, "builtin", ImageSize.square(28), FASHION_MNIST)
        stored = stages.BlockStructureJob(workspace, source, CALIBRATION).work()
        structure, scores = BlockStructure.from_json(stored.block_structure), Scores.from_json(stored.scores)
        fp32 = Deployment("local", "onnxruntime", "cpu", "fp32")
        plan = Plan(name, "builtin", ImageSize.square(28), None, CUT, "logits", RECIPE, (fp32,))
        resolved = resolve(plan, structure, scores)
        refit = Calibrations(refit=CALIBRATION)
        spec = stages.CompressionSpec(source, resolved, stored.statistics_sha256, calibrations=refit)
        return replace(unpruned, name=f"{name}, pruned", model=models.compressed(spec, workspace, None).eval())


def files_of(subject: Subject, backbone: str, runtimes: list[str], folder: Path) -> Iterator[Row]:
    for runtime in runtimes:
        if missing := EXPORTERS.get(runtime)().missing():
            yield Row(runtime, "", note=missing)
            continue
        for precision in PRECISIONS:
            deployment = Deployment("local", runtime, default_provider(runtime), precision, 1)
            yield ours(replace(subject, name=backbone), deployment, folder / f"{runtime}-{precision}")


def report(subject: Subject, rows: list[Row], rounds: int) -> None:
    sessions = {index: opened(row) for index, row in enumerate(rows) if row.job is not None}
    times = cpu_times({index: session for index, session in sessions.items() if session is not None}, rounds)
    for index, row in enumerate(rows):
        head = [subject.name, row.runtime, row.what]
        if row.path is None:
            print(f"| {' | '.join([*head, row.note])} |", flush=True)
            continue
        size = row.path.stat().st_size / 1e6
        session, calls = sessions.get(index), ""
        if session is not None and row.runtime == "executorch":
            counts = session.reported_options
            calls = f"{counts['delegate_calls']} + {counts['kernel_calls']}, {executorch.delegated(row.path):.0%}"
        cells = [
            f"{times[index].ratio:.3f}",
            f"{times[index].ms:.3f}",
            accuracy(subject, row),
            f"{row.parity:.1e}",
            "" if row.int8 is None else f"{row.int8:.0%}",
            f"{size:.2f}",
            calls,
            f"{row.export_s:.1f}",
        ]
        print(f"| {' | '.join([*head, *cells])} |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
