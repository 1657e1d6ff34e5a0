"""Print what several runs in flight give, each runtime in its own way beside a loaded model for each run.

A stream is a thread that runs the model again and again. `shared` is `load_streams` of a runtime of the agent: requests
to one compiled model of OpenVINO, one session of onnxruntime. `own` loads the model for each stream. Every form runs
for `--block` seconds in turn, so that all meet the same machine; medians and quartiles of the blocks.

    python benchmarks/streams.py model.onnx --streams 2 --blocks 40
"""

from __future__ import annotations

import argparse
import statistics
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vitsearch_agent.runtimes import create
from vitsearch_agent.runtimes.base import Runtime, Session
from vitsearch_agent.wire.measure_protocol import Shapes

WARM_BLOCKS = 3


@dataclass(frozen=True)
class Block:
    """What one form did in one block.

    Attributes:
        runs_per_s: Of all streams together.
        latency_ms: The median of the runs.
    """

    runs_per_s: float
    latency_ms: float


def block_of(sessions: Sequence[Session], seconds: float) -> Block:
    """Run every session in a thread of its own for some seconds."""
    gate = threading.Barrier(len(sessions))
    latencies_ms: list[float] = []

    def stream(session: Session) -> None:
        gate.wait()
        start = before = time.perf_counter()
        while before - start < seconds:
            session.run()
            after = time.perf_counter()
            latencies_ms.append((after - before) * 1e3)
            before = after

    threads = [threading.Thread(target=stream, args=(session,)) for session in sessions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return Block(len(latencies_ms) / seconds, statistics.median(latencies_ms))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", help="an ONNX file")
    parser.add_argument("--streams", type=int, default=2)
    parser.add_argument("--blocks", type=int, default=40)
    parser.add_argument("--block", type=float, default=0.15, help="seconds of a block")
    options = parser.parse_args()
    forms: dict[str, Sequence[Session]] = {}
    for name in ("onnxruntime", "openvino"):
        runtime = create(name)
        model: tuple[str, dict[str, Any], int, int, Shapes] = (options.model, runtime.check_options({}), 1, 1, {})
        forms[f"{name}, one run"] = [runtime.load(*model)]
        forms[f"{name}, own"] = Runtime.load_streams(runtime, *model, options.streams)
        forms[f"{name}, shared"] = runtime.load_streams(*model, options.streams)
    blocks: dict[str, list[Block]] = {name: [] for name in forms}
    for number in range(WARM_BLOCKS + options.blocks):
        for name, sessions in forms.items():
            block = block_of(sessions, options.block)
            if number >= WARM_BLOCKS:
                blocks[name].append(block)
    for name, seen in blocks.items():
        low, middle, high = statistics.quantiles([block.runs_per_s for block in seen], n=4)
        latency_ms = statistics.median(block.latency_ms for block in seen)
        print(f"{name:24s} {middle:6.0f} runs/s ({low:.0f} to {high:.0f}), median latency {latency_ms:.3f} ms")


if __name__ == "__main__":
    main()
