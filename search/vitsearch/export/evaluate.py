"""Logits and latency of an exported file, in the runtime that will serve it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from vitsearch.models.graph import INPUT, OUTPUT

Floats = NDArray[np.float32]
FATAL_ONLY = 4
RUNS = 5


def logits(onnx_path: Path, images: Floats | Iterable[Floats], batch_size: int, threads: int = 1) -> Floats:
    """Logits, float32 (n, classes), of ``images``: one array (n, channels, height, width), normalised, or several.

    At most ``batch_size`` images are run at once.
    """
    session = _session(onnx_path, threads)
    parts = [session.run([OUTPUT], {INPUT: batch})[0] for batch in _batches(images, batch_size)]
    return np.concatenate(parts)


def latency_ms(onnx_path: Path, images: Floats, threads: int = 1) -> float:
    """Median wall time of :data:`RUNS` runs on this machine, after a first one; ``images`` are one batch."""
    session = _session(onnx_path, threads)
    session.run([OUTPUT], {INPUT: images})
    seconds = []
    for _ in range(RUNS):
        begin = perf_counter()
        session.run([OUTPUT], {INPUT: images})
        seconds.append(perf_counter() - begin)
    return 1e3 * median(seconds)


def _session(onnx_path: Path, threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = FATAL_ONLY
    return ort.InferenceSession(str(onnx_path), options, providers=["CPUExecutionProvider"])


def _batches(images: Floats | Iterable[Floats], batch_size: int) -> Iterator[Floats]:
    for array in [images] if isinstance(images, np.ndarray) else images:
        for start in range(0, len(array), batch_size):
            yield np.ascontiguousarray(array[start : start + batch_size], dtype=np.float32)
