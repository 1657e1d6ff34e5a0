"""Statistics of a series of times: quantiles, and a confidence interval of the median."""

import math
import random
from typing import TYPE_CHECKING, List, Optional, Sequence, Tuple

from vitsearch_agent.wire.measure_protocol import MINIMUM_RUNS

if TYPE_CHECKING:
    from vitsearch_agent.wire.measurement import Latency

QUANTILE_MINIMUM_RUNS = {"p50": 11, "p90": 64, "p95": 130, "p99": 662}
"""Fewest runs for a quantile, by MLPerf's early stopping at 99 % confidence: with fewer it may be far off."""

BLOCK_RUNS = 20
"""Length of bootstrap blocks. On a busy machine tens of consecutive runs are correlated: an interval from single
runs was 11 times too narrow."""

_STUDENT_95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.16, 2.145, 2.131)
STUDENT_MAX = len(_STUDENT_95)
"""The most degrees of freedom of the table."""

_RESAMPLES = 200
_BOOTSTRAP_LIMIT = 2000


def quantile(ordered: Sequence[float], q: float) -> float:
    """Return the q-quantile of sorted values, with linear interpolation."""
    position = q * (len(ordered) - 1)
    low = int(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (position - low)


def median(values: Sequence[float]) -> float:
    """Return the median of values in any order."""
    return quantile(sorted(values), 0.5)


def student_95(degrees: int) -> float:
    """Return Student's t for a two-sided 95 % interval, that of 15 degrees of freedom for more."""
    return _STUDENT_95[min(degrees, STUDENT_MAX) - 1]


def summarize(series: Sequence[Sequence[float]], seed: int = 0) -> "Latency":
    """Summarise the samples (ms) of several processes together; ValueError for fewer than 11 samples."""
    from vitsearch_agent.wire.measurement import Latency  # kept out of the measuring child

    ordered = sorted(value for values in series for value in values)
    count = len(ordered)
    if count < MINIMUM_RUNS:
        raise ValueError(f"a median needs at least {MINIMUM_RUNS} samples, got {count}")

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


def median_interval(series: Sequence[Sequence[float]], seed: int = 0) -> Tuple[Optional[float], Optional[float]]:
    """Return a 95 % confidence interval of the median over several processes (one series each), None for one process.

    It encloses the interval of a bootstrap within the processes and Student's interval of their medians: the memory
    layout of a process changes a small model's time by some percent for the whole life of the process, so no run of
    that process can show it. A bootstrap over whole processes does not work for so few: it never leaves the range of
    their medians, and with 3 processes that range contains the median of all processes in only 75 % of cases.
    """
    if len(series) < 2:
        return None, None
    low, high = _bootstrapped(series, seed)
    pooled = quantile(sorted(value for values in series for value in values), 0.5)
    half = _between_processes([median(values) for values in series])
    return max(0.0, min(low, pooled - half)), max(high, pooled + half)


def _between_processes(medians: Sequence[float]) -> float:
    """Return half the width of Student's interval of the mean of a few medians."""
    count = len(medians)
    mean = math.fsum(medians) / count
    variance = math.fsum((value - mean) ** 2 for value in medians) / (count - 1)
    return student_95(count - 1) * math.sqrt(variance / count)


def _bootstrapped(series: Sequence[Sequence[float]], seed: int) -> Tuple[float, float]:
    """Return the interval of a circular block bootstrap within each process.

    Long series are thinned evenly, so that it takes only a moment on a slow device.
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
    length = max(1, min(BLOCK_RUNS, count // 5))
    circle = values + values[: length - 1]
    drawn: List[float] = []
    while len(drawn) < count:
        start = int(generator.random() * count)
        drawn.extend(circle[start : start + length])
    return drawn[:count]
