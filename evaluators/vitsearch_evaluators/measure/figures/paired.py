"""The ratio of a model to the references beside it, with an interval over blocks, bursts and processes.

    block    log(model), log(products), log(convolutions), all within some 90 ms
    burst    the medians of y = log(model / convolutions) and x = log(products / convolutions)
    process  the mean over its bursts of y - weight * x
    result   the mean over the processes

The two references are slowed differently by other work on the machine, and the model like a mixture of both. The weight
of the mixture is the slope of y on x over all bursts, with a prior, because bursts that are all alike do not show it.
Measured on a shared two-core guest (seven models, 30 processes each, see benchmarks/noise.py): this lowers the standard
deviation between processes from 2-15 % to 1-4 % (9 % for one model), where a fixed mean of the references gives 1-10 %.
"""

import math
from typing import Callable, List, NamedTuple, Optional, Sequence

from vitsearch_evaluators.measure.child.phase_reports import Block, ProcessReport
from vitsearch_evaluators.wire.distribution import median, student_95
from vitsearch_evaluators.wire.paired import Ratio

PRIOR_WEIGHT, PRIOR_WEIGHT_ERROR = 0.5, 0.35
"""The weights of the seven models were .07 to .87."""
PRIOR_ERROR = 0.025
"""The standard deviation between processes, and that of a burst, as seen before this measurement."""
PRIOR_DEGREES = 4
"""The prior counts like this many further degrees of freedom: the spread of two processes alone says little."""


class _Point(NamedTuple):
    """A burst: the logarithms of model and products, both relative to the convolutions."""

    model: float
    products: float


def ratio(reports: Sequence[ProcessReport], time: Callable[[Block], float]) -> Optional[Ratio]:
    """Return the ratio in the time that `time` takes from a block; None if a time is 0 or no reference ran."""
    processes = [_points(report, time) for report in reports]
    if not all(processes):
        return None
    points = [point for process in processes for point in process]
    line = _line(points)
    estimates = [_mean([point.model - line.weight * point.products for point in process]) for process in processes]
    middle = _mean(estimates)
    half = _half_width(estimates) if len(estimates) > 1 else None
    return Ratio(
        value=math.exp(middle),
        weight=line.weight,
        weight_error=line.error,
        rel_half_width=None if half is None else math.expm1(half),
        references=math.exp(_mean([point.products for point in points])),
    )


def _points(report: ProcessReport, time: Callable[[Block], float]) -> List[_Point]:
    """Return a point for each burst of a process; nothing if a clock was too coarse for a block."""
    points = []
    for burst in report.bursts:
        if any(time(block) <= 0 for paired in burst for block in paired):
            return []
        convolutions = [math.log(time(paired.convolutions)) for paired in burst]
        points.append(
            _Point(
                median([math.log(time(paired.model)) - base for paired, base in zip(burst, convolutions)]),
                median([math.log(time(paired.products)) - base for paired, base in zip(burst, convolutions)]),
            )
        )
    return points


class _Line(NamedTuple):
    weight: float
    error: float


def _line(points: Sequence[_Point]) -> _Line:
    """Return the slope of model on products and its standard error, from the points and the prior."""
    x_mean, y_mean = _mean([point.products for point in points]), _mean([point.model for point in points])
    x = [point.products - x_mean for point in points]
    y = [point.model - y_mean for point in points]
    xx, xy = math.fsum(one * one for one in x), math.fsum(one * other for one, other in zip(x, y))
    prior = 1.0 / PRIOR_WEIGHT_ERROR**2
    line = _Line(PRIOR_WEIGHT, PRIOR_WEIGHT_ERROR)
    for _ in range(3):  # the scatter around the line and the line depend on each other; three rounds settle it
        rest = math.fsum((other - line.weight * one) ** 2 for one, other in zip(x, y))
        variance = (PRIOR_DEGREES * PRIOR_ERROR**2 + rest) / (PRIOR_DEGREES + max(1, len(points) - 2))
        precision = prior + xx / variance
        line = _Line((prior * PRIOR_WEIGHT + xy / variance) / precision, precision**-0.5)
    return line


def _half_width(estimates: Sequence[float]) -> float:
    """Return half the 95 % interval of the mean of the processes, in natural logarithms."""
    count, middle = len(estimates), _mean(estimates)
    degrees = PRIOR_DEGREES + count - 1
    variance = (PRIOR_DEGREES * PRIOR_ERROR**2 + math.fsum((one - middle) ** 2 for one in estimates)) / degrees
    return student_95(degrees) * math.sqrt(variance / count)


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
