"""Logits of an exported file in onnxruntime: accuracy is always that of what would be shipped."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray


def logits(path: Path, images: NDArray[np.float32], batch_size: int, threads: int = 1) -> NDArray[np.float32]:
    """(N, classes) for ``images`` (N, C, H, W), normalised, on the CPU."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    parts = [
        session.run(None, {name: images[start : start + batch_size]})[0] for start in range(0, len(images), batch_size)
    ]
    return np.concatenate(parts)
