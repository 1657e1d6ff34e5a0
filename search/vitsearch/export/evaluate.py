"""Logits of an exported file, in the runtime that will serve it; the agent's own code runs it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
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


@dataclass(frozen=True, eq=False)
class OpenFile:
    """A file that a runtime has loaded.

    Attributes:
        session: It runs the file, one thread at a time.
        batch_size: The number of images of a run.
        job: What runs it, and how: in fp32 where this processor does not compute in the precision that was asked for.
    """

    session: Session
    batch_size: int
    job: DeviceJob

    def logits(self, images: Floats | Iterable[Floats]) -> Floats:
        """Run the file.

        Args:
            images: One array (n, channels, height, width), normalised, or several. Missing ones of the last run are
                zeros.

        Returns:
            float32 (n, ...), its outputs in the order of the images.

        Raises:
            StageError: `export`: the runtime refuses the images.
        """
        with _refusals():
            return np.concatenate(
                [self.session.infer(batch)[:count] for batch, count in _batches(images, self.batch_size)]
            )


def open_file(path: Path, batch_size: int, threads: int = 1, job: DeviceJob = ONNXRUNTIME) -> OpenFile:
    """Load a file for runs of `batch_size` images.

    Args:
        path: The file; those that belong to it lie beside it.
        batch_size: Of a run.
        threads: Of a run.
        job: What runs it.

    Returns:
        The file, ready to run.

    Raises:
        StageError: `export`: the runtime refuses the file.
    """
    with _refusals():
        try:
            return OpenFile(_open(path, batch_size, threads, job), batch_size, job)
        except MeasurementFailed as error:
            if error.kind != "runtime_unavailable" or job.options.get(ARITHMETIC) in (None, FP32):
                raise
            in_fp32 = replace(job, options=job.options | {ARITHMETIC: FP32})
            return OpenFile(_open(path, batch_size, threads, in_fp32), batch_size, in_fp32)


def logits(
    path: Path, images: Floats | Iterable[Floats], batch_size: int, threads: int = 1, job: DeviceJob = ONNXRUNTIME
) -> Floats:
    """Load a file and run it once over `images`: `open_file`, then `OpenFile.logits`."""
    return open_file(path, batch_size, threads, job).logits(images)


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
