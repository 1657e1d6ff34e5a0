"""Which model of a study is shipped."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from vitsearch.core.plan import Plan
from vitsearch.core.record import Keys, Record
from vitsearch.errors import StudyError, UnknownName
from vitsearch.storage.ledger import Ledger
from vitsearch.study.front import Front, Point, baseline_on, read_front, records_on
from vitsearch.study.results.model_names import number_of
from vitsearch.study.results.selection import Selection, names_of, values_of, why_none
from vitsearch.study.study import Study

FORM = "min METRIC [where EXPRESSION], or max METRIC"
_PICK = re.compile(r"\s*(min|max)\s+(\S+)(?:\s+where\s+(.+?))?\s*\Z", re.DOTALL)


@dataclass(frozen=True)
class Wanted:
    """The model to ship: either a `model` or a `pick`.

    Attributes:
        model: The number of a trial, `"baseline"` or `"knee"`.
        pick: A rule that picks one model of the front, such as `min cpu_ms_p50 where accuracy >= 0.9` (`FORM`).
        device: The name of a target of `vitsearch retarget`; None for where the study was searched.
    """

    model: int | str | None = None
    pick: str | None = None
    device: str | None = None


@dataclass(frozen=True)
class Chosen:
    """A confirmed trial of a study, or its baseline (`trial` None)."""

    trial: int | None
    plan: Plan
    keys: Keys
    rung: int

    @property
    def name(self) -> str:
        return "the baseline" if self.trial is None else f"trial {self.trial}"


def choose(study: Study, ledger: Ledger, wanted: Wanted) -> Chosen:
    """Find the model that is wanted.

    Args:
        study: Where it was searched.
        ledger: The results of the study.
        wanted: The name of the model, or the rule that picks it.

    Returns:
        A confirmed trial, or the baseline.

    Raises:
        StudyError: There is no such model, or it has no exported file.
        UnknownName: The rule names what is no metric or knob.
    """
    if (wanted.model is None) == (wanted.pick is None):
        both = "neither was" if wanted.pick is None else f"both, {wanted.model!r} and {wanted.pick!r}, were"
        raise StudyError(f"name the wanted model, or the rule that picks it; {both} given; the form of a rule: {FORM}")
    front = partial(read_front, study, ledger, wanted.device)
    number = number_of(str(wanted.model), front) if wanted.pick is None else picked(front(), wanted.pick)
    if number is None:
        return _baseline(study, wanted.device)
    records = records_on(study, wanted.device)
    if number not in records:
        raise StudyError(f"study {study.name!r} has no finished trial {number}{_known(records, wanted.device)}")
    record = records[number]
    if (original := record.duplicate_of) is not None:
        record, number = records[original], original
    if not record.is_confirmed or record.keys is None or record.keys.artifact_key is None:
        reason = f": {record.reason}" if record.reason else ""
        raise StudyError(f"trial {number} of study {study.name!r} has no exported model: {record.outcome}{reason}")
    return Chosen(number, record.plan, record.keys, record.rung)


def _baseline(study: Study, device: str | None) -> Chosen:
    record = baseline_on(study, device)
    if record is None or record.keys is None:
        there = "" if device is None else f" on {device}"
        raise StudyError(f"study {study.name!r} has not measured its baseline{there} yet")
    return Chosen(None, record.plan, record.keys, record.rung)


def _known(records: Mapping[int, Record], device: str | None) -> str:
    if not records:
        return " and no finished trial"
    if device is not None:
        return f" on {device}; measured there: {', '.join(map(str, sorted(records)))}"
    return f"; its trials are 0 to {max(records)}"


def _number(point: Point) -> int:
    assert point.trial is not None  # the baseline is no point of a front
    return point.trial


def picked(front: Front, text: str) -> int:
    """The trial of the model of the front that `text` describes, such as `min cpu_ms_p50 where accuracy >= 0.9`;
    the rest is an expression as `vitsearch front --where` takes it."""
    if not front.points:
        raise StudyError(f"study {front.study!r} has no feasible model yet: 'vitsearch status' says how far it is")
    match = _PICK.match(text)
    if match is None:
        raise StudyError(f"--pick {text!r} is not of the form: {FORM}")
    sense, target, where = match.groups()
    metrics = (*front.objectives, *front.metrics_of_devices)
    names = names_of(metrics)
    if names.get(target) != "number":
        raise UnknownName(
            "metric or knob with numbers", target, [name for name, kind in names.items() if kind == "number"]
        )
    selection = Selection.of(where, None, metrics)
    left = selection.of_points(front.points)
    if selection.where is not None and not left:
        raise StudyError(f"--pick: no model of the front meets {where}: {why_none(selection.where, front.points)}")
    measured = [(value, point) for point in left if isinstance(value := values_of(point).get(target), float)]
    if not measured:
        raise StudyError(f"--pick: {target} was not measured for any model of the front that meets the rule")
    return _number((min if sense == "min" else max)(measured, key=lambda pair: pair[0])[1])
