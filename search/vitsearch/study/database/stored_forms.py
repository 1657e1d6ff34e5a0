"""What the attributes of a study and of its trials must look like. Names that are not here are compared by who reads
them, or are Optuna's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NotRequired, TypedDict

from vitsearch.core.caveats.leaks import StoredLeak
from vitsearch.core.decoding import damaged, decoded, expect, parsed, shown
from vitsearch.core.device_identity import NamedDevice, stored_devices
from vitsearch.core.figures import Metrics
from vitsearch.core.fleet import Fleet, stored_fleets
from vitsearch.core.metrics import METRICS
from vitsearch.core.plan import Plan
from vitsearch.core.record import Keys, Record
from vitsearch.space import SearchSpace
from vitsearch.space.changes import SpaceChange
from vitsearch.storage.driver_id import DriverId
from vitsearch.study.dropped_backbones import DroppedBackbone


class _StoredSplit(TypedDict):
    images: int
    sha256: str


class _StoredData(TypedDict):
    fingerprint: NotRequired[str]
    class_names: NotRequired[list[str]]
    image_size: NotRequired[int | tuple[int, int]]
    channels: NotRequired[int]
    mean: NotRequired[list[float]]
    std: NotRequired[list[float]]
    holdout_images: NotRequired[int]
    splits: NotRequired[dict[str, _StoredSplit]]
    leaks: NotRequired[dict[str, StoredLeak]]


class _Waits(TypedDict):
    device: str
    since: float
    why: str
    driver: dict[str, Any]


class _Converged(TypedDict):
    """`space` names what was searched: the plans of the file that the device could run, and its environment."""

    space: str
    reason: str
    trained: int


def _as_stored(value: Any) -> Any:
    return value


def _baseline(value: Any) -> Record:
    plan, metrics = Plan.from_json(value["plan"]), Metrics.from_json(value["metrics"])
    return Record("confirmed", plan, keys=Keys(**value["keys"]), metrics=metrics)


def _row(value: Any) -> tuple[Record, dict[str, float]]:
    return Record("confirmed", Plan.from_json(value["plan"]), metrics=Metrics.from_json(value)), value["shares"]


def _leaderboard(value: Any) -> list[tuple[Record, dict[str, float]]]:
    return [_row(row) for row in value]


_OF_STUDY: dict[str, tuple[Callable[[Any], Any], Any]] = {
    "space": (SearchSpace.from_json, SearchSpace),
    "search_end": (_as_stored, str | None),
    "space_changes": (lambda value: [SpaceChange.from_json(change) for change in value], list[SpaceChange]),
    "data": (_as_stored, _StoredData),
    "devices": (lambda value: stored_devices({"devices": value}), dict[str, NamedDevice]),
    "fleets": (lambda value: stored_fleets({"fleets": value}), dict[str, Fleet]),
    "protocol": (_as_stored, str),
    "choices": (_as_stored, dict[str, list[str]]),
    "baseline": (_baseline, Record),
    "dropped_backbones": (lambda value: [DroppedBackbone.from_json(row) for row in value], list[DroppedBackbone]),
    "leaderboard": (_leaderboard, list[tuple[Record, dict[str, float]]]),
    "reference_point": (_as_stored, dict[str, float]),
    "converged": (_as_stored, _Converged),
    "waits": (_as_stored, _Waits | None),
    "runs": (_as_stored, int),
    "file_forms": (_as_stored, dict[str, dict[str, str]]),
    "environments": (_as_stored, dict[str, Any]),
    "longer_trainings": (_as_stored, dict[str, Any]),
}
_OF_TRIALS: dict[str, tuple[Callable[[Any], Any], Any]] = {
    "driver": (DriverId.from_json, DriverId),
    "trains": (_as_stored, str),
    "enqueued": (_as_stored, str),
    "fixed_params": (_as_stored, dict[str, str | float]),
}
CONSTRAINT = "constraints:"
"""How the names begin under which Optuna keeps the constraints of a trial."""


def attribute_of_study(name: str, text: str, storage: str) -> Any:
    """The JSON value of an attribute of a study. Raises `Damaged`."""
    where = f"storage {storage}: {name} of the study"
    value = parsed(text, where)
    if name in _OF_STUDY:
        read, expected = _OF_STUDY[name]
        result = decoded(read, value, where, expected)
        if isinstance(result, Record):
            _require_possible(result, where)
    return value


def attribute_of_trial(name: str, value: Any, where: str) -> None:
    """Raise `Damaged` unless an attribute of a trial is as it was stored."""
    if name.startswith(CONSTRAINT):
        expect(float, value, where)
    elif name in _OF_TRIALS:
        read, expected = _OF_TRIALS[name]
        decoded(read, value, where, expected)


def record_of(value: Any, where: str) -> Record:
    """The record of a trial. Raises `Damaged`."""
    record = decoded(Record.from_json, value, where)
    _require_possible(record, where)
    return record


def _require_possible(record: Record, where: str) -> None:
    """Raise `Damaged` for figures that no model can have, and for a plan that is not
    that of one model."""
    if len(record.plan.deployments) != 1:
        raise damaged(where, f"plan.deployments has {len(record.plan.deployments)} items, allowed: 1")
    for name, figure in record.metrics.figures.items():
        metric = METRICS.get(name.partition("@")[0])
        if metric is None:
            raise damaged(where, f"{shown(name)} is not a known metric")
        value = figure.value
        if value is None or metric.is_possible(value):
            continue
        raise damaged(where, f"{name} is {shown(value)}, allowed: {metric.allowed}")
