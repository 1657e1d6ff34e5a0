"""All measurements of one graph as one: the values that are shown and that decide.

    medians (latency, CPU time)     the mean of their logarithms, each weighted by its interval
    other figures                   the median of the measurements that have them

Measurements that disagree by more than their intervals widen the interval of the mean (Birge 1932), so a value that was
seen twice never looks more certain than the two of them were. Those of one minute share a part of their error: together
they count as one, little more certain than the best of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import median

from vitsearch.core.figures import Z_95, Figure, Metrics, metrics_of
from vitsearch.core.policy import POLICY
from vitsearch_evaluators.wire.measurement import PAIRED
from vitsearch_evaluators.wire.protocol import Measurement

SHOWN_MEDIANS = ("latency_ms_p50", "cpu_ms_p50")
MEDIANS = (*SHOWN_MEDIANS, "latency_ms_p50_raw", "cpu_ms_p50_raw")
DOUBTFUL = frozenset({"unverified_device", "sustained_throttling", "throttled", "swapped", "warm_start"})
"""Flags of a measurement that counts only while there is none without them."""
CONFIRMS = "confirm-"
"""How the ids of confirmation protocols begin."""


@dataclass(frozen=True)
class PooledMeasurement:
    """`flags` are those that all measurements that count have; `basis` is that of the last one: `raw` or
    `paired`. `is_settled`: it was measured as often as the models that a study shows in the end. The last
    measurement began at `last_at`, by the clock of the device; while it ran, its processes `waited` for a core for
    this share of their CPU time, which other work had (None: not counted)."""

    metrics: Metrics
    flags: tuple[str, ...]
    basis: str
    is_settled: bool
    last_at: datetime
    waited: float | None = None


def pool(measurements: Sequence[Measurement]) -> PooledMeasurement:
    """Pool at least one measurement of a graph, all of one device and environment."""
    counted = [one for one in measurements if not DOUBTFUL & set(one.flags)] or list(measurements)
    found, at = [metrics_of(one) for one in counted], [_began(one) for one in counted]
    figures = {name: _pooled(name, [metrics.figures[name] for metrics in found], at) for name in found[-1].figures}
    common = set.intersection(*(set(one.flags) for one in counted))
    basis, last = counted[-1].basis, max(measurements, key=_began)
    is_settled = _is_settled(measurements, basis, figures)
    return PooledMeasurement(
        Metrics(figures), tuple(sorted(common)), basis, is_settled, _began(last), last.contention.wait_over_cpu
    )


def _began(measurement: Measurement) -> datetime:
    return datetime.fromisoformat(measurement.started_at)


def _times(at: Sequence[datetime]) -> list[list[int]]:
    """The places of what began at about the same time, by time."""
    groups: list[list[int]] = []
    for place in sorted(range(len(at)), key=at.__getitem__):
        if groups and (at[place] - at[groups[-1][0]]).total_seconds() < POLICY.measuring.apart_s:
            groups[-1].append(place)
        else:
            groups.append([place])
    return groups


def _is_settled(measurements: Sequence[Measurement], basis: str, figures: Mapping[str, Figure]) -> bool:
    """Whether a graph was confirmed or, where times are taken beside references, screened at several times."""
    if any(one.protocol.id.startswith(CONFIRMS) for one in measurements):
        return True
    if basis != PAIRED:
        return False
    if len(measurements) >= POLICY.measuring.most_screens:
        return True
    return len(_times([_began(one) for one in measurements])) >= POLICY.measuring.settled_times and all(
        _half(figure) <= POLICY.equality.cost_settled
        for figure in (figures[name] for name in SHOWN_MEDIANS)
        if figure.low and figure.high
    )


def _pooled(name: str, figures: Sequence[Figure], at: Sequence[datetime]) -> Figure:
    known = [figure for figure in figures if figure.value is not None]
    if not known:
        return figures[-1]
    if name not in MEDIANS:
        return Figure(median([figure.value for figure in known if figure.value is not None]))
    certain = [place for place, figure in enumerate(figures) if figure.low is not None]
    if not certain:
        return known[-1]
    groups = _times([at[place] for place in certain])
    return _weighted([_together([figures[certain[place]] for place in group]) for group in groups])


def _together(figures: Sequence[Figure]) -> Figure:
    """Those of one time as one."""
    found = _weighted(figures)
    shared = POLICY.measuring.shared_variance
    half = max(_half(found), min(map(_half, figures)) * math.sqrt(shared + (1.0 - shared) / len(figures)))
    middle = math.log(max(found.value or 0.0, 1e-12))
    return Figure(found.value, math.exp(middle - half), math.exp(middle + half))


def _half(figure: Figure) -> float:
    """Half an interval, in natural logarithms."""
    low, high = (max(one or 0.0, 1e-12) for one in (figure.low, figure.high))
    return max(math.log(high / low) / 2, 1e-6)


def _weighted(figures: Sequence[Figure]) -> Figure:
    """The mean of the logarithms, weighted by the intervals."""
    logs = [math.log(max(figure.value or 0.0, 1e-12)) for figure in figures]
    halves = [_half(figure) for figure in figures]
    weights = [1.0 / half**2 for half in halves]
    middle = sum(weight * one for weight, one in zip(weights, logs, strict=True)) / sum(weights)
    half = sum(weights) ** -0.5
    if len(figures) > 1:
        # Z_95 standard errors make a half-width; for few measurements this is the reduced chi squared.
        chi_squared = sum(weight * (Z_95 * (one - middle)) ** 2 for weight, one in zip(weights, logs, strict=True))
        half *= max(1.0, math.sqrt(chi_squared / (len(figures) - 1)))
    return Figure(math.exp(middle), math.exp(middle - half), math.exp(middle + half))
