"""Dominance, hypervolume and the knee of losses. A loss is a tuple in which less is better in every component.

Costs enter as logarithms, so that a model twice as fast is the same step anywhere on the axis; a quality, such as
accuracy, enters as its error. The hypervolume is computed by moocore (Guerreiro, Fonseca, Paquete 2021).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from vitsearch.core.figures import Z_95, Metrics
from vitsearch.core.metrics import is_quality, split

Loss = tuple[float, ...]


def loss(objectives: Sequence[str], values: Mapping[str, float | None]) -> Loss | None:
    """The loss for `values`, in the order of `objectives`; None when an objective was not measured."""
    losses = []
    for name in objectives:
        value = values.get(name)
        if value is None:
            return None
        losses.append(loss_component(name, value))
    return tuple(losses)


def loss_component(name: str, value: float) -> float:
    """What a value of the metric `name` is in a loss."""
    metric, _ = split(name)
    if metric.is_quality:
        return metric.error(value)
    return math.log(max(value, 1e-9)) * (1.0 if metric.direction == "minimize" else -1.0)


def value_of(name: str, component: float) -> float:
    """The value of the metric `name` from its component of a loss."""
    metric, _ = split(name)
    if metric.is_quality:
        return metric.at_error(component)
    return math.exp(component if metric.direction == "minimize" else -component)


def dominates(point: Loss, other: Loss) -> bool:
    """Whether `point` is nowhere worse than `other` and somewhere better."""
    return all(a <= b for a, b in zip(point, other, strict=True)) and point != other


def front(points: Sequence[Loss]) -> list[int]:
    """Indices of the points that no other point dominates; of equal points only the first."""
    kept: list[int] = []
    least = math.inf
    for index in sorted(range(len(points)), key=lambda index: points[index]):  # what dominates a point comes before it
        point = points[index]
        if len(point) == 2:
            if point[1] < least:
                least = point[1]
                kept.append(index)
        elif not any(points[other] == point or dominates(points[other], point) for other in kept):
            kept.append(index)
    return sorted(kept)


def hypervolume(points: Sequence[Loss], reference: Loss) -> float:
    """The volume that `points` dominate up to `reference`. Points beyond `reference` add nothing."""
    # Imported here to keep start-up fast: only the hypervolume needs them.
    import numpy as np
    from moocore import hypervolume as volume

    inside = [point for point in points if all(a < r for a, r in zip(point, reference, strict=True))]
    if not inside:
        return 0.0
    return float(volume(np.asarray(inside, dtype=float), ref=np.asarray(reference, dtype=float)))


def gain(point: Loss, points: Sequence[Loss], reference: Loss) -> float:
    """The hypervolume that `point` would add to `points`."""
    return max(0.0, hypervolume([*points, point], reference) - hypervolume(points, reference))


def knee(points: Sequence[Loss]) -> int | None:
    """Index of the point nearest to the ideal point after scaling each axis to [0, 1]; None without points."""
    if not points:
        return None
    low = [min(axis) for axis in zip(*points, strict=True)]
    high = [max(axis) for axis in zip(*points, strict=True)]

    def distance(point: Loss) -> float:
        return math.hypot(*((p - a) / (b - a or 1.0) for p, a, b in zip(point, low, high, strict=True)))

    return min(range(len(points)), key=lambda index: distance(points[index]))


def wilson(correct: int, n: int, z: float = Z_95) -> tuple[float, float]:
    """The confidence interval of a share (Wilson 1927); 95 % by default."""
    share = correct / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return max(0.0, centre - half), min(1.0, centre + half)


def may_be_on(front: Iterable[Loss], metrics: Metrics, objectives: Sequence[str]) -> bool:
    """Whether nothing on the front dominates the model with its costs at the better end of their 95 % intervals and its
    qualities as they were evaluated."""
    evaluated = {name: metrics.value(name) for name in objectives if is_quality(name)}
    values = metrics.at_end(better=True).values | evaluated
    best = loss(objectives, values)
    return best is not None and not any(dominates(point, best) for point in front)
