"""Logits of an exported file, computed by the runtime that will serve it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from vitsearch.models.graph import INPUT, OUTPUT

Floats = NDArray[np.float32]
FATAL_ONLY = 4


def logits(onnx_path: Path, images: Floats | Iterable[Floats], batch_size: int, threads: int = 1) -> Floats:
    """Logits, float32 (n, classes), of ``images``: one array (n, channels, height, width), normalised, or several.

    At most ``batch_size`` images are run at once.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = FATAL_ONLY
    session = ort.InferenceSession(str(onnx_path), options, providers=["CPUExecutionProvider"])
    parts = [session.run([OUTPUT], {INPUT: batch})[0] for batch in _batches(images, batch_size)]
    return np.concatenate(parts)


def _batches(images: Floats | Iterable[Floats], batch_size: int) -> Iterator[Floats]:
    for array in [images] if isinstance(images, np.ndarray) else images:
        for start in range(0, len(array), batch_size):
            yield np.ascontiguousarray(array[start : start + batch_size], dtype=np.float32)
