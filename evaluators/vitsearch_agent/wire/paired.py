"""Times as multiples of reference models, and what they are in milliseconds.

On a machine that is shared with others, `Ratio` is what a measurement finds out; the milliseconds follow from the times
that the references take on this device when it is quiet (`ReferenceTimes`), which the agent learns over time. Results
are stored as ratios, so all of them move together when a reference time becomes known better.
"""

import math
from typing import Any, Dict, Mapping, NamedTuple, Optional

from vitsearch_agent.base import json_reader
from vitsearch_agent.base.normal import Z_95


class ReferenceTimes(NamedTuple):
    """The times of the two references on a quiet device, in ms, for one environment, runtime and number of threads.

    They are low quantiles over the last `processes` measuring processes; `provisional` until they are stable.
    """

    products_cpu_ms: float
    convolutions_cpu_ms: float
    products_wall_ms: float
    convolutions_wall_ms: float
    processes: int
    provisional: bool

    def to_json(self) -> Dict[str, Any]:
        return dict(self._asdict())

    @classmethod
    def from_json(cls, value: Any, where: str = "reference_times") -> "ReferenceTimes":
        return cls(**json_reader.read_object(value, _REFERENCE_TIMES, where))


_positive = json_reader.number(1e-9)
_REFERENCE_TIMES = {
    "products_cpu_ms": _positive,
    "convolutions_cpu_ms": _positive,
    "products_wall_ms": _positive,
    "convolutions_wall_ms": _positive,
    "processes": json_reader.integer(1),
    "provisional": json_reader.boolean,
}


class Ratio(NamedTuple):
    """A model's time divided by the weighted geometric mean of the references' times.

    `weight` is the weight of `products`, between 0 and 1 for most models, and `weight_error` its standard error: how
    much of a slowdown of the one and of the other reference the model shared. `rel_half_width` is half the 95 %
    interval of `value`, relative to it; None if a single process was measured. `references` is the time of `products`
    divided by that of `convolutions` in this measurement.
    """

    value: float
    weight: float
    weight_error: float
    rel_half_width: Optional[float]
    references: float

    def to_json(self) -> Dict[str, Any]:
        return dict(self._asdict())

    @classmethod
    def from_json(cls, value: Any, where: str = "ratio") -> "Ratio":
        return cls(**json_reader.read_object(value, _RATIO, where))


_RATIO = {
    "value": _positive,
    "weight": json_reader.number(),
    "weight_error": json_reader.number(0.0),
    "rel_half_width": json_reader.optional(json_reader.number(0.0)),
    "references": _positive,
}


class Paired(NamedTuple):
    """The ratios of a measurement to the references with the digest `reference`.

    `wall` is None where latency is CPU time: a single thread that never sleeps. `times` are the
    reference times when the measurement ended; a reader may know newer ones.
    """

    reference: str
    cpu: Ratio
    wall: Optional[Ratio]
    times: ReferenceTimes

    def to_json(self) -> Dict[str, Any]:
        wall = None if self.wall is None else self.wall.to_json()
        return {"reference": self.reference, "cpu": self.cpu.to_json(), "wall": wall, "times": self.times.to_json()}

    @classmethod
    def from_json(cls, value: Any, where: str = "paired") -> "Paired":
        return cls(**json_reader.read_object(value, _PAIRED, where))


_PAIRED: Mapping[str, json_reader.Reader] = {
    "reference": json_reader.sha256,
    "cpu": Ratio.from_json,
    "wall": json_reader.optional(Ratio.from_json),
    "times": ReferenceTimes.from_json,
}


class Milliseconds(NamedTuple):
    """A median in ms with its 95 % interval, which is None if a single process was measured."""

    p50: float
    low: Optional[float]
    high: Optional[float]


def cpu_ms(paired: Paired, times: ReferenceTimes) -> Milliseconds:
    """Return the CPU time on a quiet device with these reference times."""
    return _milliseconds(paired.cpu, times.products_cpu_ms, times.convolutions_cpu_ms)


def wall_ms(paired: Paired, times: ReferenceTimes) -> Milliseconds:
    """Return the latency on a quiet device with these reference times.

    A thread that never sleeps takes its CPU time, which other work on the processor does not lengthen.
    """
    if paired.wall is None:
        return cpu_ms(paired, times)
    return _milliseconds(paired.wall, times.products_wall_ms, times.convolutions_wall_ms)


def _milliseconds(ratio: Ratio, products_ms: float, convolutions_ms: float) -> Milliseconds:
    median = ratio.value * products_ms**ratio.weight * convolutions_ms ** (1.0 - ratio.weight)
    if ratio.rel_half_width is None:
        return Milliseconds(median, None, None)
    half = math.hypot(math.log1p(ratio.rel_half_width), disagreement(ratio, products_ms / convolutions_ms))
    return Milliseconds(median, median * math.exp(-half), median * math.exp(half))


def disagreement(ratio: Ratio, quiet_references: float) -> float:
    """Return how far the two references leave the time open, as half a 95 % interval in natural logarithms.

    When one reference was slowed more than the other, the time depends on the weight, which is known only to within
    its error.
    """
    return Z_95 * ratio.weight_error * abs(math.log(ratio.references / quiet_references))
