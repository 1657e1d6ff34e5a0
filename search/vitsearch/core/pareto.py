"""Dominance, hypervolume and the knee, on losses: tuples in which less is better in every place.

Costs enter as logarithms (a model twice as fast is the same step anywhere on the axis), accuracy as
the error. Hypervolume is moocore's (Guerreiro, Fonseca, Paquete 2021).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from vitsearch.core.metrics import split

Loss = tuple[float, ...]


def loss(objectives: Sequence[str], values: Mapping[str, float | None]) -> Loss | None:
    """``values`` as losses in the order of ``objectives``; None when one of them was not measured."""
    losses = []
    for name in objectives:
        value = values.get(name)
        if value is None:
            return None
        metric, _ = split(name)
        if name == "accuracy":
            losses.append(1.0 - value)
        else:
            losses.append(math.log(max(value, 1e-9)) * (1.0 if metric.direction == "minimize" else -1.0))
    return tuple(losses)


def dominates(one: Loss, other: Loss) -> bool:
    """Nowhere worse and somewhere better."""
    return all(a <= b for a, b in zip(one, other, strict=True)) and one != other


def front(points: Sequence[Loss]) -> list[int]:
    """Indices of the points that no other dominates; of equal points the first."""
    seen: set[Loss] = set()
    kept = []
    for index, point in enumerate(points):
        if point not in seen and not any(dominates(other, point) for other in points):
            kept.append(index)
            seen.add(point)
    return kept


def hypervolume(points: Sequence[Loss], reference: Loss) -> float:
    """Volume that ``points`` dominate inside ``reference``; points outside count nothing."""
    import numpy as np
    from moocore import hypervolume as volume

    inside = [point for point in points if all(a < r for a, r in zip(point, reference, strict=True))]
    if not inside:
        return 0.0
    return float(volume(np.asarray(inside, dtype=float), ref=np.asarray(reference, dtype=float)))


def gain(point: Loss, points: Sequence[Loss], reference: Loss) -> float:
    """Hypervolume that ``point`` would add to ``points``."""
    added: float = hypervolume([*points, point], reference) - hypervolume(points, reference)
    return float(max(0.0, added))


def knee(points: Sequence[Loss]) -> int | None:
    """Index of the point nearest to the ideal corner after scaling each axis to [0, 1]; None without points."""
    if not points:
        return None
    low = [min(axis) for axis in zip(*points, strict=True)]
    high = [max(axis) for axis in zip(*points, strict=True)]

    def distance(point: Loss) -> float:
        return math.hypot(*((p - a) / (b - a or 1.0) for p, a, b in zip(point, low, high, strict=True)))

    return min(range(len(points)), key=lambda index: distance(points[index]))


def wilson(correct: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927)."""
    share = correct / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return max(0.0, centre - half), min(1.0, centre + half)
