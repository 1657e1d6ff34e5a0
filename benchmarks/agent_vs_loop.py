"""Compare the measurements of the agent with a bare loop over the same file: CPU time, median of medians, 5 models.

python benchmarks/agent_vs_loop.py
python benchmarks/agent_vs_loop.py --rounds 31 --cpu 1

Processes of the agent and of the loop (bare_loop.py) alternate on the same core, in another order in each round. Both
run a model equally often after equal warm-up (the agent continues its warm-up until times are stable). Where OpenVINO
is installed, its benchmark_app (found on PATH) is compared with the agent's OpenVINO, for information: in wall time,
which other work can only increase, so the table shows the least of nine medians and the least of all runs.
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
from pathlib import Path

import bare_loop
from bare_loop import RUNS, WARM_UP_RUNS, WARM_UP_S

from vitsearch.core.image_size import ImageSize
from vitsearch_agent.client.embedded_agent import EmbeddedAgent
from vitsearch_agent.wire.measure_protocol import ONE_PROCESS

MODELS = {
    "vit_fmnist_p4": (28, 1),
    "mobilevit_fmnist": (28, 1),
    "efficientvit_fmnist": (28, 1),
    "levit_128s": (64, 3),
    "deit_tiny_patch16_224": (224, 3),
}
"""Pixels and channels by name. Weights are random, because time does not depend on them."""
PROTOCOL = ONE_PROCESS._replace(
    id="loop", warmup_min_runs=WARM_UP_RUNS, warmup_min_s=WARM_UP_S, min_runs=RUNS, min_s=0.0
)
MOST = 0.02
RESAMPLES = 2000
TOOL_ROUNDS = 9


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS)
    parser.add_argument("--cpu", type=int, default=max(os.sched_getaffinity(0)))
    options = parser.parse_args()
    os.sched_setaffinity(0, {options.cpu})
    with tempfile.TemporaryDirectory() as folder:
        files = {name: export(name, Path(folder)) for name in options.models}
        comparisons = {name: compare(path, Path(folder), options.rounds) for name, path in files.items()}
        print(
            "| model | loop, CPU ms | agent, CPU ms | agent over loop | 95 % | OpenVINO: agent / benchmark_app, ms |\n"
            + "|---" * 6
            + "|"
        )
        for name, (loops, agents) in comparisons.items():
            ratio, low, high = ratio_of(loops, agents)
            shown = f"{statistics.median(loops):.4f} | {statistics.median(agents):.4f} | {ratio - 1:+.1%}"
            other = openvino(name, files[name], Path(folder), min(TOOL_ROUNDS, options.rounds))
            print(f"| {name} | {shown} | {low - 1:+.1%} to {high - 1:+.1%} | {other} |", flush=True)
    return sum(abs(ratio_of(*pair)[0] - 1) > MOST for pair in comparisons.values())


def export(name: str, folder: Path) -> Path:
    import torch

    from vitsearch import backbones
    from vitsearch.export.graph.onnx_file import write_onnx

    pixels, channels = MODELS[name]
    torch.manual_seed(0)
    model = (
        backbones.find(name)
        .build(backbones.ModelSpec(name, "none", ImageSize.square(pixels), 10, channels))
        .model.eval()
    )
    write_onnx(model, (1, channels, pixels, pixels), folder / f"{name}.onnx")
    return folder / f"{name}.onnx"


def compare(path: Path, folder: Path, rounds: int) -> tuple[list[float], list[float]]:
    """Medians of the loop's processes and of the agent's, one of each in every round."""
    loops: list[float] = []
    agents: list[float] = []
    with EmbeddedAgent(str(folder / "agent")) as agent, agent.client("benchmark") as client:
        client.upload(str(path))

        def by_loop(_: int) -> None:
            command = [sys.executable, bare_loop.__file__, str(path)]
            loops.append(float(subprocess.run(command, check=True, capture_output=True, text=True).stdout))

        def by_agent(number: int) -> None:
            times = client.measure(str(path), "onnxruntime", {}, PROTOCOL, repeat=number).cpu_ms
            assert times is not None  # onnxruntime counts it
            agents.append(times.p50)

        for number in range(rounds):
            for take in (by_loop, by_agent) if number % 2 else (by_agent, by_loop):
                take(number)
    return loops, agents


def ratio_of(loops: list[float], agents: list[float]) -> tuple[float, float, float]:
    """Ratio of the medians of medians, with its 95 % bootstrap interval over rounds."""
    generator = random.Random(0)
    pairs = list(zip(loops, agents, strict=True))

    def ratio(drawn: list[tuple[float, float]]) -> float:
        return statistics.median(b for _, b in drawn) / statistics.median(a for a, _ in drawn)

    ratios = sorted(ratio(generator.choices(pairs, k=len(pairs))) for _ in range(RESAMPLES))
    return ratio(pairs), ratios[int(0.025 * RESAMPLES)], ratios[int(0.975 * RESAMPLES)]


def openvino(name: str, path: Path, folder: Path, rounds: int) -> str:
    """The least median and the least run of OpenVINO (fp32, one thread, wall time in ms), by the agent and by its
    tool."""
    tool = shutil.which("benchmark_app", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    if tool is None:
        return "not installed"
    state = folder / "openvino"
    state.mkdir(exist_ok=True)
    configured = {"runtimes": {"openvino": {"python": str(Path(tool).parent / "python")}}}
    (state / "config.json").write_text(json.dumps(configured))
    by_agent, by_tool = [], []
    with EmbeddedAgent(str(state)) as agent, agent.client("benchmark") as client:
        for number in range(rounds):
            times = client.measure(str(path), "openvino", {"inference_precision": "f32"}, PROTOCOL, number).latency_ms
            by_agent.append((times.p50, times.min))
            by_tool.append(benchmark_app(tool, name, path))
    return " / ".join("{:.3f} ({:.3f})".format(*map(min, zip(*turns, strict=True))) for turns in (by_agent, by_tool))


def benchmark_app(tool: str, name: str, path: Path) -> tuple[float, float]:
    """Median and shortest run of benchmark_app, in ms."""
    pixels, channels = MODELS[name]
    single = ["-hint", "none", "-nstreams", "1", "-nthreads", "1", "-api", "sync", "-infer_precision", "f32", "-t", "3"]
    shape = ["-data_shape", f"[1,{channels},{pixels},{pixels}]"]
    done = subprocess.run([tool, "-m", str(path), *single, *shape], check=True, capture_output=True, text=True)
    reported = re.findall(r"(Median|Min):\s+([\d.]+) (ms|us)", done.stdout)
    in_ms = {name: float(value) / (1e3 if unit == "us" else 1.0) for name, value, unit in reported}
    return in_ms["Median"], in_ms["Min"]


if __name__ == "__main__":
    raise SystemExit(main())
