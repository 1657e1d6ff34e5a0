"""Logits of an exported file, in the runtime that will serve it; the agent's own code runs it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitsearch.core.plan import Deployment
from vitsearch.errors import StageError
from vitsearch.export.base import ExportedFile
from vitsearch.export.device_jobs import DeviceJob, device_job
from vitsearch_agent import runtimes
from vitsearch_agent.errors import MeasurementFailed
from vitsearch_agent.runtimes.base import Session

Floats = NDArray[np.float32]
RUNS = 5
CPU = "cpu"
ARITHMETIC, FP32 = "inference_precision", "f32"
"""OpenVINO's option of a run, and the value that every processor has."""
ONNXRUNTIME = DeviceJob("onnxruntime", {})


def judging_job(file: ExportedFile, deployment: Deployment) -> tuple[Path, DeviceJob]:
    """The file whose logits stand for those of `file`, and how the CPU of this machine runs it."""
    if file.judged is not None:
        return file.judged, ONNXRUNTIME
    return file.path, device_job(replace(deployment, provider=CPU).with_options(file.options))


def logits(
    path: Path, images: Floats | Iterable[Floats], batch_size: int, threads: int = 1, job: DeviceJob = ONNXRUNTIME
) -> Floats:
    """Logits, float32 (n, classes), of `images`: one array (n, channels, height, width), normalised, or several.

    `batch_size` images are run at once; missing ones of the last run are zeros. A processor that does not compute in
    the precision of the job does so in fp32. `StageError` `export` when the runtime refuses the file or the
    images.
    """
    with _refusals():
        try:
            session = _open(path, batch_size, threads, job)
        except MeasurementFailed as error:
            if error.kind != "runtime_unavailable" or job.options.get(ARITHMETIC) in (None, FP32):
                raise
            session = _open(path, batch_size, threads, replace(job, options=job.options | {ARITHMETIC: FP32}))
        return np.concatenate([session.infer(batch)[:count] for batch, count in _batches(images, batch_size)])


def latency_ms(path: Path, images: Floats, threads: int = 1, job: DeviceJob = ONNXRUNTIME) -> float:
    """Median wall time in ms of `RUNS` runs on this machine, after a first one; `images` (batch, channels, height,
    width), normalised, are one batch.

    `StageError` `export` as for `logits`, and where the processor lacks the precision of the job.
    """
    with _refusals():
        session = _open(path, len(images), threads, job)
        session.infer(images)
        seconds = []
        for _ in range(RUNS):
            begin = perf_counter()
            session.infer(images)
            seconds.append(perf_counter() - begin)
    return 1e3 * median(seconds)


@contextmanager
def _refusals() -> Iterator[None]:
    """A refusal of the runtime as a failure of the export."""
    try:
        yield
    except MeasurementFailed as error:
        raise StageError("export", error.kind, str(error)) from error


def _open(path: Path, batch_size: int, threads: int, job: DeviceJob) -> Session:
    runtime = runtimes.create(job.runtime)
    options: Mapping[str, Any] = runtime.check_options(job.options)
    return runtime.load(str(path), options, threads, batch_size, {})


def _batches(images: Floats | Iterable[Floats], batch_size: int) -> Iterator[tuple[Floats, int]]:
    """Full batches, with the number of real images in each."""
    for array in [images] if isinstance(images, np.ndarray) else images:
        for start in range(0, len(array), batch_size):
            batch = np.ascontiguousarray(array[start : start + batch_size], dtype=np.float32)
            count = len(batch)
            if count < batch_size:
                batch = np.concatenate([batch, np.zeros((batch_size - count, *batch.shape[1:]), np.float32)])
            yield batch, count
