"""What each runtime makes of the same models: CPU time beside onnxruntime's fp32, accuracy, size, parity, int8 share.

python benchmarks/runtimes.py bases           the three Fashion-MNIST bases, beside what each tool makes by its defaults
python benchmarks/runtimes.py families        five untrained models at their own resolution; coreml is written, not run
python benchmarks/runtimes.py quantized_ops   two bases with convolutions, int8 without and with them
    [--models NAME ...] [--runtimes NAME ...] [--rounds 8]

CPU time is a ratio: in each round, blocks of 30 ms of all files of a model follow each other in one process, in an
order that is drawn anew; it is the median over the rounds of block over block. CPU ms is the median over the rounds of
the block itself. Accuracy is that of the file on the
2,000 validation images, at batch 1. Every file is loaded and run by the agent's own code with one thread.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import os
import random
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from measured_file import measure_file
from torch import nn

from vitsearch import backbones, data
from vitsearch.backbones.builtin import BUILTIN
from vitsearch.core.image_size import ImageSize
from vitsearch.core.legality import possible_ops
from vitsearch.core.plan import Deployment, precision_text
from vitsearch.core.precisions import MIXED, TRAINED, default_provider, precisions_on
from vitsearch.core.preprocessing import Preprocessing
from vitsearch.data.arrays import Floats
from vitsearch.data.tensors import to_tensor
from vitsearch.errors import StageError, VitsearchError
from vitsearch.export import EXPORTERS, ExportTask, converters, deploy, evaluate, precision_shares
from vitsearch.export.device_jobs import DeviceJob
from vitsearch.models.surgery import raise_layer_scales
from vitsearch.stages.parts.exporting import write
from vitsearch_agent import runtimes
from vitsearch_agent.artifacts import model_files
from vitsearch_agent.errors import MeasurementFailed
from vitsearch_agent.runtimes.base import Session
from vitsearch_agent.wire.measure_protocol import ONE_PROCESS

BASES = ("vit_fmnist_p4", "efficientvit_fmnist", "mobilevit_fmnist")
FAMILIES = (
    "deit_tiny_patch16_224",
    "mobilevit_xxs",
    "efficientvit_b0",
    "levit_128s",
    "swin_tiny_patch4_window7_224",
)
CONVOLUTIONAL = BASES[1:]
AI_EDGE_SCRIPT = Path(__file__).with_name("ai_edge_default.py")
RUN_HERE = ("onnxruntime", "openvino", "litert", "executorch")
FLOATS_AND_STATIC = ("fp32", "bf16", "int8_ptq")
MODELS = {"bases": BASES, "families": FAMILIES, "quantized_ops": CONVOLUTIONAL}
BLOCK_S, SETTLE_S = 0.03, 0.02
CALIBRATION = 64
MEMORY = ONE_PROCESS._replace(min_s=0.1, warmup_min_s=0.05)
COLUMNS = [
    *("model", "runtime", "file", "CPU time", "CPU ms", "accuracy", "MB", "parity", "in int8", "memory MB", "export s")
]


@dataclass(frozen=True)
class Subject:
    """A model with calibration images and, for the bases, validation images and labels."""

    name: str
    model: nn.Module
    images: Floats
    validation: Floats | None = None
    labels: np.ndarray | None = None


@dataclass(frozen=True)
class Row:
    """One file; `path` is None where `note` says why there is none, `job` where its runtime is not here."""

    runtime: str
    what: str
    path: Path | None = None
    job: DeviceJob | None = None
    parity: float = 0.0
    int8: float | None = None
    export_s: float = 0.0
    note: str = ""


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=["bases", "families", "quantized_ops"])
    parser.add_argument("--models", nargs="+")
    parser.add_argument("--runtimes", nargs="+", default=list(RUN_HERE))
    parser.add_argument("--rounds", type=int, default=8)
    options = parser.parse_args()
    torch.set_num_threads(1)
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    print(f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|")
    for name in options.models or MODELS[options.what]:
        with tempfile.TemporaryDirectory() as folder:
            subject = base(name) if name in BUILTIN else untrained(name)
            rows = list(files_of(subject, options.runtimes, Path(folder), options.what))
            report(subject, rows, options.rounds)
    return 0


def base(name: str) -> Subject:
    family = backbones.find(name)
    model = family.build(backbones.ModelSpec(name, "builtin", ImageSize.square(28), 10, 1)).model.eval()
    with tempfile.TemporaryDirectory() as cache:
        images = data.load(data.DataSpec.from_json({"source": "builtin:fashion-mnist-14k"}), Path(cache))
    rows = np.random.default_rng(0).permutation(len(images.train))[:CALIBRATION]
    drawn = to_tensor(images.train.images[rows], ImageSize.square(28), Preprocessing(images.mean, images.std)).numpy()
    validation = to_tensor(
        images.validation.images, ImageSize.square(28), Preprocessing(images.mean, images.std)
    ).numpy()
    ships = deploy.deployed(model, family, (1, 1, 28, 28))
    return Subject(name, ships, drawn, validation, np.asarray(images.validation.labels))


def untrained(name: str) -> Subject:
    family = backbones.find(name)
    size = family.native_resolution(name)
    model = family.build(backbones.ModelSpec(name, "none", size, 1000, 3)).model.eval()
    raise_layer_scales(model)
    images = torch.randn(4, 3, *size.sides, generator=torch.Generator().manual_seed(0)).numpy()
    return Subject(name, deploy.deployed(model, family, (1, 3, *size.sides)), images)


def files_of(subject: Subject, names: list[str], folder: Path, what: str) -> Iterator[Row]:
    """Our files; of the bases then those that the tools make by their defaults from the same fp32 file."""
    for runtime in names:
        if missing := EXPORTERS.get(runtime)().missing():
            yield Row(runtime, "", note=missing)
            continue
        provider = default_provider(runtime)
        precisions = [name for name in precisions_on(runtime, provider) if name not in TRAINED | MIXED]
        if what == "quantized_ops":
            precisions = [precision for precision in precisions if precision in FLOATS_AND_STATIC]
        for precision in precisions:
            for ops in possible_ops(subject.name, runtime, provider, precision, backbones.supports) or (None,):
                deployment = Deployment("local", runtime, provider, precision, 1, ops)
                yield ours(subject, deployment, folder / f"{runtime}-{precision}-{ops}")
    if what == "bases":
        yield from tool_defaults(subject, folder)
        if "litert" in names and not EXPORTERS.get("litert")().missing():
            yield litert_default(subject, folder / "litert-default")


def ours(subject: Subject, deployment: Deployment, folder: Path) -> Row:
    folder.mkdir()
    runtime, what = deployment.runtime, precision_text(deployment.precision, deployment.quantized_ops)
    family = backbones.find(subject.name).family
    begin = time.process_time()
    try:
        written = write(subject.model, ExportTask(family, deployment, subject.images), folder)
    except VitsearchError as error:
        return Row(runtime, what, note=str(error))
    path, job = evaluate.judging_job(written.file, deployment)
    kept = precision_shares.by_precision(written.file, deployment)
    int8 = kept.get("int8", 0.0) if kept else None
    if job.runtime != runtime:  # another runtime stands in to judge it
        return Row(runtime, what, written.file.path, None, written.parity, int8, time.process_time() - begin)
    return Row(runtime, what, path, job, written.parity, int8, time.process_time() - begin)


def tool_defaults(subject: Subject, folder: Path) -> Iterator[Row]:
    """From the file that torch's exporter writes, as a user would."""
    plain = folder / "plain.onnx"
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            subject.model,
            (torch.zeros(1, *subject.images.shape[1:]),),
            str(plain),
            dynamo=False,
            opset_version=17,
            input_names=["images"],
            output_names=["logits"],
        )
    yield Row("onnxruntime", "untouched", plain, DeviceJob("onnxruntime", {}))
    yield Row("openvino", "untouched, defaults", plain, DeviceJob("openvino", {"inference_precision": "auto"}))
    yield onnxruntime_static(subject, plain, folder / "static.onnx")
    yield nncf_default(subject, plain, folder / "nncf.xml")


def onnxruntime_static(subject: Subject, plain: Path, path: Path) -> Row:
    from onnxruntime.quantization import CalibrationDataReader, quantize_static

    class Images(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left = iter(subject.images)

        def get_next(self) -> dict[str, Floats] | None:
            image = next(self.left, None)
            return None if image is None else {"images": image[None]}

    quantize_static(str(plain), str(path), Images())
    return Row("onnxruntime", "quantize_static, defaults", path, DeviceJob("onnxruntime", {}))


def onnxruntime_dynamic(plain: Path, path: Path) -> Row:
    from onnxruntime.quantization import quantize_dynamic

    quantize_dynamic(str(plain), str(path))
    return Row("onnxruntime", "quantize_dynamic, defaults", path, DeviceJob("onnxruntime", {}))


def nncf_default(subject: Subject, plain: Path, path: Path) -> Row:
    os.environ["NNCF_CI"] = "1"
    import nncf
    import openvino

    nncf.set_log_level(logging.ERROR)
    images = nncf.Dataset([{"images": image[None]} for image in subject.images])
    with contextlib.redirect_stdout(io.StringIO()):
        model = nncf.quantize(openvino.Core().read_model(plain), images, subset_size=len(subject.images))
    openvino.save_model(model, path, compress_to_fp16=False)
    return Row("openvino", "NNCF, defaults", path, DeviceJob("openvino", {"inference_precision": "auto"}))


def litert_default(subject: Subject, folder: Path) -> Row:
    """What ai-edge-quantizer makes of the fp32 file of litert-torch by the recipe of its own examples."""
    what = "ai-edge-quantizer, dynamic_wi8_afp32"
    plain = ours(subject, Deployment("local", "litert", default_provider("litert"), "fp32", 1), folder)
    if plain.path is None:
        return Row("litert", what, note=plain.note)
    path = folder / "default.tflite"
    try:
        converters.call(converters.python_of("litert"), AI_EDGE_SCRIPT, [plain.path, path])
    except StageError as error:
        return Row("litert", what, note=str(error))
    return Row("litert", what, path, plain.job)


def report(subject: Subject, rows: list[Row], rounds: int) -> None:
    sessions = {index: opened(row) for index, row in enumerate(rows) if row.job is not None}
    times = cpu_times({index: session for index, session in sessions.items() if session is not None}, rounds)
    for index, row in enumerate(rows):
        head = [subject.name, row.runtime, row.what]
        if row.path is None:
            print(f"| {' | '.join([*head, row.note])} |", flush=True)
            continue
        runs = index in times
        size = sum(Path(file).stat().st_size for file in model_files(str(row.path)).values()) / 1e6
        cells = [
            f"{times[index].ratio:.3f}" if runs else "not run",
            f"{times[index].ms:.3f}" if runs else "",
            accuracy(subject, row) if runs else "",
            f"{size:.2f}",
            f"{row.parity:.1e}" if row.parity else "",
            "" if row.int8 is None else f"{row.int8:.0%}",
            memory_mb(row) if runs else "",
            f"{row.export_s:.1f}" if row.export_s else "",
        ]
        print(f"| {' | '.join([*head, *cells])} |", flush=True)


def opened(row: Row) -> Session | None:
    assert row.path is not None
    assert row.job is not None
    runtime = runtimes.create(row.job.runtime)
    try:
        return runtime.load(str(row.path), runtime.check_options(row.job.options), 1, 1, {})
    except MeasurementFailed:
        return None


@dataclass(frozen=True)
class CpuTime:
    """Of one run, in milliseconds, and over that of fp32 in onnxruntime."""

    ms: float
    ratio: float


def cpu_times(sessions: dict[int, Session], rounds: int) -> dict[int, CpuTime]:
    """The CPU time of each session; the first is fp32 in onnxruntime."""
    series: dict[int, list[tuple[float, float]]] = {index: [] for index in sessions}
    order, draw = list(sessions), random.Random(0)
    for _ in range(rounds):
        draw.shuffle(order)
        times = {index: block(sessions[index]) for index in order}
        for index, seconds in times.items():
            series[index].append((seconds, seconds / times[min(sessions)]))
    medians = {index: map(statistics.median, zip(*pairs, strict=True)) for index, pairs in series.items()}
    return {index: CpuTime(1000.0 * seconds, ratio) for index, (seconds, ratio) in medians.items()}


def block(session: Session) -> float:
    """CPU seconds of one run, the mean of a block; the first runs after a switch are not counted."""
    begin, runs = time.perf_counter(), 0
    while runs < 1 or time.perf_counter() - begin < SETTLE_S:
        session.run()
        runs += 1
    begin, cpu, runs = time.perf_counter(), time.process_time(), 0
    while runs < 3 or time.perf_counter() - begin < BLOCK_S:
        session.run()
        runs += 1
    return (time.process_time() - cpu) / runs


def accuracy(subject: Subject, row: Row) -> str:
    if subject.validation is None or row.path is None or row.job is None:
        return ""
    logits = evaluate.logits(row.path, subject.validation, 1, job=row.job)
    return f"{float((logits.argmax(1) == subject.labels).mean()):.4f}"


def memory_mb(row: Row) -> str:
    """Peak memory of a fresh process above that of its runtime, as the agent measures it."""
    assert row.path is not None
    assert row.job is not None
    measurement = measure_file(row.path, row.job, MEMORY)
    return "" if measurement.peak_memory_mb is None else f"{measurement.peak_memory_mb:.0f}"


if __name__ == "__main__":
    sys.exit(main())
