"""Whether the agent measures what a bare loop over the same file takes: CPU time, median of medians, 5 models.

python benchmarks/agent_vs_loop.py
python benchmarks/agent_vs_loop.py --rounds 31 --cpu 1

The agent's processes and the loop's (this file with --loop) take turns, in another order in each
round, on the same core; both run a model as often, after as much warm-up (the agent goes on with its
until times have settled). Where OpenVINO is
installed its benchmark_app's median is shown beside: wall time, of another engine, for information.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from vitsearch_evaluators.embedded import EmbeddedAgent
from vitsearch_evaluators.protocol import SCREEN

MODELS = {
    "vit_fmnist_p4": (28, 1),
    "mobilevit_fmnist": (28, 1),
    "efficientvit_fmnist": (28, 1),
    "levit_128s": (64, 3),
    "deit_tiny_patch16_224": (224, 3),
}
"""Name -> pixels and channels; random weights: time does not depend on them."""
WARM_UP_RUNS, WARM_UP_S, RUNS, SECONDS = 20, 0.3, 100, 60.0
PROTOCOL = SCREEN._replace(
    id="loop", warmup_min_runs=WARM_UP_RUNS, warmup_min_s=WARM_UP_S, min_runs=RUNS, min_s=SECONDS
)
MOST = 0.02
RESAMPLES = 2000


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--cpu", type=int, default=max(os.sched_getaffinity(0)))
    parser.add_argument("--loop", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.loop:
        print(json.dumps(loop(asked.loop)))
        return 0
    os.sched_setaffinity(0, {asked.cpu})
    with tempfile.TemporaryDirectory() as folder:
        files = {name: export(name, Path(folder)) for name in MODELS}
        found = {name: compare(path, Path(folder), asked.rounds) for name, path in files.items()}
        print(
            "| model | loop, CPU ms | agent, CPU ms | agent over loop | 95 % | benchmark_app, ms |\n" + "|---" * 6 + "|"
        )
        for name, (loops, agents) in found.items():
            ratio, low, high = ratio_of(loops, agents)
            shown = f"{statistics.median(loops):.4f} | {statistics.median(agents):.4f} | {ratio - 1:+.1%}"
            print(f"| {name} | {shown} | {low - 1:+.1%} to {high - 1:+.1%} | {benchmark_app(files[name])} |")
    return sum(abs(ratio_of(*pair)[0] - 1) > MOST for pair in found.values())


def export(name: str, folder: Path) -> Path:
    import torch

    from vitsearch import backbones
    from vitsearch.export.onnx_file import OnnxExporter

    pixels, channels = MODELS[name]
    torch.manual_seed(0)
    model = backbones.find(name).build(backbones.ModelSpec(name, "none", pixels, 10, channels)).model.eval()
    OnnxExporter().export(model, (1, channels, pixels, pixels), folder / f"{name}.onnx")
    return folder / f"{name}.onnx"


def loop(path: Path) -> float:
    """What anyone would write: the median CPU milliseconds of a run, settings and numbers of runs as the agent's."""
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    (image,) = session.get_inputs()
    feed = {image.name: np.random.default_rng(0).normal(size=[1, *image.shape[1:]]).astype(np.float32)}
    warm, warmed = time.perf_counter() + WARM_UP_S, 0
    while warmed < WARM_UP_RUNS or time.perf_counter() < warm:
        session.run(None, feed)
        warmed += 1
    took = []
    for _ in range(RUNS):
        start = time.process_time()
        session.run(None, feed)
        took.append(1e3 * (time.process_time() - start))
    return statistics.median(took)


def compare(path: Path, folder: Path, rounds: int) -> tuple[list[float], list[float]]:
    """Medians of the loop's processes and of the agent's, one of each in every round."""
    loops: list[float] = []
    agents: list[float] = []
    with EmbeddedAgent(str(folder / "agent")) as agent, agent.client("benchmark") as client:
        client.upload(str(path))

        def by_loop(_: int) -> None:
            command = [sys.executable, __file__, "--loop", str(path)]
            loops.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))

        def by_agent(number: int) -> None:
            agents.append(client.measure(str(path), "onnxruntime", {}, PROTOCOL, repeat=number).cpu_ms.p50)

        for number in range(rounds):
            for take in (by_loop, by_agent) if number % 2 else (by_agent, by_loop):
                take(number)
    return loops, agents


def ratio_of(loops: list[float], agents: list[float]) -> tuple[float, float, float]:
    """Median of medians over median of medians, with the 95 % interval of drawing rounds anew."""
    generator = random.Random(0)
    pairs = list(zip(loops, agents, strict=True))

    def ratio(drawn: list[tuple[float, float]]) -> float:
        return statistics.median(b for _, b in drawn) / statistics.median(a for a, _ in drawn)

    ratios = sorted(ratio(generator.choices(pairs, k=len(pairs))) for _ in range(RESAMPLES))
    return ratio(pairs), ratios[int(0.025 * RESAMPLES)], ratios[int(0.975 * RESAMPLES)]


def benchmark_app(path: Path) -> str:
    tool = shutil.which("benchmark_app", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    if tool is None:
        return "not installed"
    settings = [
        "-hint",
        "none",
        "-nstreams",
        "1",
        "-nthreads",
        "1",
        "-api",
        "sync",
        "-infer_precision",
        "f32",
        "-t",
        "5",
    ]
    done = subprocess.run([tool, "-m", str(path), *settings], capture_output=True, text=True)
    found = re.search(r"Median:\s+([\d.]+) ms", done.stdout)
    return found[1] if found else "failed"


if __name__ == "__main__":
    raise SystemExit(main())
