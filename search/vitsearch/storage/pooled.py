"""All measurements of one graph as one: the values that are shown and that decide.

    medians (latency, CPU time)     the mean of their logarithms, each weighted by its interval
    other figures                   the median of the measurements that have them

Measurements that disagree by more than their intervals widen the interval of the mean (Birge 1932), so a value that was
seen twice never looks more certain than the two of them were.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from vitsearch.core.figures import Figure, Metrics, metrics_of
from vitsearch_evaluators.wire.measurement import PAIRED
from vitsearch_evaluators.wire.protocol import CONFIRM, SCREEN, Measurement

SHOWN_MEDIANS = ("latency_ms_p50", "cpu_ms_p50")
MEDIANS = (*SHOWN_MEDIANS, "latency_ms_p50_raw", "cpu_ms_p50_raw")
DOUBTFUL = frozenset({"unverified_device", "sustained_throttling", "throttled", "swapped", "warm_start"})
"""Flags of a measurement that counts only while there is none without them."""
SETTLED_SCREENS, MOST_SCREENS, SETTLED_HALF_WIDTH = 2, 3, 0.04
"""Beside references most of an interval is what differs from minute to minute. So two screening measurements at
different times say more than the processes of a confirmation, which follow one another: half-widths of 3.4 to 3.7 %
instead of 4.4 to 4.6 %, in half the time (``benchmarks/noise.py report``)."""


@dataclass(frozen=True)
class PooledMeasurement:
    """``flags`` are those that all measurements that count have; ``basis`` is that of the last one: ``raw`` or
    ``paired``. ``is_settled``: it was measured as often as the models that a study shows in the end."""

    metrics: Metrics
    flags: tuple[str, ...]
    basis: str
    is_settled: bool


def pool(measurements: Sequence[Measurement]) -> PooledMeasurement:
    """Pool at least one measurement of a graph, all of one device and environment."""
    counted = [one for one in measurements if not DOUBTFUL & set(one.flags)] or list(measurements)
    found = [metrics_of(one) for one in counted]
    figures = {name: _pooled(name, [metrics.figures[name] for metrics in found]) for name in found[-1].figures}
    common = set.intersection(*(set(one.flags) for one in counted))
    basis = counted[-1].basis
    return PooledMeasurement(Metrics(figures), tuple(sorted(common)), basis, _is_settled(measurements, basis, figures))


def _is_settled(measurements: Sequence[Measurement], basis: str, figures: Mapping[str, Figure]) -> bool:
    """Whether a graph was confirmed or, where times are taken beside references, screened at several times."""
    if any(one.protocol.max_processes >= CONFIRM.max_processes for one in measurements):
        return True
    screens = sum(one.protocol.max_processes == SCREEN.max_processes for one in measurements)
    if basis != PAIRED or screens < SETTLED_SCREENS:
        return False
    return screens >= MOST_SCREENS or all(
        math.log(figure.high / figure.low) / 2 <= SETTLED_HALF_WIDTH
        for figure in (figures[name] for name in SHOWN_MEDIANS)
        if figure.low and figure.high
    )


def _pooled(name: str, figures: Sequence[Figure]) -> Figure:
    known = [figure for figure in figures if figure.value is not None]
    if not known:
        return figures[-1]
    if name not in MEDIANS:
        return Figure(median([figure.value for figure in known if figure.value is not None]))
    certain = [figure for figure in known if figure.low is not None]
    return _weighted(certain) if certain else known[-1]


def _weighted(figures: Sequence[Figure]) -> Figure:
    """The mean of the logarithms, weighted by the intervals."""
    logs, halves = [], []
    for figure in figures:
        value, low, high = (max(one or 0.0, 1e-12) for one in (figure.value, figure.low, figure.high))
        logs.append(math.log(value))
        halves.append(max(math.log(high / low) / 2, 1e-6))
    weights = [1.0 / half**2 for half in halves]
    middle = sum(weight * one for weight, one in zip(weights, logs, strict=True)) / sum(weights)
    half = sum(weights) ** -0.5
    if len(figures) > 1:
        # 1.96 standard errors make a half-width; for few measurements this is the reduced chi squared.
        chi_squared = sum(weight * (1.96 * (one - middle)) ** 2 for weight, one in zip(weights, logs, strict=True))
        half *= max(1.0, math.sqrt(chi_squared / (len(figures) - 1)))
    return Figure(math.exp(middle), math.exp(middle - half), math.exp(middle + half))
