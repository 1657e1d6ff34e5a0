"""Expected hypervolume improvement of independent Gaussian objectives, all minimised.

Up to four objectives it is exact: what the front does not dominate below the reference point falls into disjoint boxes
(Lacour, Klamroth, Fonseca: A box decomposition algorithm to compute the hypervolume indicator, 2017), and over a box
the expectation is a product over objectives. A deviation of 0 means a known objective. With more objectives it is the
mean over random directions of a one-dimensional integral (Zhang, Golovin: Random hypervolume scalarizations, 2020).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from vitsearch.study.auto_sampler.encoding import Floats

EXACT_OBJECTIVES = 4
FRONT_MOST = {1: 1, 2: 200, 3: 60, 4: 22}
"""Points of a front that are used, by objectives; with more the boxes become too many."""
DIRECTIONS, NODES = 20, 6
MOST_EXPONENT = 600.0
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
    means: Floats,
    deviations: Floats,
    front: Floats,
    reference: Floats,
    rng: np.random.Generator,
    by_factors: Sequence[bool] | None = None,
) -> Floats:
    """That of each plan, (plans,), in units of hypervolume. `means` and `deviations` are (plans, objectives), `front`
    (points, objectives), `reference` (objectives,). `rng` draws directions beyond four objectives. Of the objectives
    that are `by_factors`, means and deviations are those of the logarithm; front and reference are not.
    """
    return Improvement.of(front, reference).expected(means, deviations, rng, by_factors)


@dataclass(frozen=True)
class Improvement:
    """That over one front. `inside` (points, objectives) are its points below the reference point, at most as many as
    are used; `boxes` what they leave, none beyond four objectives."""

    inside: Floats
    reference: Floats
    boxes: Boxes | None

    @classmethod
    def of(cls, front: Floats, reference: Floats) -> Improvement:
        inside = thin(front[np.all(front < reference, axis=1)])
        exact = len(reference) <= EXACT_OBJECTIVES
        return cls(inside, reference, partition(inside, reference) if exact else None)

    def expected(
        self, means: Floats, deviations: Floats, rng: np.random.Generator, by_factors: Sequence[bool] | None = None
    ) -> Floats:
        """As `expected_improvement`."""
        logs = np.array(by_factors or [False] * len(self.reference), dtype=bool)
        if self.boxes is None:
            return _scalarised(means, deviations, self, logs, rng)
        parts = [slice(start, start + CHUNK) for start in range(0, len(means), CHUNK)]
        gains = [_over_boxes(means[part], deviations[part], self.boxes, logs) for part in parts]
        return np.concatenate(gains or [np.empty(0)])


def hypervolume(front: Floats, reference: Floats) -> float:
    """What `front` (points, objectives) dominates below `reference` (objectives,)."""
    from moocore import hypervolume as volume  # as everywhere: it is slow to import

    inside = front[np.all(front < reference, axis=1)]
    return float(volume(inside, ref=reference)) if len(inside) else 0.0


def pareto(points: Floats) -> npt.NDArray[np.bool_]:
    """Which of the `points` (n, objectives) no other one dominates, (n,). Of equal points the first one counts."""
    from moocore import is_nondominated  # as everywhere: it is slow to import

    if not len(points):
        return np.zeros(0, dtype=bool)
    return np.asarray(is_nondominated(points), dtype=bool)


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


def _over_boxes(means: Floats, deviations: Floats, boxes: Boxes, logs: npt.NDArray[np.bool_]) -> Floats:
    product = np.ones((len(means), len(boxes.upper)))
    for j in range(means.shape[1]):
        bounds, index = np.unique(np.concatenate([boxes.upper[:, j], boxes.lower[:, j]]), return_inverse=True)
        excess = expected_excess_by_factors if logs[j] else expected_excess
        below = excess(bounds, means[:, j, None], deviations[:, j, None])
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


def expected_excess_by_factors(bound: Floats, mean: Floats, deviation: Floats) -> Floats:
    """E[max(bound - y, 0)] where the logarithm of y is Gaussian with this mean and deviation; 0 for a bound of 0 or
    less."""
    spread = np.maximum(deviation, 1e-9)
    z = (np.log(np.maximum(bound, np.finfo(float).tiny)) - mean) / spread
    expected = np.exp(np.minimum(mean + 0.5 * spread**2, MOST_EXPONENT))
    excess: Floats = np.maximum(bound, 0.0) * ndtr(z) - expected * ndtr(z - spread)
    return np.maximum(excess, 0.0)


def _scalarised(
    means: Floats, deviations: Floats, over: Improvement, logs: npt.NDArray[np.bool_], rng: np.random.Generator
) -> Floats:
    """The hypervolume of a set is the mean over directions of its largest min_j((ref_j - y_j) / direction_j)^m."""
    reference, front, count = over.reference, over.inside, len(over.reference)
    typical, best = (np.where(logs, np.exp(each), each) for each in (means, means - 3 * deviations))
    scale = np.maximum(reference - np.quantile(typical, 0.05, axis=0), 1e-9)
    directions = np.abs(rng.standard_normal((DIRECTIONS, count)))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    optimistic = (reference - best) / scale
    total = np.zeros(len(means))
    for direction in directions:
        reached = ((reference - front) / scale / direction).min(axis=1).max(initial=0.0)
        most = (optimistic / direction).min(axis=1).max(initial=reached)
        for node, weight in zip(nodes, weights, strict=True):
            length = reached + (most - reached) * (node + 1) / 2
            bound = reference - length * direction * scale
            bound = np.where(logs, np.log(np.maximum(bound, np.finfo(float).tiny)), bound)
            chance = ndtr((bound - means) / np.maximum(deviations, 1e-12)).prod(axis=1)
            total += weight * (most - reached) / 2 * count * length ** (count - 1) * chance
    unit_ball_part = math.pi ** (count / 2) / 2**count / math.gamma(count / 2 + 1)
    total *= unit_ball_part * scale.prod() / DIRECTIONS
    return total
