"""Nodes of exported files and what they cost: with and without simplification, and with a fixed and an open batch.

    python benchmarks/nodes.py                 fp32, batch 1: before and after, per family
    python benchmarks/nodes.py --batches       the three shipped bases: batch 1 beside an open one, per precision

Both files of a pair run in one process, in blocks of 30 ms in turn, on one core with one thread. A ratio is the median
over pairs of blocks of (median CPU time of the later file / of the earlier one), with its quartiles.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from unittest import mock

import numpy as np
import onnx
import onnxruntime as ort
import torch
from torch import nn

from vitsearch import backbones
from vitsearch.backbones import ModelSpec
from vitsearch.core.image_size import ImageSize
from vitsearch.core.plan import Deployment
from vitsearch.export.base import ExportTask
from vitsearch.export.deploy import deployed
from vitsearch.export.graph import onnx_file
from vitsearch.models.surgery import raise_layer_scales, redraw_zero_norms
from vitsearch.targets.onnxruntime import fusions
from vitsearch.targets.onnxruntime.exporter import OnnxRuntimeExporter

BASES = {"vit_fmnist_p4": 28, "efficientvit_fmnist": 28, "mobilevit_fmnist": 28}
UNTRAINED = {
    "deit_tiny_patch16_224": 112,
    "efficientvit_b0": 128,
    "levit_128s": 128,
    "mobilevit_xxs": 128,
    "swin_tiny_patch4_window7_224": 128,
    "tiny_vit_5m_224": 128,
    "efficientformerv2_s0": 128,
    "edgenext_xx_small": 128,
}
BLOCK_S = 0.03
PRECISIONS = ("fp32", "int8_dynamic", "int8_ptq")
CALIBRATION = 16


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", default=[*BASES, *UNTRAINED])
    parser.add_argument("--cycles", type=int, default=40)
    parser.add_argument("--cpu", type=int, default=max(os.sched_getaffinity(0)))
    parser.add_argument("--batches", action="store_true")
    options = parser.parse_args()
    os.sched_setaffinity(0, {options.cpu})
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        if options.batches:
            batches(Path(folder), options.cycles)
        else:
            families(options.names, Path(folder), options.cycles)


def families(names: list[str], folder: Path, cycles: int) -> None:
    """Before and after, at fp32 and batch 1."""
    print(
        "| model | pixels | nodes (without Constant) | after | plain file | as run: before | after | CPU after/before |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for name in names:
        model, shape = built(name)
        with unsimplified():
            before = export(model, shape, "fp32", 1, folder / f"{name}-before")
        after = export(model, shape, "fp32", 1, folder / f"{name}-after")
        nodes = onnx.load(before).graph.node
        plain = len(onnx.load(after.with_name("fp32.onnx")).graph.node)
        counts = (
            f"{len(nodes)} ({sum(node.op_type != 'Constant' for node in nodes)}) | {len(onnx.load(after).graph.node)}"
        )
        runs = f"{nodes_run(before, folder)} | {nodes_run(after, folder)}"
        print(
            f"| {name} | {shape[-1]} | {counts} | {plain} | {runs} | {ratio(before, after, shape, cycles)} |",
            flush=True,
        )


def batches(folder: Path, cycles: int) -> None:
    """A batch fixed to 1 beside an open one, and both beside the file before, which has an open batch."""
    print("| model | precision | nodes as run: open, before | open | batch 1 | open / before | batch 1 / open |")
    print("|---|---|---|---|---|---|---|")
    for name in BASES:
        model, shape = built(name)
        for precision in PRECISIONS:
            with unsimplified():
                before = export(model, shape, precision, None, folder / f"{name}-{precision}-before")
            opened = export(model, shape, precision, None, folder / f"{name}-{precision}-open")
            fixed = export(model, shape, precision, 1, folder / f"{name}-{precision}-1")
            runs = " | ".join(str(nodes_run(path, folder)) for path in (before, opened, fixed))
            pairs = f"{ratio(before, opened, shape, cycles)} | {ratio(opened, fixed, shape, cycles)}"
            print(f"| {name} | {precision} | {runs} | {pairs} |", flush=True)


def built(name: str) -> tuple[nn.Module, tuple[int, ...]]:
    """The model as it ships, and the shape of an image."""
    backbone = backbones.find(name)
    if name in BASES:
        spec = ModelSpec(name, "builtin", ImageSize.square(BASES[name]), 10, 1)
    else:
        spec = ModelSpec(name, "none", ImageSize.square(UNTRAINED[name]), 10, 3)
    torch.manual_seed(0)
    model = backbone.build(spec).model.eval()
    if name not in BASES:
        redraw_zero_norms(model)
        raise_layer_scales(model)
    shape = (1, spec.channels, *spec.resolution.sides)
    return deployed(model, backbone, shape), shape


@contextmanager
def unsimplified() -> Iterator[None]:
    """Export as torch's exporter does it."""
    with ExitStack() as changes:
        changes.enter_context(mock.patch.object(onnx_file, "simplify", return_value=None))
        changes.enter_context(mock.patch.object(onnx_file, "export_forms", nullcontext))
        changes.enter_context(mock.patch.object(fusions, "fuse", return_value=None))
        yield


def export(model: nn.Module, shape: tuple[int, ...], precision: str, batch: int | None, folder: Path) -> Path:
    folder.mkdir()
    images = np.random.default_rng(0).standard_normal((CALIBRATION, *shape[1:])).astype(np.float32)
    task = ExportTask("", Deployment("here", "onnxruntime", "cpu", precision, batch), images)
    return OnnxRuntimeExporter().export(model, task, folder).path


def session(path: Path, optimized: Path | None = None) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    if optimized is not None:
        options.log_severity_level = 4  # it warns that the file is for this processor
        options.optimized_model_filepath = str(optimized)
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def nodes_run(path: Path, folder: Path) -> int:
    """The number of nodes that onnxruntime makes of the file."""
    session(path, folder / "optimized.onnx")
    return len(onnx.load(folder / "optimized.onnx").graph.node)


def ratio(earlier: Path, later: Path, shape: tuple[int, ...], cycles: int) -> str:
    """The CPU time of the later file over that of the earlier one."""
    images = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    sessions = session(earlier), session(later)
    ratios = []
    for cycle in range(cycles):
        order = (0, 1) if cycle % 2 else (1, 0)
        times = {index: block(sessions[index], images) for index in order}
        ratios.append(times[1] / times[0])
    low, _, high = statistics.quantiles(ratios, n=4)
    return f"{statistics.median(ratios):.3f} ({low:.3f} to {high:.3f})"


def block(runs: ort.InferenceSession, images: np.ndarray) -> float:
    """The median CPU time of a run, in ns."""
    for _ in range(2):
        runs.run(None, {"images": images})
    times: list[int] = []
    end = time.perf_counter() + BLOCK_S
    while len(times) < 3 or time.perf_counter() < end:
        begin = time.thread_time_ns()
        runs.run(None, {"images": images})
        times.append(time.thread_time_ns() - begin)
    return statistics.median(times)


if __name__ == "__main__":
    main()
