"""The timed loop and what its samples say.

warm-up --> sample: [cpu [wall run wall] cpu] x n --> ProcessReport        measuring child
ProcessReports --> quantiles, interval of the median, flags --> Measurement       the agent
"""

import contextlib
import gc
import math
import random
import time
from typing import Any, Callable, Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from vitsearch_evaluators import strict
from vitsearch_evaluators.jobspec import MINIMUM_RUNS, MeasureProtocol
from vitsearch_evaluators.records import Contention, Latency

CONTENDED_WAIT_OVER_CPU = 0.05

QUANTILE_MINIMUM_RUNS = {"p50": 11, "p90": 64, "p95": 130, "p99": 662}
"""MLPerf's early stopping at 99 % confidence: with fewer runs the quantile may be far off."""

_RESAMPLES = 200
_BOOTSTRAP_LIMIT = 2000


class Clocks(NamedTuple):
    """Wall time, this process' CPU time, and the clock that all processes of the machine share; in seconds."""

    wall: Callable[[], float] = time.perf_counter
    cpu: Callable[[], float] = time.process_time
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


class Samples(NamedTuple):
    """One entry for each timed run, in order."""

    wall_ms: List[float]
    cpu_ms: List[float]


def warm_up(run: Callable[[], None], protocol: MeasureProtocol, clocks: Clocks) -> int:
    """Run until the protocol's warm-up is over; return the number of runs."""
    start = clocks.wall()
    runs = 0
    while runs < protocol.warmup_min_runs or clocks.wall() - start < protocol.warmup_min_s:
        run()
        runs += 1
    return runs


def sample(run: Callable[[], None], protocol: MeasureProtocol, clocks: Clocks) -> Samples:
    """Time `run` as often as the protocol asks for, with the garbage collector off."""
    wall, cpu = clocks.wall, clocks.cpu
    samples = Samples([], [])
    with undisturbed():
        start = wall()
        runs = 0
        while runs < MINIMUM_RUNS or (runs < protocol.min_runs and wall() - start < protocol.min_s):
            cpu_before = cpu()
            wall_before = wall()
            run()
            wall_after = wall()
            cpu_after = cpu()
            samples.wall_ms.append((wall_after - wall_before) * 1e3)
            samples.cpu_ms.append((cpu_after - cpu_before) * 1e3)
            runs += 1
    return samples


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Keep the garbage collector off."""
    collecting = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def quantile(ordered: Sequence[float], q: float) -> float:
    """Return the q-quantile of sorted values, linear between neighbours."""
    position = q * (len(ordered) - 1)
    low = int(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (position - low)


def summarize(series: Sequence[Sequence[float]], seed: int = 0) -> Latency:
    """Pool the samples (ms) of several processes; ValueError for fewer than 11 samples."""
    ordered = sorted(value for values in series for value in values)
    count = len(ordered)
    if count < MINIMUM_RUNS:
        raise ValueError(f"a median needs {MINIMUM_RUNS} samples, got {count}")

    def supported(name: str) -> Optional[float]:
        enough = count >= QUANTILE_MINIMUM_RUNS[name]
        return quantile(ordered, int(name[1:]) / 100.0) if enough else None

    low, high = median_interval(series, seed)
    return Latency(
        n=count,
        p50=quantile(ordered, 0.5),
        p90=supported("p90"),
        p95=supported("p95"),
        p99=supported("p99"),
        mean=math.fsum(ordered) / count,
        min=ordered[0],
        max=ordered[-1],
        ci95_low=low,
        ci95_high=high,
    )


def median_interval(series: Sequence[Sequence[float]], seed: int = 0) -> Tuple[float, float]:
    """Return a 95 % interval of the median from a circular block bootstrap within each process.

    Neighbouring runs are alike (frequency, temperature, other load), so whole blocks of about
    n^(1/3) runs are drawn. Long series are thinned evenly to keep a slow board busy for a moment
    only.
    """
    total = sum(len(values) for values in series)
    step = max(1, -(-total // _BOOTSTRAP_LIMIT))
    thinned = [list(values[::step]) for values in series if values]
    generator = random.Random(seed)
    medians = []
    for _ in range(_RESAMPLES):
        drawn: List[float] = []
        for values in thinned:
            drawn.extend(_draw_blocks(values, generator))
        drawn.sort()
        medians.append(quantile(drawn, 0.5))
    medians.sort()
    return quantile(medians, 0.025), quantile(medians, 0.975)


def _draw_blocks(values: List[float], generator: random.Random) -> List[float]:
    count = len(values)
    length = max(1, int(round(count ** (1.0 / 3.0))))
    circle = values + values[: length - 1]
    drawn: List[float] = []
    while len(drawn) < count:
        start = int(generator.random() * count)
        drawn.extend(circle[start : start + length])
    return drawn[:count]


class ProcessReport(NamedTuple):
    """What one measuring process found. Times of `scheduler_*` are None with their reason."""

    wall_ms: Tuple[float, ...]
    cpu_ms: Tuple[float, ...]
    load_ms: float
    first_inference_ms: float
    peak_memory_mb: Optional[float]
    runtime_baseline_mb: Optional[float]
    scheduler_cpu_s: Optional[float]
    scheduler_wait_s: Optional[float]
    runtime_version: str
    options: Mapping[str, Any]
    reasons: Mapping[str, str]

    def to_json(self) -> Dict[str, Any]:
        return dict(self._asdict())

    @classmethod
    def from_json(cls, value: Any, where: str = "report") -> "ProcessReport":
        return cls(**strict.read_object(value, _REPORT, where))


_time = strict.number(0.0)
_REPORT = {
    "wall_ms": strict.sequence(_time),
    "cpu_ms": strict.sequence(_time),
    "load_ms": _time,
    "first_inference_ms": _time,
    "peak_memory_mb": strict.optional(_time),
    "runtime_baseline_mb": strict.optional(_time),
    "scheduler_cpu_s": strict.optional(_time),
    "scheduler_wait_s": strict.optional(_time),
    "runtime_version": strict.text,
    "options": strict.mapping(),
    "reasons": strict.mapping(strict.text),
}


def combine(reports: Sequence[ProcessReport], batch: int, sustained: Optional[ProcessReport] = None) -> Dict[str, Any]:
    """Return the fields of a Measurement that follow from the samples of all its processes.

    `sustained` are those after a soak: their distribution stands by itself, but other load in
    them flags the measurement too.
    """
    latency = summarize([report.wall_ms for report in reports])
    contention = _contention(reports)
    reasons: Dict[str, str] = {}
    for report in reports:
        reasons.update(report.reasons)
    spread = _relative_spread([report.wall_ms for report in reports])
    if spread is None:
        reasons["between_process_rel_spread"] = "one process"
    if sustained is None:
        reasons["sustained"] = "the protocol has no soak"
    reasons["temperature"] = reasons["swap_mb"] = "not read by this version of the agent"
    waits = [contention.wait_over_cpu] + ([] if sustained is None else [_contention([sustained]).wait_over_cpu])
    contended = any(wait is not None and wait > CONTENDED_WAIT_OVER_CPU for wait in waits)
    largest = max(reports, key=lambda report: report.peak_memory_mb or 0.0)
    return {
        "latency_ms": latency,
        "cpu_ms": summarize([report.cpu_ms for report in reports]),
        "load_ms": _median([report.load_ms for report in reports]),
        "first_inference_ms": _median([report.first_inference_ms for report in reports]),
        "throughput_ips": 1e3 * batch / latency.mean if latency.mean > 0 else 0.0,
        "peak_memory_mb": largest.peak_memory_mb,
        "runtime_baseline_mb": largest.runtime_baseline_mb,
        "between_process_rel_spread": spread,
        "sustained": None if sustained is None else summarize([sustained.wall_ms]),
        "temperature": None,
        "swap_mb": None,
        "contention": contention,
        "flags": ("contended",) if contended else (),
        "reasons": reasons,
        "runtime_version": reports[0].runtime_version,
        "options": dict(reports[0].options),
    }


def _contention(reports: Sequence[ProcessReport]) -> Contention:
    on_cpu = [report.scheduler_cpu_s for report in reports]
    waits = [report.scheduler_wait_s for report in reports]
    wait_over_cpu = None
    if None not in on_cpu and None not in waits:
        on_cpu_s = sum(value for value in on_cpu if value is not None)
        wait_s = sum(value for value in waits if value is not None)
        wait_over_cpu = wait_s / on_cpu_s if on_cpu_s > 0 else None
    cpu_ms = math.fsum(value for report in reports for value in report.cpu_ms)
    wall_ms = math.fsum(value for report in reports for value in report.wall_ms)
    return Contention(wait_over_cpu, wall_ms / cpu_ms if cpu_ms > 0 else None)


def _relative_spread(series: Sequence[Sequence[float]]) -> Optional[float]:
    if len(series) < 2:
        return None
    medians = [_median(values) for values in series]
    middle = _median(medians)
    return (max(medians) - min(medians)) / middle if middle > 0 else None


def _median(values: Sequence[float]) -> float:
    return quantile(sorted(values), 0.5)
