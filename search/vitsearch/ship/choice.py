"""Which model of a study is shipped."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass

from vitsearch.core.metrics import METRICS, split
from vitsearch.core.plan import Plan
from vitsearch.core.record import Keys
from vitsearch.errors import StudyError, did_you_mean
from vitsearch.storage.ledger import Ledger
from vitsearch.study.front import Front, Point, read_front
from vitsearch.study.study import Study

FORM = "min METRIC [where METRIC >= NUMBER and ...], or max METRIC"
_PICK = re.compile(r"\s*(min|max)\s+(\S+)(?:\s+where\s+(.+?))?\s*\Z", re.DOTALL)
_LIMIT = re.compile(r"\s*(\S+?)\s*(<=|>=|<|>)\s*(\S+)\s*\Z")
_COMPARED: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip


@dataclass(frozen=True)
class Wanted:
    """Exactly one of these: a ``trial``, the ``knee`` of the front, or a ``pick`` (:data:`FORM`) among its models."""

    trial: int | None = None
    knee: bool = False
    pick: str | None = None


@dataclass(frozen=True)
class Chosen:
    """A confirmed trial of a study."""

    trial: int
    plan: Plan
    keys: Keys
    rung: int


def choose(study: Study, ledger: Ledger, wanted: Wanted) -> Chosen:
    """The trial that is wanted; :class:`StudyError` when there is none, or when it has no exported model."""
    number = wanted.trial
    if number is None:
        front = read_front(study, ledger)
        if not front.points:
            raise StudyError(f"study {study.name!r} has no feasible model yet: see 'vitsearch status {study.name}'")
        number = _knee(front) if wanted.knee else picked(front, wanted.pick or "")
    records = study.records()
    if number not in records:
        known = f"; its trials are 0 to {max(records)}" if records else " and no finished trial"
        raise StudyError(f"study {study.name!r} has no finished trial {number}{known}")
    record = records[number]
    if (original := record.duplicate_of) is not None:
        record, number = records[original], original
    if not record.is_confirmed or record.keys is None or record.keys.artifact_key is None:
        reason = f": {record.reason}" if record.reason else ""
        raise StudyError(f"trial {number} of study {study.name!r} has no exported model: {record.outcome}{reason}")
    return Chosen(number, record.plan, record.keys, record.rung)


def _knee(front: Front) -> int:
    index = 0 if front.knee is None else front.knee
    return _number(front.points[index])


def _number(point: Point) -> int:
    assert point.trial is not None  # the baseline is no point of a front
    return point.trial


def picked(front: Front, text: str) -> int:
    """The trial of the model of the front that ``text`` describes, such as ``min cpu_ms_p50 where accuracy >= 0.9``."""
    match = _PICK.match(text)
    if match is None:
        raise StudyError(f"--pick {text!r} is not of the form: {FORM}")
    sense, name, limits = match.groups()
    rules = [(_metric(text, name), "", 0.0)]
    rules += [_limit(text, part) for part in re.split(r"\s+and\s+", limits)] if limits else []
    (target, _, _), *asked = rules
    left = [point for point in front.points if point.metrics.value(target) is not None]
    for metric, sign, bound in asked:
        values = {point.trial: point.metrics.value(metric) for point in left}
        meets = [point for point in left if _meets(values[point.trial], sign, bound)]
        if not meets:
            raise StudyError(f"--pick: no model of the front meets {metric} {sign} {bound:g}{_nearest(values, sign)}")
        left = meets
    if not left:
        raise StudyError(f"--pick: {target} was not measured for any model of the front")
    best = min if sense == "min" else max
    return _number(best(left, key=lambda point: point.metrics.value(target) or 0.0))


def _meets(value: float | None, sign: str, bound: float) -> bool:
    return value is not None and _COMPARED[sign](value, bound)


def _nearest(values: dict[int | None, float | None], sign: str) -> str:
    """What comes nearest to a bound that nothing meets."""
    known = {trial: value for trial, value in values.items() if value is not None}
    if not known:
        return ": it was not measured"
    best = (min if sign.startswith("<") else max)(known, key=lambda trial: known[trial])
    return f"; trial {best} comes nearest, with {known[best]:.4g}"


def _limit(text: str, part: str) -> tuple[str, str, float]:
    match = _LIMIT.match(part)
    if match is None:
        raise StudyError(f"--pick {text!r}: {part.strip()!r} is not of the form METRIC >= NUMBER (or <=, <, >)")
    name, sign, bound = match.groups()
    try:
        return _metric(text, name), sign, float(bound)
    except ValueError:
        raise StudyError(f"--pick {text!r}: {bound!r} is not a number") from None


def _metric(text: str, name: str) -> str:
    try:
        split(name)
    except KeyError:
        near = did_you_mean(name, METRICS)
        raise StudyError(f"--pick {text!r}: no metric is called {name!r}{near}; known: {', '.join(METRICS)}") from None
    return name
