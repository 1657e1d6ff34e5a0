"""All measurements of one graph as one, on a device or on the devices of a fleet: the values that are shown and that
decide."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import median

from vitsearch.core.figures import Z_95, Figure, Metrics, metrics_of
from vitsearch.core.fleet import Fleet
from vitsearch.core.metrics import SHOWN_TIMES, TIMES, at_device
from vitsearch.core.policy import POLICY
from vitsearch_agent.wire.measurement import PAIRED, RAW
from vitsearch_agent.wire.protocol import Measurement

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
    counted = [measurement for measurement in measurements if not DOUBTFUL & set(measurement.flags)] or list(
        measurements
    )
    readings, at = (
        [metrics_of(measurement) for measurement in counted],
        [_began(measurement) for measurement in counted],
    )
    figures = {
        name: _pooled(name, [metrics.figures[name] for metrics in readings], at) for name in readings[-1].figures
    }
    common = set.intersection(*(set(measurement.flags) for measurement in counted))
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
    if any(measurement.protocol.id.startswith(CONFIRMS) for measurement in measurements):
        return True
    if basis != PAIRED:
        return False
    if len(measurements) >= POLICY.measuring.most_screens:
        return True
    return len(_times([_began(measurement) for measurement in measurements])) >= POLICY.measuring.settled_times and all(
        _half(figure) <= POLICY.equality.cost_settled
        for figure in (figures[name] for name in SHOWN_TIMES)
        if figure.low and figure.high
    )


def _pooled(name: str, figures: Sequence[Figure], at: Sequence[datetime]) -> Figure:
    measured = [figure for figure in figures if figure.value is not None]
    if not measured:
        return figures[-1]
    if name not in TIMES:
        return Figure(median([figure.value for figure in measured if figure.value is not None]))
    certain = [place for place, figure in enumerate(figures) if figure.low is not None]
    if not certain:
        return measured[-1]
    groups = _times([at[place] for place in certain])
    return _weighted([_together([figures[certain[place]] for place in group]) for group in groups])


def _together(figures: Sequence[Figure]) -> Figure:
    """Those of one time as one."""
    mean = _weighted(figures)
    shared = POLICY.measuring.shared_variance
    half = max(_half(mean), min(map(_half, figures)) * math.sqrt(shared + (1.0 - shared) / len(figures)))
    middle = math.log(max(mean.value or 0.0, 1e-12))
    return Figure(mean.value, math.exp(middle - half), math.exp(middle + half))


def _half(figure: Figure) -> float:
    """Half an interval, in natural logarithms."""
    low, high = (max(end or 0.0, 1e-12) for end in (figure.low, figure.high))
    return max(math.log(high / low) / 2, 1e-6)


def _weighted(figures: Sequence[Figure]) -> Figure:
    """The mean of the logarithms, weighted by the intervals."""
    logs = [math.log(max(figure.value or 0.0, 1e-12)) for figure in figures]
    halves = [_half(figure) for figure in figures]
    weights = [1.0 / half**2 for half in halves]
    middle = sum(weight * log for weight, log in zip(weights, logs, strict=True)) / sum(weights)
    half = sum(weights) ** -0.5
    if len(figures) > 1:
        # Z_95 standard errors make a half-width; for few measurements this is the reduced chi squared.
        chi_squared = sum(weight * (Z_95 * (log - middle)) ** 2 for weight, log in zip(weights, logs, strict=True))
        half *= max(1.0, math.sqrt(chi_squared / (len(figures) - 1)))
    return Figure(math.exp(middle), math.exp(middle - half), math.exp(middle + half))


class FleetPool:
    """Combines what each device has measured of a graph; the same object until one of them measures it again."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._cached: dict[str, tuple[dict[str, PooledMeasurement], PooledMeasurement]] = {}

    def of(self, graph_key: str, of_devices: Mapping[str, PooledMeasurement | None]) -> PooledMeasurement | None:
        """What the fleet has of a graph; None while a device has not measured it."""
        parts = {name: measurement for name, measurement in of_devices.items() if measurement is not None}
        if len(parts) < len(of_devices):
            return None
        pooled = self._cached.get(graph_key)
        if pooled is None or any(pooled[0][name] is not part for name, part in parts.items()):
            pooled = self._cached[graph_key] = parts, _combined(self._fleet, parts)
        return pooled[1]


def _combined(fleet: Fleet, parts: Mapping[str, PooledMeasurement]) -> PooledMeasurement:
    """`flags` are those of the devices, as `throttled@nano`; the medians are `paired` where those of one are, and
    settled where those of all are. The device that waited longest for a core says how long."""
    flags = [at_device(flag, name) for name, part in parts.items() for flag in part.flags]
    basis = PAIRED if any(part.basis == PAIRED for part in parts.values()) else RAW
    metrics = fleet.combined({name: part.metrics for name, part in parts.items()})
    is_settled, last_at = all(part.is_settled for part in parts.values()), max(part.last_at for part in parts.values())
    waited = max((part.waited for part in parts.values() if part.waited is not None), default=None)
    return PooledMeasurement(metrics, tuple(flags), basis, is_settled, last_at, waited)
