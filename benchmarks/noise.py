"""How far measurements can be believed on a machine that is not quiet: coverage, width, spread and bias of intervals.

python benchmarks/noise.py collect noise.jsonl
python benchmarks/noise.py report noise.jsonl

`collect` measures five models again and again in fresh processes, with 0, 1 and 2 busy processes beside it in turn, by
the screening and the confirmation protocol, and appends each measurement to a file. It can be stopped and continued.
`report` compares the intervals with the median of all measurements of a model at all levels:

    coverage    share of the 95 % intervals that hold the grand median; a missing interval counts as a miss
    width       median half-width, relative
    spread      standard deviation of the values
    bias        median with busy neighbours over median without

Then it compares what a study shows: single measurements, and two screens at different times as one.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path

from vitsearch.core.policy import POLICY
from vitsearch.storage.pooled_measurements import pool
from vitsearch_agent.base.canonical_json import file_digest
from vitsearch_agent.base.system import THIS_MACHINE
from vitsearch_agent.conditions.environment import environment_id, fingerprint
from vitsearch_agent.measure.child_process import StopSignal
from vitsearch_agent.measure.figures.reference_store import ReferenceKey, ReferenceStore
from vitsearch_agent.measure.job_context import JobContext
from vitsearch_agent.measure.job_folder import JobFolder
from vitsearch_agent.measure.measure_job import measure_job
from vitsearch_agent.wire.measurement import Measurement
from vitsearch_agent.wire.paired import Milliseconds
from vitsearch_agent.wire.protocol import PROTOCOLS, BlobRef, JobSpec

MODELS = {
    "efficientvit_fmnist": (28, 1),
    "mobilevit_fmnist": (28, 1),
    "vit_fmnist_p4": (28, 1),
    "deit_tiny_patch16_224": (224, 3),
}
"""Pixels and channels; 0.1, 0.4, 2 and 15 ms here. Weights are random: time does not depend on them."""
VECTORS = "matrix_vector"
"""0.5 ms: products of a vector with 20 MB of matrices, bound by memory alone and so unlike both references."""
LIMITS = {"screen": (0.90, 0.08, 0.08), "confirm": (0.90, 0.04, 0.03)}
"""Least coverage, most width, most spread."""
BIAS_MOST = 0.05
COLUMNS = ["model", "protocol", "busy", "n", "median ms", "coverage", "width", "spread", "bias", "spread as read", "s"]
POOLED = ["model", "shown", "n", "coverage", "width", "spread", "s"]
_BUSY = """import os
import numpy as np
parent, a = os.getppid(), np.ones((700, 700), "f")
while os.getppid() == parent:
    a = (a @ a) * 1e-3
"""
"""Ends with the process that started it, however that ends."""


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    collecting = commands.add_parser("collect")
    collecting.add_argument("file", type=Path)
    collecting.add_argument("--rounds", type=int, default=20)
    collecting.add_argument("--busy", type=int, nargs="+", default=[0, 1, 2])
    collecting.add_argument("--models", nargs="+", default=[*MODELS, VECTORS])
    collecting.add_argument("--protocols", nargs="+", default=list(PROTOCOLS))
    collecting.add_argument("--cpu", type=int, default=max(os.sched_getaffinity(0)))
    reporting = commands.add_parser("report")
    reporting.add_argument("file", type=Path)
    options = parser.parse_args()
    return collect(options) if options.command == "collect" else report(options.file)


def collect(options: argparse.Namespace) -> int:
    everywhere = os.sched_getaffinity(0)
    with tempfile.TemporaryDirectory() as folder:
        files = export(Path(folder))
        files = {name: files[name] for name in options.models}
        store = ReferenceStore(str(options.file.with_suffix(".references.json")))
        with options.file.open("a") as stream:
            for number in range(options.rounds):
                for level in options.busy:
                    os.sched_setaffinity(0, everywhere)
                    with busy(level):
                        os.sched_setaffinity(0, {options.cpu})  # as the embedded agent does
                        for name, file in files.items():
                            for protocol in options.protocols:
                                measurement = measured(file, protocol, store)
                                row = {"busy": level, "model": name, "protocol": protocol, "at": time.time()}
                                stream.write(json.dumps(row | {"measurement": measurement.to_json()}) + "\n")
                                stream.flush()
                print(f"round {number + 1} of {options.rounds}", file=sys.stderr)
    return 0


def export(folder: Path) -> dict[str, Path]:
    """Write the models."""
    import numpy as np
    import onnx
    import torch
    from onnx import TensorProto, helper, numpy_helper

    from vitsearch import backbones
    from vitsearch.export.graph.onnx_file import write_onnx

    files = {}
    for name, (pixels, channels) in MODELS.items():
        torch.manual_seed(0)
        model = backbones.find(name).build(backbones.ModelSpec(name, "none", pixels, 10, channels)).model.eval()
        files[name] = folder / f"{name}.onnx"
        write_onnx(model, (1, channels, pixels, pixels), files[name])
    draw = np.random.default_rng(0)
    size, layers = 1024, 5
    weights = [numpy_helper.from_array(draw.standard_normal((size, size), "f") / 32, f"w{i}") for i in range(layers)]
    nodes = [helper.make_node("MatMul", [f"x{i}", f"w{i}"], [f"x{i + 1}"]) for i in range(layers)]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, size]) for name in ("x0", f"x{layers}")]
    graph = helper.make_graph(nodes, "vectors", ends[:1], ends[1:], weights)
    files[VECTORS] = folder / f"{VECTORS}.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7), files[VECTORS])
    return dict(sorted(files.items(), key=lambda pair: pair[0]))


@contextlib.contextmanager
def busy(count: int) -> Iterator[None]:
    """Keep `count` processes busy with products of matrices, on any core."""
    environ = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    processes = [subprocess.Popen([sys.executable, "-c", _BUSY], env=environ) for _ in range(count)]
    try:
        time.sleep(1.0)
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def measured(file: Path, protocol: str, store: ReferenceStore) -> Measurement:
    blob = BlobRef("model.onnx", file_digest(str(file)), file.stat().st_size)
    spec = JobSpec("measure", (blob,), "onnxruntime", {}, PROTOCOLS[protocol])
    environment = environment_id(fingerprint("benchmark", (), THIS_MACHINE))
    with tempfile.TemporaryDirectory() as folder:
        os.symlink(file, Path(folder) / "model.onnx")
        context = JobContext("0" * 64, "local", environment, 1, 0.0)
        return measure_job(spec, context, JobFolder(folder, StopSignal()), references=store)


def report(file: Path) -> int:
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    rows_read = [
        (row["busy"], row["model"], row["protocol"], Measurement.from_json(row["measurement"])) for row in rows
    ]
    newest = ReferenceStore(str(file.with_suffix(".references.json")))
    for metric in ("cpu_ms", "latency_ms"):
        print(f"\n{metric}_p50\n| {' | '.join(COLUMNS)} |\n" + "|---" * len(COLUMNS) + "|")
        groups: dict[tuple[str, str, int], list[Measurement]] = defaultdict(list)
        for level, model, protocol, measurement in rows_read:
            groups[model, protocol, level].append(current(measurement, newest))
        met = [row_of(key, groups, metric) for key in sorted(groups)]
    print(f"\npooled\n| {' | '.join(POOLED)} |\n" + "|---" * len(POOLED) + "|")
    for model in dict.fromkeys(row["model"] for row in rows):
        here = [(row, Measurement.from_json(row["measurement"])) for row in rows if row["model"] == model]
        timed = [(row["at"], row["protocol"], current(measurement, newest)) for row, measurement in here]
        print_pooled(model, timed)
    return 0 if all(met) else 1


def print_pooled(model: str, timed: Sequence[tuple[float, str, Measurement]]) -> None:
    """The figures of a model as a study shows them, from the time, protocol and measurement of each."""
    screens = [(at, measurement) for at, protocol, measurement in timed if protocol == "screen"]
    shown_as = {
        "screen": [[measurement] for _, measurement in screens],
        "confirm": [[measurement] for _, protocol, measurement in timed if protocol == "confirm"],
        "two screens": [
            [a, b] for (at, a), (then, b) in combinations(screens, 2) if abs(then - at) >= POLICY.measuring.apart_s
        ],
    }
    grand = statistics.median(shown(measurement, "cpu_ms").p50 for _, _, measurement in timed)
    for name, groups in shown_as.items():
        figures = [interval(group) for group in groups]
        covered = statistics.mean(low <= grand <= high for _, low, high in figures)
        width = statistics.median((high - low) / 2 / value for value, low, high in figures)
        seconds = statistics.mean(sum(measurement.seconds for measurement in group) for group in groups)
        spread = sd([value for value, _, _ in figures])
        print(f"| {model} | {name} | {len(groups)} | {covered:.0%} | {width:.1%} | {spread:.1%} | {seconds:.1f} |")


def interval(group: Sequence[Measurement]) -> tuple[float, float, float]:
    """The pooled CPU time with its interval."""
    figure = pool(group).metrics.figures["cpu_ms_p50"]
    assert figure.value is not None
    return figure.value, figure.low or 0.0, figure.high or math.inf


def current(measurement: Measurement, store: ReferenceStore) -> Measurement:
    """The measurement by the reference times that are known at the end."""
    if measurement.paired is None:
        return measurement
    key = ReferenceKey(
        measurement.paired.reference, measurement.environment_id, measurement.runtime, measurement.protocol.threads
    )
    times = store.times(key) or measurement.paired.times
    return measurement._replace(paired=measurement.paired._replace(times=times))


def row_of(key: tuple[str, str, int], groups: dict[tuple[str, str, int], list[Measurement]], metric: str) -> bool:
    model, protocol, level = key
    everything = [
        shown(measurement, metric) for (name, *_), group in groups.items() if name == model for measurement in group
    ]
    grand = statistics.median(p50 for p50, _, _ in everything)
    here = [shown(measurement, metric) for measurement in groups[key]]
    values = [p50 for p50, _, _ in here]
    covered = sum(low <= grand <= high for _, low, high in here if low and high) / len(here)
    width = statistics.median((high - low) / 2 / p50 if low and high else math.inf for p50, low, high in here)
    spread = sd(values)
    quiet = [shown(measurement, metric)[0] for measurement in groups.get((model, protocol, 0), groups[key])]
    bias = statistics.median(values) / statistics.median(quiet) - 1
    raw = sd([getattr(measurement, metric).p50 for measurement in groups[key]])
    seconds = statistics.median(measurement.seconds for measurement in groups[key])
    least, widest, most = LIMITS[protocol]
    met = covered >= least and width <= widest and spread <= most and (level != 1 or abs(bias) <= max(BIAS_MOST, width))
    print(
        f"| {model} | {protocol} | {level} | {len(here)} | {statistics.median(values):.4f} | {covered:.0%} "
        f"| {width:.1%} | {spread:.1%} | {bias:+.1%} | {raw:.1%} | {seconds:.1f} |{'' if met else ' MISSED'}"
    )
    return met


def shown(measurement: Measurement, metric: str) -> Milliseconds:
    cpu_or_wall = measurement.shown_cpu_ms if metric == "cpu_ms" else measurement.shown_latency_ms
    assert cpu_or_wall is not None
    return cpu_or_wall


def sd(values: Sequence[float]) -> float:
    return statistics.stdev(map(math.log, values)) if len(values) > 1 else 0.0


if __name__ == "__main__":
    sys.exit(main())
