"""The timed loop and what its samples say.

warm-up --> sample: [cpu [wall run wall] cpu] x n --> ProcessReport        measuring child
ProcessReports --> quantiles, interval of the median, flags --> Measurement       the agent
"""

import contextlib
import gc
import math
import time
from typing import Any, Callable, Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from vitsearch_evaluators.base import json_reader
from vitsearch_evaluators.wire.distribution import quantile, summarize
from vitsearch_evaluators.wire.job_spec import MINIMUM_RUNS, MeasureProtocol
from vitsearch_evaluators.wire.measurement import Contention

CONTENDED_WAIT_OVER_CPU = 0.05

CONTENDED_WALL_OVER_CPU = 1.1
"""More wall than CPU time, in a thread that never slept: somebody else had its processor, a hypervisor perhaps."""

STEADY_WITHIN = 0.03
"""The medians of two windows of warm-up in a row differ by no more than this share."""

WINDOW_MINIMUM_RUNS = 5
"""Fewer runs have no median worth comparing."""

_CLOCK_SAMPLES = 51


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


def warm_up(run: Callable[[], None], protocol: MeasureProtocol, clocks: Clocks) -> bool:
    """Run until the protocol's warm-up is over and two windows in a row agree; True when they did.

    The first two windows are the halves of the warm-up that is asked for; further ones are as long.
    There is an end to it: after `min_s` beyond what is asked for, samples are taken anyway. A
    protocol with fewer than 10 runs of warm-up has no windows to compare: they are only run.
    """
    if protocol.warmup_min_runs < 2 * WINDOW_MINIMUM_RUNS:
        _window(run, protocol.warmup_min_runs, protocol.warmup_min_s, clocks)
        return True
    half_runs, half_s = -(-protocol.warmup_min_runs // 2), protocol.warmup_min_s / 2
    before = _window(run, half_runs, half_s, clocks)
    now = _window(run, half_runs, half_s, clocks)
    end = clocks.wall() + protocol.min_s
    while not _agree(before, now):
        before, now = now, _window(run, half_runs, half_s, clocks, end)
        if clocks.wall() >= end:
            return False
    return True


def _window(run: Callable[[], None], runs: int, seconds: float, clocks: Clocks, end: float = math.inf) -> Samples:
    """Run until both are reached, or the clock says `end`."""
    left_s = end - clocks.wall()
    return timed_runs(run, clocks, lambda done, passed_s: (done < runs or passed_s < seconds) and passed_s < left_s)


def _agree(one: Samples, other: Samples) -> bool:
    """Whether the medians agree: in wall time, or in CPU time where the processor does the work.

    On a busy machine wall time never settles, but what the runs cost does.
    """
    pairs = [(_median(one.wall_ms), _median(other.wall_ms))]
    cpu = (_median(one.cpu_ms), _median(other.cpu_ms))
    if cpu[1] >= pairs[0][1] / 2:
        pairs.append(cpu)
    return any(abs(now - before) <= STEADY_WITHIN * max(now, before) for before, now in pairs)


def sample(run: Callable[[], None], protocol: MeasureProtocol, clocks: Clocks) -> Samples:
    """Time `run` as often as the protocol asks for.

    What reading the wall clock costs inside of the CPU time is taken out: it is 2 % of a model of 0.1 ms.
    """
    overhead_ms = clock_overhead_ms(clocks)
    samples = timed_runs(
        run,
        clocks,
        lambda done, passed_s: done < MINIMUM_RUNS or (done < protocol.min_runs and passed_s < protocol.min_s),
    )
    return Samples(samples.wall_ms, [max(0.0, cpu_ms - overhead_ms) for cpu_ms in samples.cpu_ms])


def clock_overhead_ms(clocks: Clocks) -> float:
    """Return the CPU time of the two looks at the wall clock that a timed run contains."""
    without: List[float] = []
    with_both: List[float] = []
    for _ in range(_CLOCK_SAMPLES):
        before = clocks.cpu()
        between = clocks.cpu()
        clocks.wall()
        clocks.wall()
        after = clocks.cpu()
        without.append(between - before)
        with_both.append(after - between)
    return max(0.0, sorted(with_both)[_CLOCK_SAMPLES // 2] - sorted(without)[_CLOCK_SAMPLES // 2]) * 1e3


def timed_runs(run: Callable[[], None], clocks: Clocks, keep_running: Callable[[int, float], bool]) -> Samples:
    """Time `run` for as long as `keep_running`, asked with the number of runs and the seconds that they took so far.

    As little as possible happens between two runs: what Python does there takes the model's place in the
    caches, 2 % of a model of 0.1 ms when this was a function for each run.
    """
    wall, cpu = clocks.wall, clocks.cpu
    wall_ms: List[float] = []
    cpu_ms: List[float] = []
    start = wall_after = wall()
    while keep_running(len(wall_ms), wall_after - start):
        cpu_before = cpu()
        wall_before = wall()
        run()
        wall_after = wall()
        cpu_after = cpu()
        wall_ms.append((wall_after - wall_before) * 1e3)
        cpu_ms.append((cpu_after - cpu_before) * 1e3)
    return Samples(wall_ms, cpu_ms)


@contextlib.contextmanager
def gc_disabled() -> Iterator[None]:
    """Keep the garbage collector off.

    Begun before the warm-up: to collect empties the interpreter's own free lists, and a model of 0.1 ms
    that runs right after that takes 1.5 % longer.
    """
    collecting = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


class ProcessReport(NamedTuple):
    """What one measuring process found; what it could not find is None with its reason (`cpu_ms`: empty).

    `sleeps` counts how often it gave the processor away by itself while samples were taken, which
    a model that runs on the processor alone never does. `steady` tells whether warm-up ended
    because times had settled.
    """

    wall_ms: Tuple[float, ...]
    cpu_ms: Tuple[float, ...]
    load_ms: Optional[float]
    first_inference_ms: Optional[float]
    peak_memory_mb: Optional[float]
    runtime_baseline_mb: Optional[float]
    scheduler_cpu_s: Optional[float]
    scheduler_wait_s: Optional[float]
    sleeps: Optional[int]
    steady: bool
    runtime_version: str
    options: Mapping[str, Any]
    reasons: Mapping[str, str]

    def to_json(self) -> Dict[str, Any]:
        return dict(self._asdict())

    @classmethod
    def from_json(cls, value: Any, where: str = "report") -> "ProcessReport":
        return cls(**json_reader.read_object(value, _REPORT, where))


_time = json_reader.number(0.0)
_REPORT = {
    "wall_ms": json_reader.sequence(_time),
    "cpu_ms": json_reader.sequence(_time),
    "load_ms": json_reader.optional(_time),
    "first_inference_ms": json_reader.optional(_time),
    "peak_memory_mb": json_reader.optional(_time),
    "runtime_baseline_mb": json_reader.optional(_time),
    "scheduler_cpu_s": json_reader.optional(_time),
    "scheduler_wait_s": json_reader.optional(_time),
    "sleeps": json_reader.optional(json_reader.integer()),
    "steady": json_reader.boolean,
    "runtime_version": json_reader.text,
    "options": json_reader.mapping(),
    "reasons": json_reader.mapping(json_reader.text),
}


def combine(
    reports: Sequence[ProcessReport], protocol: MeasureProtocol, sustained: Optional[ProcessReport] = None
) -> Dict[str, Any]:
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
    elif "latency_ms" in sustained.reasons:
        reasons["sustained"] = sustained.reasons["latency_ms"]
    groups = [list(reports)] + ([] if sustained is None else [[sustained]])
    signs = {
        "contended": any(_is_contended(group, protocol.threads) for group in groups),
        "not_steady": not all(report.steady for group in groups for report in group),
    }
    largest = max(reports, key=lambda report: report.peak_memory_mb or 0.0)
    return {
        "latency_ms": latency,
        "cpu_ms": summarize([report.cpu_ms for report in reports]) if reports[0].cpu_ms else None,
        "load_ms": _known_median([report.load_ms for report in reports]),
        "first_inference_ms": _known_median([report.first_inference_ms for report in reports]),
        "throughput_ips": 1e3 * protocol.batch / latency.mean if latency.mean > 0 else 0.0,
        "peak_memory_mb": largest.peak_memory_mb,
        "runtime_baseline_mb": largest.runtime_baseline_mb,
        "between_process_rel_spread": spread,
        "sustained": None if sustained is None else summarize([sustained.wall_ms]),
        "contention": contention,
        "flags": tuple(flag for flag, there in signs.items() if there),
        "reasons": reasons,
        "runtime_version": reports[0].runtime_version,
        "options": dict(reports[0].options),
    }


def _is_contended(reports: Sequence[ProcessReport], threads: int) -> bool:
    """By the wait for a processor; and by wall time without CPU time, for a single thread that never slept."""
    seen = _contention(reports)
    waited = seen.wait_over_cpu is not None and seen.wait_over_cpu > CONTENDED_WAIT_OVER_CPU
    awake = threads == 1 and all(
        report.sleeps is not None and report.sleeps < len(report.wall_ms) / 10 for report in reports
    )
    held_up = seen.wall_over_cpu is not None and seen.wall_over_cpu > CONTENDED_WALL_OVER_CPU
    return waited or (awake and held_up)


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


def _known_median(values: Sequence[Optional[float]]) -> Optional[float]:
    known = [value for value in values if value is not None]
    return _median(known) if known else None


def _median(values: Sequence[float]) -> float:
    return quantile(sorted(values), 0.5)
