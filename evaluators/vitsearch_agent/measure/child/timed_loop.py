"""The timed loop of the measuring child.

warm-up --> sample: [cpu [wall run wall] cpu] x n --> Samples
"""

import contextlib
import gc
import math
import time
from typing import Callable, Iterator, List, NamedTuple, Sequence, Tuple

from vitsearch_agent.wire.distribution import median
from vitsearch_agent.wire.measure_protocol import MINIMUM_RUNS, MOST_RUNS, MeasureProtocol

STEADY_WITHIN = 0.03
"""Warm-up is steady when the medians of two successive windows differ by no more than this share."""

WARM_UP_AT_MOST, PAIRED_WARM_UP_AT_MOST = 10, 5
"""How many times longer than the protocol's `warmup_min_s` a warm-up may take to become steady. Beside references less
is enough: on a busy machine it is the machine that is not steady, and each block settles again."""

WINDOW_MINIMUM_RUNS = 5
"""The median of fewer runs is too noisy to compare."""

_CLOCK_SAMPLES = 51


class Clocks(NamedTuple):
    """Wall time, CPU time of this process, and the monotonic clock shared by all processes; all in seconds."""

    wall: Callable[[], float] = time.perf_counter
    cpu: Callable[[], float] = time.process_time
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


class Samples(NamedTuple):
    """The times of all timed runs, in order."""

    wall_ms: List[float]
    cpu_ms: List[float]


def warm_up(
    run: Callable[[], None], protocol: MeasureProtocol, clocks: Clocks, at_most: float = WARM_UP_AT_MOST
) -> bool:
    """Run the protocol's warm-up and continue until two successive windows agree; return whether they did.

    The first two windows are the halves of the protocol's warm-up; further windows have the same length.
    Warm-up ends at the latest after `at_most` times the protocol's `warmup_min_s` more. Fewer than 10 warm-up runs
    make no comparable windows: they run, and the result is True.
    """
    if protocol.warmup_min_runs < 2 * WINDOW_MINIMUM_RUNS:
        _window(run, protocol.warmup_min_runs, protocol.warmup_min_s, clocks)
        return True
    half_runs, half_s = -(-protocol.warmup_min_runs // 2), protocol.warmup_min_s / 2
    before = _window(run, half_runs, half_s, clocks)
    now = _window(run, half_runs, half_s, clocks)
    end = clocks.wall() + at_most * protocol.warmup_min_s
    while not _agree(before, now):
        before, now = now, _window(run, half_runs, half_s, clocks, end)
        if clocks.wall() >= end:
            return False
    return True


def _window(run: Callable[[], None], runs: int, seconds: float, clocks: Clocks, end: float = math.inf) -> Samples:
    """Run until both `runs` and `seconds` are reached, at the latest until the clock reads `end`."""
    left_s = end - clocks.wall()
    return timed_runs(run, clocks, lambda done, passed_s: (done < runs or passed_s < seconds) and passed_s < left_s)


def _agree(earlier: Samples, later: Samples) -> bool:
    """Return whether the medians agree: in wall time, or in CPU time where the CPU runs the model.

    On a busy machine wall time may never become steady while CPU time does.
    """
    pairs = [(median(earlier.wall_ms), median(later.wall_ms))]
    cpu = (median(earlier.cpu_ms), median(later.cpu_ms))
    if cpu[1] >= pairs[0][1] / 2:
        pairs.append(cpu)
    return any(abs(now - before) <= STEADY_WITHIN * max(now, before) for before, now in pairs)


def is_enough(runs: int, seconds: float, protocol: MeasureProtocol) -> bool:
    """Return whether a process has sampled as much as the protocol asks for, or as long as it allows."""
    if runs < MINIMUM_RUNS:
        return False
    return (runs >= protocol.min_runs and seconds >= protocol.min_s) or seconds >= protocol.max_s or runs >= MOST_RUNS


def sample(run: Callable[[], None], protocol: MeasureProtocol, clocks: Clocks) -> Samples:
    """Time `run` without a pause as often as the protocol asks for.

    The CPU time of reading the wall clock is subtracted: it is 2 % of a model of 0.1 ms.
    """
    overhead_ms = clock_overhead_ms(clocks)
    samples = timed_runs(run, clocks, lambda done, passed_s: not is_enough(done, passed_s, protocol))
    return Samples(samples.wall_ms, [max(0.0, cpu_ms - overhead_ms) for cpu_ms in samples.cpu_ms])


def spread(times: Sequence[float]) -> Tuple[float, ...]:
    """Return every time, or as many as a report may have, evenly spaced."""
    step = -(-len(times) // MOST_RUNS) or 1
    return tuple(times[::step])


def clock_overhead_ms(clocks: Clocks) -> float:
    """Return the CPU time of the two readings of the wall clock that a timed run contains."""
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
    """Time `run` while `keep_running(runs, seconds)` holds for the runs and seconds so far.

    The loop does as little as possible between two runs, because Python's work there evicts the model from
    the caches: a function call per run cost 2 % of a model of 0.1 ms.
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
    """Collect garbage once and switch the collector off.

    Enter it before the warm-up: a collection empties the interpreter's free lists, and a model of 0.1 ms
    takes 1.5 % longer right after it.
    """
    collecting = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def stay_idle(seconds: float, clocks: Clocks) -> Tuple[float, float]:
    """Do nothing for `seconds`; return the start and the end on the monotonic clock."""
    start = clocks.monotonic()
    clocks.sleep(seconds)
    return start, clocks.monotonic()
