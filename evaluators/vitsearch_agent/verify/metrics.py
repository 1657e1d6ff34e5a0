"""The metrics of the built-in tasks, computed from a model's outputs: small functions on NumPy arrays.

NumPy is imported inside them: it is there where a runtime is. Outputs and references are those of whole images, one row
each, and finite; `cosines` and what follows from it take a row of zeros as unlike every other.
"""

import math
from typing import Any, Iterator, NamedTuple, Optional, Tuple

from vitsearch_agent.base.normal import Z_95
from vitsearch_agent.wire.distribution import STUDENT_MAX, student_95

NO_CLASS = -1
"""The predicted class of an image with an output that is not finite."""
NEIGHBOURS = 10
"""The nearest other images that count."""
_BLOCK_BYTES = 16 << 20
_DECIMALS = 12
"""Cosines are compared with so many: equal images get equal ones, however the sums are ordered."""


class Estimate(NamedTuple):
    """A figure of `n` images with its 95 % interval, None where it has none."""

    value: float
    low: Optional[float]
    high: Optional[float]
    n: int


def wilson(correct: int, n: int) -> Tuple[float, float]:
    """Return the 95 % confidence interval of the share `correct / n` (Wilson 1927)."""
    share, spread = correct / n, Z_95 * Z_95 / n
    middle = (share + spread / 2) / (1 + spread)
    half = Z_95 * math.sqrt(share * (1 - share) / n + spread / (4 * n)) / (1 + spread)
    # A share of 0 or 1 is exactly the end of its interval; rounding must not change that.
    return 0.0 if correct == 0 else middle - half, 1.0 if correct == n else middle + half


def mean_interval(per_image: Any) -> Estimate:
    """Return the mean of one figure of each image with its 95 % interval (Student's t over the images).

    Args:
        per_image: (n,), real numbers or booleans, n at least 1.

    Returns:
        The mean; without an interval for one image, which does not vary.
    """
    import numpy

    values = numpy.asarray(per_image, dtype=numpy.float64)
    n, mean = len(values), float(values.mean())
    if n == 1:
        return Estimate(mean, None, None, n)
    half = student(n - 1) * float(values.std(ddof=1)) / math.sqrt(n)
    return Estimate(mean, mean - half, mean + half, n)


def student(degrees: int) -> float:
    """Return Student's t for a two-sided 95 % interval, for any number of degrees of freedom.

    Beyond the table it is the expansion about the normal distribution (Abramowitz and Stegun 26.7.5), correct to 1e-4.
    """
    if degrees <= STUDENT_MAX:
        return student_95(degrees)
    z, v = 1.959964, float(degrees)
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / v + second / v**2 + third / v**3


def predicted_classes(outputs: Any) -> Any:
    """Return the class of each image: the position of its largest output.

    Args:
        outputs: (n, classes), real numbers.

    Returns:
        (n,) int64; NO_CLASS where an output is not finite.
    """
    import numpy

    return numpy.where(numpy.isfinite(outputs).all(axis=1), outputs.argmax(axis=1), NO_CLASS)


def accuracy(predicted: Any, labels: Any) -> Estimate:
    """Return the share of images whose predicted class is their label, with its interval (Wilson).

    Args:
        predicted: (n,) integers, n at least 1.
        labels: (n,) integers.
    """
    correct, n = int((predicted == labels).sum()), len(labels)
    return Estimate(correct / n, *wilson(correct, n), n=n)


def cosines(outputs: Any, reference: Any) -> Any:
    """Return the cosine of each image's output to its reference.

    Args:
        outputs: (n, width), real numbers.
        reference: (n, width), real numbers.

    Returns:
        (n,) float64 in -1 to 1; 0 where one of both is a row of zeros.
    """
    import numpy

    products = (_directions(outputs) * _directions(reference)).sum(axis=1)
    return numpy.clip(products, -1.0, 1.0)


def neighbour_agreement(outputs: Any, reference: Any, k: int = NEIGHBOURS) -> Any:
    """Return the share of each image's `k` nearest other images, by cosine, that outputs and reference agree on.

    Of equally near images the first are nearer. With fewer than `k` other images, all of them count.

    Args:
        outputs: (n, width), real numbers.
        reference: (n, any width), real numbers.
        k: How many count, at least 1.

    Returns:
        (n,) float64 in 0 to 1; 1 for a single image, which has no others.
    """
    import numpy

    n = len(outputs)
    k = min(k, n - 1)
    agreeing = numpy.ones(n)
    if not k:
        return agreeing
    first, second = _directions(outputs), _directions(reference)
    for rows in _blocks(n):
        nearest, expected = (_nearest(_cosines_to_others(every, rows), k) for every in (first, second))
        agreeing[rows] = (nearest[:, :, None] == expected[:, None, :]).any(axis=2).mean(axis=1)
    return agreeing


def knn_correct(outputs: Any, labels: Any, k: int = NEIGHBOURS) -> Any:
    """Return whether the `k` nearest other images, by cosine, have the label of each image (leave one out).

    The label of most of them counts; of equally many, that of the larger sum of cosines, then the smaller label. With
    fewer than `k` other images, all of them count.

    Args:
        outputs: (n, width), real numbers.
        labels: (n,) integers.
        k: How many count, at least 1.

    Returns:
        (n,) bool; False for a single image, which has no others.
    """
    import numpy

    n, labels = len(outputs), numpy.asarray(labels)
    k = min(k, n - 1)
    correct = numpy.zeros(n, dtype=bool)
    if not k:
        return correct
    directions = _directions(outputs)
    for rows in _blocks(n):
        near = _cosines_to_others(directions, rows)
        nearest = _nearest(near, k)
        correct[rows] = _elected(labels[nearest], _at(near, nearest)) == labels[rows]
    return correct


def _elected(labels: Any, near: Any) -> Any:
    """Return the label that is chosen of the labels (rows, k) of the nearest images with their cosines."""
    import numpy

    same = labels[:, :, None] == labels[:, None, :]
    votes = same.sum(axis=2)
    sums = numpy.round((same * near[:, None, :]).sum(axis=2), _DECIMALS)
    leads = votes == votes.max(axis=1, keepdims=True)
    sums = numpy.where(leads, sums, -numpy.inf)
    leads = sums == sums.max(axis=1, keepdims=True)
    return numpy.where(leads, labels, numpy.iinfo(labels.dtype).max).min(axis=1)


def _directions(rows: Any) -> Any:
    """Return rows of length 1, in float64; rows of zeros stay as they are."""
    import numpy

    rows = numpy.asarray(rows, dtype=numpy.float64)
    # Scaled first, as the squares of very large and very small numbers have no room.
    largest = numpy.abs(rows).max(axis=1, keepdims=True)
    scaled = rows / numpy.where(largest > 0, largest, 1.0)
    lengths = numpy.sqrt((scaled * scaled).sum(axis=1, keepdims=True))
    return scaled / numpy.where(lengths > 0, lengths, 1.0)


def _blocks(n: int) -> Iterator[slice]:
    """Yield rows whose cosines to `n` images do not take much memory."""
    step = max(_BLOCK_BYTES // (8 * n), 1)
    for first in range(0, n, step):
        yield slice(first, min(first + step, n))


def _cosines_to_others(directions: Any, rows: slice) -> Any:
    """Return the cosines (rows, n) of some images to all; that of an image to itself is less than any."""
    import numpy

    near = numpy.round(directions[rows] @ directions.T, _DECIMALS)
    near[numpy.arange(len(near)), numpy.arange(rows.start, rows.stop)] = -numpy.inf
    return near


def _nearest(near: Any, k: int) -> Any:
    """Return the positions (rows, k) of the `k` largest cosines of each row, the first of equal ones."""
    import numpy

    chosen = numpy.argpartition(-near, k - 1, axis=1)[:, :k]
    threshold = _at(near, chosen).min(axis=1, keepdims=True)
    for row in numpy.flatnonzero((near >= threshold).sum(axis=1) > k):  # several have the last place
        chosen[row] = numpy.argsort(-near[row], kind="mergesort")[:k]
    return chosen


def _at(near: Any, positions: Any) -> Any:
    """Return the values of each row at its positions (rows, k)."""
    import numpy

    return near[numpy.arange(len(near))[:, None], positions]
