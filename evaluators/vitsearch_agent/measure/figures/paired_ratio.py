"""The ratio of a model to the references beside it, with an interval over blocks, bursts and processes.

    block    log(model), log(products), log(convolutions), all within some 50 ms
    burst    the medians of y = log(model / convolutions) and x = log(products / convolutions)
    process  the mean over its bursts of y - weight * x
    result   the mean over the processes

The two references are slowed differently by other work on the machine, and the model like a mixture of both. The weight
of the mixture is the slope of y on x over all bursts, with a prior, because bursts that are all alike do not show it.

The constants were chosen on 210 processes of seven models over half an hour, on a guest of two cores with a load of 5
to 16, and on 144 measurements of four models on another guest (`benchmarks/noise.py`, none to two busy neighbours).
There, the standard deviation of a confirmation was 4 to 17 % as read and 1 to 4 % as a ratio.
"""

import math
from typing import Callable, List, NamedTuple, Optional, Sequence

from vitsearch_agent.measure.child.phase_reports import Block, ProcessReport
from vitsearch_agent.runtimes.reference_models import PRODUCTS_BYTES
from vitsearch_agent.wire.distribution import median, student_95
from vitsearch_agent.wire.paired import Ratio

FEW_BYTES, FEW_WEIGHT = 1.7e6, 0.1
MANY_BYTES, MANY_WEIGHT = 11e6, 0.8
"""The weights of models of that size, on average of 18 measurements each: an EfficientViT of .1 ms and a ViT of 3 ms.
The more weights a model has, the more it is slowed as the products are: a MobileViT of 4 MB was at .15, int8 files of
the ViT (3 MB) at .36, deit_tiny (22 MB) at .85."""
PRIOR_WEIGHT_ERROR = 0.2
LEAST_WEIGHT, MOST_WEIGHT = 0.0, 1.5
"""The weights of the seven models were .07 to .93."""
UNLIKE_ERROR = 0.2
"""The part of the weight's error that no measurement shows: a model is not quite a mixture of the references."""
MINUTES_HALF_WIDTH = 0.04
"""Half a 95 % interval of what differs from minute to minute and not within a measurement. The standard deviation of
confirmations in half an hour was 1.0, 2.2 and 4.0 % (ViT, deit_tiny, EfficientViT); with .015, intervals held the
median of all in 100, 94 and 56 of 100 cases, with .04 in 100, 94 and 78, and those of screens in 94 to 100."""
PRIOR_ERROR = 0.01
"""The standard deviation of a burst, as seen before this measurement on a quiet machine."""
MEMORY_BOUND_ABOVE = 2.8
"""A model is bound by memory if it reads this many times more weights per second than the products do. levit_128s
(28 MB in 1.6 ms) is at 2.1, other small models at .5 to 1.6, products of a vector with 8 to 50 MB at 3.6 to 8.6."""
MEMORY_BOUND_BYTES = 4_000_000
"""Fewer weights lie in the caches of the core itself: an EfficientViT of 1.7 MB in bf16 is at 2.7 to 3.5, and five
processes agree within 2 %."""
MEMORY_BOUND_HALF_WIDTH = 0.6
"""Half a 95 % interval of what no reference shows of such a model, in natural logarithms: its time depends on how much
of a shared cache others leave to it. The standard deviation was 10 to 36 % from minute to minute. A third reference, a
product of a vector with 16 MB, does not track it: with it, the scatter of bursts around the mixture was .085 instead of
.099 (20 MB), .073 instead of .098 (50 MB) and .31 instead of .34 (8 MB)."""
PRIOR_DEGREES = 4
"""The prior counts like this many further degrees of freedom: the spread of two processes alone says little."""


class _Point(NamedTuple):
    """A burst: the logarithms of model and products, both relative to the convolutions."""

    model: float
    products: float


def is_memory_bound(reports: Sequence[ProcessReport], model_bytes: int) -> bool:
    """Return whether a model with files of this size loads its weights faster than any reference can follow.

    Its speed is compared with that of the products within the same bursts, so other work hardly changes the answer.
    """
    points = [point for report in reports for point in _points(report, lambda block: block.cpu_ms)]
    if not points or model_bytes < MEMORY_BOUND_BYTES:
        return False
    speed = model_bytes / PRODUCTS_BYTES * math.exp(_mean([point.products - point.model for point in points]))
    return speed > MEMORY_BOUND_ABOVE


def prior_weight(model_bytes: int) -> float:
    """Return the weight that is expected of a model with files of this size."""
    share = math.log(max(model_bytes, 1) / FEW_BYTES) / math.log(MANY_BYTES / FEW_BYTES)
    return FEW_WEIGHT + (MANY_WEIGHT - FEW_WEIGHT) * min(1.0, max(0.0, share))


def ratio(
    reports: Sequence[ProcessReport], time: Callable[[Block], float], prior: float, unlike_half: float = 0.0
) -> Optional[Ratio]:
    """Return the ratio in the time that `time` takes from a block; None if a time is 0 or no reference ran.

    `prior` is the weight that is expected (`prior_weight`), `unlike_half` is half a 95 % interval, in natural
    logarithms, of what the references do not show of the model.
    """
    processes = [_points(report, time) for report in reports]
    if not all(processes):
        return None
    points = [point for process in processes for point in process]
    line = _line(points, prior)
    estimates = [_mean([point.model - line.weight * point.products for point in process]) for process in processes]
    middle = _mean(estimates)
    half = math.hypot(_half_width(estimates, line.scatter), unlike_half) if len(estimates) > 1 else None
    return Ratio(
        value=math.exp(middle),
        weight=line.weight,
        weight_error=math.hypot(line.error, UNLIKE_ERROR),
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
    """The slope, its standard error, and the standard deviation of a burst from the line."""

    weight: float
    error: float
    scatter: float


def _line(points: Sequence[_Point], expected: float) -> _Line:
    """Return the slope of model on products and its standard error, from the points and the slope that is expected."""
    x_mean, y_mean = _mean([point.products for point in points]), _mean([point.model for point in points])
    x = [point.products - x_mean for point in points]
    y = [point.model - y_mean for point in points]
    xx, xy = math.fsum(dx * dx for dx in x), math.fsum(dx * dy for dx, dy in zip(x, y))
    prior = 1.0 / PRIOR_WEIGHT_ERROR**2
    line = _Line(expected, PRIOR_WEIGHT_ERROR, PRIOR_ERROR)
    for _ in range(3):  # the scatter around the line and the line depend on each other; three rounds settle it
        rest = math.fsum((dy - line.weight * dx) ** 2 for dx, dy in zip(x, y))
        variance = (PRIOR_DEGREES * PRIOR_ERROR**2 + rest) / (PRIOR_DEGREES + max(1, len(points) - 2))
        precision = prior + xx / variance
        slope = (prior * expected + xy / variance) / precision
        line = _Line(min(MOST_WEIGHT, max(LEAST_WEIGHT, slope)), precision**-0.5, math.sqrt(variance))
    return line


def _half_width(estimates: Sequence[float], scatter: float) -> float:
    """Return half the 95 % interval of the mean of the processes, in natural logarithms.

    Two processes say little about how processes differ. Over the seven models their standard deviation was about that
    of a burst, so the scatter of the bursts is the prior.
    """
    count, middle = len(estimates), _mean(estimates)
    degrees = PRIOR_DEGREES + count - 1
    variance = (PRIOR_DEGREES * scatter**2 + math.fsum((estimate - middle) ** 2 for estimate in estimates)) / degrees
    return math.hypot(student_95(degrees) * math.sqrt(variance / count), MINUTES_HALF_WIDTH)


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
