"""Expected hypervolume improvement of independent Gaussian objectives, all minimised.

Up to four objectives it is exact: what the front does not dominate below the reference point falls into disjoint boxes
(Lacour, Klamroth, Fonseca: A box decomposition algorithm to compute the hypervolume indicator, 2017), and over a box
the expectation is a product over objectives. A deviation of 0 means a known objective. With more objectives it is the
mean over random directions of a one-dimensional integral (Zhang, Golovin: Random hypervolume scalarizations, 2020).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from vitsearch.study.auto_sampler.encoding import Floats

EXACT_OBJECTIVES = 4
FRONT_MOST = {1: 1, 2: 200, 3: 60, 4: 22}
"""Points of a front that are used, by objectives; with more the boxes become too many."""
DIRECTIONS, NODES = 20, 6
CHUNK = 250
"""Plans at a time: what is in work fits into the cache of a core."""


@dataclass(frozen=True)
class Boxes:
    """Disjoint boxes that hold exactly the points below the reference point that no point of the front dominates: their
    corners, `lower` and `upper` (boxes, objectives).
    """

    lower: Floats
    upper: Floats


def expected_improvement(
    means: Floats, deviations: Floats, front: Floats, reference: Floats, rng: np.random.Generator
) -> Floats:
    """That of each plan, (plans,), in units of hypervolume. `means` and `deviations` are (plans, objectives), `front`
    (points, objectives), `reference` (objectives,). `rng` draws directions beyond four objectives.
    """
    inside = thin(front[np.all(front < reference, axis=1)])
    if len(reference) > EXACT_OBJECTIVES:
        return _scalarised(means, deviations, inside, reference, rng)
    boxes = partition(inside, reference)
    parts = [slice(start, start + CHUNK) for start in range(0, len(means), CHUNK)]
    return np.concatenate([_over_boxes(means[part], deviations[part], boxes) for part in parts] or [np.empty(0)])


def hypervolume(front: Floats, reference: Floats) -> float:
    """What `front` (points, objectives) dominates below `reference` (objectives,)."""
    from moocore import hypervolume as volume  # as everywhere: it is slow to import

    inside = front[np.all(front < reference, axis=1)]
    return float(volume(inside, ref=reference)) if len(inside) else 0.0


def pareto(points: Floats) -> npt.NDArray[np.bool_]:
    """Which of the `points` (n, objectives) no other one dominates, (n,). Equal points dominate each other's copies
    behind them."""
    no_worse = np.all(points[:, None] <= points, axis=2)
    first_of_equals = np.triu(np.ones_like(no_worse), 1)
    dominated: npt.NDArray[np.bool_] = (no_worse & (~no_worse.T | first_of_equals)).any(axis=0)
    return ~dominated


def thin(front: Floats) -> Floats:
    """The non-dominated points (n, objectives), at most as many as their number of objectives allows, evenly by the
    first one."""
    best = front[pareto(front)]
    most = FRONT_MOST.get(front.shape[1], FRONT_MOST[2])
    if len(best) <= most:
        return best
    ordered = best[np.argsort(best[:, 0], kind="stable")]
    kept: Floats = ordered[np.linspace(0, len(ordered) - 1, most).round().astype(int)]
    return kept


def partition(front: Floats, reference: Floats) -> Boxes:
    """The boxes of a `front` (n, objectives) of non-dominated points below `reference` (objectives,). They are
    unbounded below in the first objective."""
    count = len(reference)
    upper = reference[None, :].copy()
    # Row k of the defining points of a bound is the point that gives its coordinate k.
    defining = np.full((1, count, count), -np.inf)
    defining[0, range(count), range(count)] = reference
    for point in front[np.lexsort(front.T[::-1])]:
        upper, defining = _cut(upper, defining, point)
    lower = np.full_like(upper, -np.inf)
    for j in range(1, count):
        lower[:, j] = defining[:, :j, j].max(axis=1)
    has_room = np.all(lower < upper, axis=1)
    return Boxes(lower[has_room], upper[has_room])


def _cut(upper: Floats, defining: Floats, point: Floats) -> tuple[Floats, Floats]:
    """Replace the bounds above `point` by those that it leaves."""
    above = np.all(upper > point, axis=1)
    uppers, definings = [upper[~above]], [defining[~above]]
    for j in range(len(point)):
        others = np.delete(defining[above][:, :, j], j, axis=1).max(axis=1, initial=-np.inf)
        valid = point[j] >= others
        bound, points = upper[above][valid].copy(), defining[above][valid].copy()
        bound[:, j], points[:, j, :] = point[j], point
        uppers.append(bound)
        definings.append(points)
    return np.concatenate(uppers), np.concatenate(definings)


def _over_boxes(means: Floats, deviations: Floats, boxes: Boxes) -> Floats:
    product = np.ones((len(means), len(boxes.upper)))
    for j in range(means.shape[1]):
        bounds, index = np.unique(np.concatenate([boxes.upper[:, j], boxes.lower[:, j]]), return_inverse=True)
        below = expected_excess(bounds, means[:, j, None], deviations[:, j, None])
        upper, lower = np.split(index, 2)
        product *= below[:, upper] - below[:, lower]
    total: Floats = product.sum(axis=1)
    return total


def expected_excess(bound: Floats, mean: Floats, deviation: Floats) -> Floats:
    """E[max(bound - y, 0)] for Gaussian y, of arrays that broadcast; 0 for a bound of minus infinity."""
    finite = np.maximum(bound, np.finfo(float).min / 4)
    spread = np.maximum(deviation, 1e-12)
    with np.errstate(over="ignore"):
        z = np.clip((finite - mean) / spread, -40.0, None)
        density = np.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)
        excess: Floats = spread * (z * ndtr(z) + density)
    return np.where(np.isneginf(bound), 0.0, np.maximum(excess, 0.0))


def _scalarised(
    means: Floats, deviations: Floats, front: Floats, reference: Floats, rng: np.random.Generator
) -> Floats:
    """The hypervolume of a set is the mean over directions of its largest min_j((ref_j - y_j) / direction_j)^m."""
    count = len(reference)
    scale = np.maximum(reference - np.quantile(means, 0.05, axis=0), 1e-9)
    directions = np.abs(rng.standard_normal((DIRECTIONS, count)))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    optimistic = (reference - means + 3 * deviations) / scale
    total = np.zeros(len(means))
    for direction in directions:
        reached = ((reference - front) / scale / direction).min(axis=1).max(initial=0.0)
        most = (optimistic / direction).min(axis=1).max(initial=reached)
        for node, weight in zip(nodes, weights, strict=True):
            length = reached + (most - reached) * (node + 1) / 2
            bound = reference - length * direction * scale
            chance = ndtr((bound - means) / np.maximum(deviations, 1e-12)).prod(axis=1)
            total += weight * (most - reached) / 2 * count * length ** (count - 1) * chance
    unit_ball_part = math.pi ** (count / 2) / 2**count / math.gamma(count / 2 + 1)
    total *= unit_ball_part * scale.prod() / DIRECTIONS
    return total
