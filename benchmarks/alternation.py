"""Whether alternating with the reference models changes the time of a model: CPU time, five models, one process each.

python benchmarks/alternation.py

In each cycle a block of the model follows another block of it (steady), and one follows a reference model after 6 to
40 ms that are not counted (alternating), as in a measurement. The blocks of a cycle are some 50 ms apart, so what else
the machine does slows both alike. Alternating over steady has to be within 2 %.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from agent_vs_loop import MODELS, export

MOST = 0.02
RESAMPLES = 1000


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cycles", type=int, default=60)
    parser.add_argument("--processes", type=int, default=3)
    parser.add_argument("--cpu", type=int, default=max(os.sched_getaffinity(0)))
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child is not None:
        print(" ".join(str(ratio) for ratio in ratios(options.child, options.cycles)))
        return 0
    os.sched_setaffinity(0, {options.cpu})
    met = []
    print("| model | alternating over steady | 95 % |\n|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name in MODELS:
            file = str(export(name, Path(folder)))
            command = [sys.executable, __file__, "--cycles", str(options.cycles), "--child", file]
            outputs = [subprocess.check_output(command, text=True) for _ in range(options.processes)]
            series = [[float(word) for word in output.split()] for output in outputs]
            middle, low, high = interval(series)
            met.append(abs(middle - 1) <= MOST)
            print(f"| {name} | {middle - 1:+.1%} | {low - 1:+.1%} to {high - 1:+.1%} |{'' if met[-1] else ' MISSED'}")
    return 0 if all(met) else 1


def ratios(path: Path, cycles: int) -> list[float]:
    """The ratio of an alternating block to a steady one, for each cycle."""
    from vitsearch_agent.measure.child.bursts import (
        BLOCK_MINIMUM_RUNS,
        BLOCK_S,
        REFERENCE_SETTLE_S,
        Timed,
        settle_s,
    )
    from vitsearch_agent.measure.child.timed_loop import Clocks, gc_disabled, timed_runs
    from vitsearch_agent.runtimes import create, reference_models

    runtime, clocks = create("onnxruntime"), Clocks()
    options = runtime.check_options({})
    model = Timed(runtime.load(str(path), options, 1, 1, {}).run, settle_s(path.stat().st_size))
    with tempfile.TemporaryDirectory() as folder:
        files = reference_models.write(folder)
        references = [Timed(runtime.load(file, options, 1, 1, {}).run, REFERENCE_SETTLE_S) for file in files]

    def block(timed: Timed) -> float:
        timed_runs(timed.run, clocks, lambda done, passed_s: done == 0 or passed_s < timed.settle_s)
        block_ratios = timed_runs(
            timed.run, clocks, lambda done, passed_s: done < BLOCK_MINIMUM_RUNS or passed_s < BLOCK_S
        )
        return statistics.median(block_ratios.cpu_ms)

    block_ratios = []
    with gc_disabled():
        for cycle in range(cycles + 3):
            block(model)
            steady = block(model)
            block(references[cycle % 2])
            block_ratios.append(block(model) / steady)
    return block_ratios[3:]


def interval(series: list[list[float]]) -> tuple[float, float, float]:
    """The median of all cycles, and the 95 % interval of a bootstrap over cycles within each process."""
    draw = random.Random(0)
    medians = sorted(
        statistics.median(
            [ratio for block_ratios in series for ratio in draw.choices(block_ratios, k=len(block_ratios))]
        )
        for _ in range(RESAMPLES)
    )
    middle = statistics.median([ratio for block_ratios in series for ratio in block_ratios])
    return middle, medians[RESAMPLES // 40], medians[-RESAMPLES // 40]


if __name__ == "__main__":
    sys.exit(main())
