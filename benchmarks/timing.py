"""CPU time of several ONNX files in one process, shared by the benchmarks.

Rounds are interleaved (every file runs once in each), so that a change of the machine's speed affects all files alike.
One thread, process CPU time, median over rounds.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnxruntime

WARM_UP, ROUNDS, RUNS = 5, 60, 5
"""`RUNS` consecutive runs are timed together, because one may be shorter than the resolution of the clock."""


def cpu_ms(files: Mapping[str, Path], rounds: int = ROUNDS) -> dict[str, float]:
    """Median CPU milliseconds of one inference at batch 1, by the name of the file."""
    sessions = {name: _session(path) for name, path in files.items()}
    seen: dict[str, list[float]] = {name: [] for name in sessions}
    for round_ in range(WARM_UP + rounds):
        for name, (session, feed) in sessions.items():
            start = time.process_time()
            for _ in range(RUNS):
                session.run(None, feed)
            if round_ >= WARM_UP:
                seen[name].append(1e3 * (time.process_time() - start) / RUNS)
    return {name: float(np.median(times)) for name, times in seen.items()}


def _session(path: Path) -> tuple[onnxruntime.InferenceSession, dict[str, np.ndarray]]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    (image,) = session.get_inputs()
    shape = [1 if not isinstance(size, int) else size for size in image.shape]
    return session, {image.name: np.random.default_rng(0).normal(size=shape).astype(np.float32)}
