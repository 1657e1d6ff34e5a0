"""Why an expression chooses none of some models: what they have of each name in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vitsearch.core.metrics import METRICS
from vitsearch.study.front import Point
from vitsearch.study.results.expression import Expression, Predicate
from vitsearch.study.results.selection import values_of


def why_none(where: Expression, points: Sequence[Point]) -> str:
    """`no model has backbone 'efficientvit'; they have ...`, `energy_mj was not measured`, or the range of the
    values, for each comparison of an expression that holds for none of `points`."""
    lines = [line for comparison in where.comparisons() for line in _lines(comparison, points)]
    return "; ".join(dict.fromkeys(lines))


def _lines(compared: Predicate, points: Sequence[Point]) -> Iterator[str]:
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
