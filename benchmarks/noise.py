"""How far measurements can be believed on a machine that is not quiet: coverage, width, spread and bias of intervals.

python benchmarks/noise.py collect noise.jsonl
python benchmarks/noise.py report noise.jsonl

`collect` measures five models again and again as an agent does, with 0, 1 and 2 busy processes beside it in turn, by
the screening and the confirmation protocol, and appends each measurement to a file. It can be stopped and continued.
With `--starts started forked` each model is measured twice in a row: in processes that are all started, and as an agent
does, in processes that are forked from warm parents, but for the first.
`report` compares the intervals with the median of all measurements of a model at all levels:

    coverage    share of the 95 % intervals that hold the grand median; a missing interval counts as a miss
    width       median half-width, relative
    spread      standard deviation of the values
    bias        median with busy neighbours over median without

Then it compares what a study shows: single measurements, and two screens at different times as one; and where there
are both, measurements of started with those of forked processes.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, pairwise, product
from pathlib import Path
from typing import Any, NamedTuple

from measured_file import measure_file

from vitsearch.core.image_size import ImageSize
from vitsearch.core.plan import Deployment
from vitsearch.core.policy import POLICY
from vitsearch.core.precisions import default_provider
from vitsearch.export import EXPORTERS, ExportTask
from vitsearch.export.device_jobs import DeviceJob, device_job
from vitsearch.storage.pooled_measurements import pool
from vitsearch_agent.base import processes
from vitsearch_agent.measure.figures.reference_store import ReferenceKey, ReferenceStore
from vitsearch_agent.measure.warm_parents import WarmParents
from vitsearch_agent.wire.measurement import Measurement
from vitsearch_agent.wire.paired import Milliseconds
from vitsearch_agent.wire.protocol import PROTOCOLS

MODELS = {
    "efficientvit_fmnist": (28, 1),
    "mobilevit_fmnist": (28, 1),
    "vit_fmnist_p4": (28, 1),
    "deit_tiny_patch16_224": (224, 3),
}
"""Pixels and channels; 0.1, 0.4, 2 and 15 ms here. Weights are random: time does not depend on them."""
VECTORS = "matrix_vector"
"""0.5 ms: products of a vector with 20 MB of matrices, bound by memory alone and so unlike both references."""
RUNTIMES = ("onnxruntime", "openvino", "litert")
STARTS = ("started", "forked")
LIMITS = {"screen": (0.90, 0.08, 0.08), "confirm": (0.90, 0.04, 0.03)}
"""Least coverage, most width, most spread."""
BIAS_MOST = 0.05
COLUMNS = ["model", "protocol", "busy", "n", "median ms", "coverage", "width", "spread", "bias", "spread as read", "s"]
PAIRED = [
    *("model", "protocol", "busy", "within both intervals", "mean difference", "standard error"),
    *("CPU-s started", "CPU-s forked"),
]
POOLED = ["model", "shown", "n", "coverage", "width", "spread", "s"]
_BUSY = """import os
import numpy as np
parent, a = os.getppid(), np.ones((700, 700), "f")
while os.getppid() == parent:
    a = (a @ a) * 1e-3
"""
"""Ends with the process that started it, however that ends."""


@dataclass(frozen=True)
class Subject:
    """A file of a model, and what runs it."""

    model: str
    path: Path
    job: DeviceJob

    @property
    def name(self) -> str:
        return f"{self.model} {self.job.runtime}"


class Row(NamedTuple):
    """A measurement with `busy` processes beside it, begun at a Unix time, and the CPU time of its processes."""

    model: str
    protocol: str
    busy: int
    start: str
    at: float
    cpu_s: float
    measurement: Any


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    collecting = commands.add_parser("collect")
    collecting.add_argument("file", type=Path)
    collecting.add_argument("--rounds", type=int, default=20)
    collecting.add_argument("--busy", type=int, nargs="+", default=[0, 1, 2])
    collecting.add_argument("--models", nargs="+", default=[*MODELS, VECTORS])
    collecting.add_argument("--runtimes", nargs="+", default=[*RUNTIMES[:1]], choices=RUNTIMES)
    collecting.add_argument("--starts", nargs="+", default=[*STARTS[1:]], choices=STARTS)
    collecting.add_argument("--protocols", nargs="+", default=list(PROTOCOLS))
    collecting.add_argument("--cpu", type=int, default=max(os.sched_getaffinity(0)))
    reporting = commands.add_parser("report")
    reporting.add_argument("file", type=Path)
    options = parser.parse_args()
    return collect(options) if options.command == "collect" else report(options.file)


def collect(options: argparse.Namespace) -> int:
    everywhere = os.sched_getaffinity(0)
    processes.adopt_orphans()
    with tempfile.TemporaryDirectory() as folder, contextlib.closing(WarmParents()) as parents:
        written = [subject for runtime in options.runtimes for subject in export(Path(folder), runtime)]
        subjects = [subject for subject in written if subject.model in options.models]
        store = ReferenceStore(str(options.file.with_suffix(".references.json")))
        for number in range(options.rounds):
            # The other one first in every second round: a machine changes between the two.
            starts = {"started": None, "forked": parents}
            order = [start for start in STARTS[:: -1 if number % 2 else 1] if start in options.starts]
            for level in options.busy:
                os.sched_setaffinity(0, everywhere)
                with busy(level):
                    os.sched_setaffinity(0, {options.cpu})  # as the embedded agent does
                    for subject, protocol, start in product(subjects, options.protocols, order):
                        before_s, at = children_cpu_s(), time.time()
                        measurement = measure_file(subject.path, subject.job, PROTOCOLS[protocol], store, starts[start])
                        row = Row(subject.name, protocol, level, start, at, children_cpu_s() - before_s, measurement)
                        append(options.file, row)
            print(f"round {number + 1} of {options.rounds}", file=sys.stderr)
    return 0


def children_cpu_s() -> float:
    """CPU-seconds of children that have ended; warm parents count when they end."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def append(file: Path, row: Row) -> None:
    with file.open("a") as stream:
        stream.write(json.dumps(row._asdict() | {"measurement": row.measurement.to_json()}) + "\n")


def read(file: Path) -> list[Row]:
    """The rows of a file, each by the reference times that are known at the end."""
    store = ReferenceStore(str(file.with_suffix(".references.json")))
    rows = [Row(**json.loads(line)) for line in file.read_text().splitlines()]
    return [row._replace(measurement=current(Measurement.from_json(row.measurement), store)) for row in rows]


def export(folder: Path, runtime: str) -> Iterator[Subject]:
    """Write the models for a runtime; LiteRT has no file of the products of a vector."""
    import torch

    from vitsearch import backbones

    deployment = Deployment("local", runtime, default_provider(runtime), "fp32")
    for name, (pixels, channels) in MODELS.items():
        torch.manual_seed(0)
        spec = backbones.ModelSpec(name, "none", ImageSize.square(pixels), 10, channels)
        model = backbones.find(name).build(spec).model.eval()
        images = torch.zeros(1, channels, pixels, pixels).numpy()
        place = folder / runtime / name
        place.mkdir(parents=True)
        file = EXPORTERS.get(runtime)().export(model, ExportTask(name, deployment, images), place)
        job = device_job(replace(deployment, options=file.options))
        yield Subject(name, file.path, job)
    if runtime != "litert":
        yield Subject(VECTORS, vectors(folder / f"{VECTORS}.onnx"), device_job(deployment))


def vectors(path: Path) -> Path:
    """Write the products of a vector, which OpenVINO reads too."""
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    draw = np.random.default_rng(0)
    size, layers = 1024, 5
    weights = [numpy_helper.from_array(draw.standard_normal((size, size), "f") / 32, f"w{i}") for i in range(layers)]
    nodes = [helper.make_node("MatMul", [f"x{i}", f"w{i}"], [f"x{i + 1}"]) for i in range(layers)]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, size]) for name in ("x0", f"x{layers}")]
    graph = helper.make_graph(nodes, "vectors", ends[:1], ends[1:], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7), path)
    return path


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


def report(file: Path) -> int:
    everything = read(file)
    rows = [row for row in everything if row.start == STARTS[-1]] or everything
    for metric in ("cpu_ms", "latency_ms"):
        print(f"\n{metric}_p50\n| {' | '.join(COLUMNS)} |\n" + "|---" * len(COLUMNS) + "|")
        groups: dict[tuple[str, str, int], list[Measurement]] = defaultdict(list)
        for row in rows:
            groups[row.model, row.protocol, row.busy].append(row.measurement)
        met = [row_of(key, groups, metric) for key in sorted(groups)]
    print(f"\npooled\n| {' | '.join(POOLED)} |\n" + "|---" * len(POOLED) + "|")
    for model in dict.fromkeys(row.model for row in rows):
        print_pooled(model, [row for row in rows if row.model == model])
    print(f"\nforked over started\n| {' | '.join(PAIRED)} |\n" + "|---" * len(PAIRED) + "|")
    print_pairs(everything)
    return 0 if all(met) else 1


def print_pooled(model: str, rows: Sequence[Row]) -> None:
    """The figures of a model as a study shows them."""
    screens = [row for row in rows if row.protocol == "screen"]
    apart_s = POLICY.measuring.apart_s
    shown_as = {
        "screen": [[row.measurement] for row in screens],
        "confirm": [[row.measurement] for row in rows if row.protocol == "confirm"],
        "two screens": [
            [a.measurement, b.measurement] for a, b in combinations(screens, 2) if abs(b.at - a.at) >= apart_s
        ],
    }
    grand = statistics.median(shown(row.measurement, "cpu_ms").p50 for row in rows)
    for name, groups in shown_as.items():
        if not groups:
            continue
        figures = [interval(group) for group in groups]
        covered = statistics.mean(low <= grand <= high for _, low, high in figures)
        width = statistics.median((high - low) / 2 / value for value, low, high in figures)
        seconds = statistics.mean(sum(measurement.seconds for measurement in group) for group in groups)
        spread = sd([value for value, _, _ in figures])
        print(f"| {model} | {name} | {len(groups)} | {covered:.0%} | {width:.1%} | {spread:.1%} | {seconds:.1f} |")


def print_pairs(rows: Sequence[Row]) -> None:
    """Of each two measurements that followed each other, one in started and one in forked processes: how often they
    agree within the interval of their difference, and by how much they differ."""
    pairs: dict[tuple[str, str, int], list[tuple[float, float]]] = defaultdict(list)
    cpu_s: dict[tuple[str, str, int], list[dict[str, float]]] = defaultdict(list)
    for a, b in pairwise(rows):
        if {a.start, b.start} == set(STARTS) and a[:3] == b[:3]:
            of = {row.start: interval([row.measurement]) for row in (a, b)}
            half = math.hypot(*(math.log(high / low) / 2 for _, low, high in of.values()))
            cpu_s[a[:3]].append({row.start: row.cpu_s for row in (a, b)})
            pairs[a[:3]].append((math.log(of["forked"][0] / of["started"][0]), half))
    for key, here in sorted(pairs.items()):
        within = sum(abs(ratio) <= half for ratio, half in here)
        ratios = [math.exp(ratio) for ratio, _ in here]
        mean, error = math.log(statistics.geometric_mean(ratios)), sd(ratios) / len(here) ** 0.5
        cost = [f"{statistics.mean(each[start] for each in cpu_s[key]):.2f}" for start in STARTS]
        print(f"| {' | '.join([*map(str, key), f'{within} of {len(here)}', f'{mean:+.1%}', f'{error:.1%}', *cost])} |")


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
