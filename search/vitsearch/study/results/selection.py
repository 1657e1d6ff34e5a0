"""Models filtered and sorted by their metrics and knobs, why an expression chooses none, and which neighbours on a
front are tied."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from vitsearch.core.figures import Metrics
from vitsearch.core.metrics import METRICS, split
from vitsearch.errors import UnknownName
from vitsearch.study.front import Point
from vitsearch.study.knob_values import NUMBERS, SHAPE, knob_values
from vitsearch.study.results.comparison import compared
from vitsearch.study.results.expression import Expression, Kind, Predicate, Value, parse


def names_of(metrics: Iterable[str]) -> dict[str, Kind]:
    """What an expression may name: the metrics, those of `metrics` with their devices, the knobs, and the number of
    the trial."""
    kinds: dict[str, Kind] = dict.fromkeys([*metrics, *METRICS, "trial"], "number")
    return kinds | {knob: "number" if knob in NUMBERS else "word" for knob in KNOBS}


KNOBS = (
    "backbone",
    *NUMBERS,
    SHAPE,
    "pruning_scope",
    "weight_sparsity",
    "token_pruning_method",
    "token_pruning_at",
    "distillation",
    "quantization",
    "quantized_ops",
    "backend",
    "provider",
    "batch",
)


def values_of(point: Point) -> dict[str, Value]:
    """The values that an expression sees of a model."""
    trial = None if point.trial is None else float(point.trial)
    return {**point.metrics.values, **knob_values(point.plan), "trial": trial}


@dataclass(frozen=True)
class Order:
    """`name` is a metric, knob or `trial`. The better value of a metric comes first, the smaller one of the
    others; `is_reversed` turns that round."""

    name: str
    is_reversed: bool = False

    @classmethod
    def of(cls, text: str, names: Mapping[str, Kind]) -> Order:
        """Read `cpu_ms_p50` or `-cpu_ms_p50`. Raises `UnknownName`."""
        name = text.removeprefix("-")
        if name not in names:
            raise UnknownName("metric or knob", name, names)
        return cls(name, text.startswith("-"))

    def sorted(self, points: Iterable[Point]) -> list[Point]:
        """The models in this order; those that lack the value come last."""
        valued = [(values_of(point).get(self.name), point) for point in points]
        judged = [(value, point) for value, point in valued if value is not None]
        descends = self._higher_is_better() != self.is_reversed
        judged.sort(key=lambda pair: pair[0], reverse=descends)
        return [point for _, point in judged] + [point for value, point in valued if value is None]

    def _higher_is_better(self) -> bool:
        return self.name.partition("@")[0] in METRICS and split(self.name)[0].direction == "maximize"


@dataclass(frozen=True)
class Selection:
    """Which models are shown, and in which order; None for all, and for the order of the front."""

    where: Expression | None = None
    order: Order | None = None

    @classmethod
    def of(cls, where: str | None, sort: str | None, metrics: Iterable[str]) -> Selection:
        """Read what a person wrote; `metrics` as for `names_of`.

        Raises `QueryError` and `UnknownName`, which name what is
        allowed."""
        names = names_of(metrics)
        expression = None if where is None else parse(where, names)
        return cls(expression, None if sort is None else Order.of(sort, names))

    def of_points(self, points: Sequence[Point]) -> tuple[Point, ...]:
        where = self.where
        kept = [point for point in points if where is None or where.holds(values_of(point))]
        return tuple(kept if self.order is None else self.order.sorted(kept))


Ties = tuple[Mapping[str, tuple[str, ...]], ...]
"""For each model of a front: the metrics in which it is tied -> the names of the neighbours."""


def why_none(where: Expression, points: Sequence[Point]) -> str:
    """`no model has backbone 'efficientvit'; they have ...`, `energy_mj was not measured`, or the range of the
    values, for each comparison of an expression that holds for none of `points`."""
    lines = [line for comparison in where.comparisons() for line in _reasons(comparison, points)]
    return "; ".join(dict.fromkeys(lines))


def _reasons(compared: Predicate, points: Sequence[Point]) -> Iterator[str]:
    for operand, other in ((compared.left, compared.right), (compared.right, compared.left)):
        if operand.name is None:
            continue
        values = {value for point in points if (value := values_of(point).get(operand.name)) not in (None, "")}
        numbers = [value for value in values if isinstance(value, float)]
        words = sorted(value for value in values if isinstance(value, str))
        if not values:
            yield _missing(operand.name, points)
        elif numbers:
            yield f"{operand.name} is {_range(numbers)}"
        elif other.name is None and other.text not in words:
            yield f"no model has {operand.name} {other.text!r}; they have {', '.join(words)}"
        else:
            yield f"{operand.name} is {' or '.join(words)}"


def _missing(name: str, points: Sequence[Point]) -> str:
    if name.partition("@")[0] not in METRICS:
        return f"no model has a value of {name}"
    reasons = dict.fromkeys(reason for point in points if (reason := point.metrics.reasons.get(name)))
    return f"{name} was not measured" + (f": {', '.join(reasons)}" if reasons else "")


def _range(numbers: Sequence[float]) -> str:
    low, high = f"{min(numbers):.4g}", f"{max(numbers):.4g}"
    return low if low == high else f"{low} to {high}"


def ties(points: Sequence[Point], objectives: Sequence[str]) -> Ties:
    """The objectives in which neighbours on a front do not differ significantly, by the test of `vitsearch compare`:
    the figures do not tell which of the two is better there. `points` are in the order of the front. Values without
    an interval tie if they are equal."""
    tied: list[dict[str, tuple[str, ...]]] = [{} for _ in points]
    for index in range(len(points) - 1):
        point, after = points[index], points[index + 1]
        for name in objectives:
            if _is_open(point.metrics, after.metrics, name):
                tied[index][name] = (*tied[index].get(name, ()), after.name)
                tied[index + 1][name] = (*tied[index + 1].get(name, ()), point.name)
    return tuple(tied)


def _is_open(metrics: Metrics, other: Metrics, name: str) -> bool:
    verdict = compared(name, metrics, other).verdict
    if verdict != "no interval":
        return verdict in ("not significant", "equal")
    # Only one of the two has an interval: it may hold the other's value.
    (low, high), (other_low, other_high) = _span(metrics, name), _span(other, name)
    return low <= other_high and other_low <= high


def _span(metrics: Metrics, name: str) -> tuple[float, float]:
    value = metrics.values[name] or 0.0
    return metrics.intervals.get(name, (value, value))
