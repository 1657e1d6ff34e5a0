"""What `vitsearch retarget` has found for a target, stored with the study. Measurements are in the ledger."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from vitsearch.core.decoding import decoded
from vitsearch.core.fleet import Fleet
from vitsearch.core.plan import Plan
from vitsearch.core.record import Record
from vitsearch.errors import StudyError, UnknownName
from vitsearch.study.retargeted.target import Target
from vitsearch.study.study import Study

PREFIX = "retargeted:"
"""Of the attribute of a study that has the results of one target."""


@dataclass(frozen=True)
class Prediction:
    """A model that was not measured there: its costs with their 95 % intervals, and the chance that it is on the
    front."""

    trial: int
    plan: Plan
    values: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]]
    chance: float

    def to_json(self) -> dict[str, Any]:
        intervals = {name: list(interval) for name, interval in self.intervals.items()}
        return asdict(self) | {"plan": self.plan.to_json(), "values": dict(self.values), "intervals": intervals}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Prediction:
        intervals = {name: (low, high) for name, (low, high) in value["intervals"].items()}
        return cls(**{**value, "plan": Plan.from_json(value["plan"]), "intervals": intervals})


@dataclass(frozen=True)
class Fit:
    """How well a metric is predicted."""

    metric: str
    """The metric."""
    graphs: int
    """Graphs that were measured, each predicted from the others."""
    median_error: float
    """Median of the errors, relative to the measured values."""
    spearman: float | None
    """Rank correlation; null where all values are equal."""
    covered: float
    """Share of the measured values within their 95 % intervals."""


@dataclass(frozen=True)
class Retargeted:
    """The models of a study on a target. `models` are those that were measured there, by their trials, and
    `left_out` those that cannot run there, with the reason. `kind` is that of the device, `protocol` the name of
    its confirmation protocol."""

    target: Target
    kind: str
    protocol: str
    baseline: Record | None = None
    models: Mapping[int, Record] = field(default_factory=dict)
    predictions: tuple[Prediction, ...] = ()
    fits: tuple[Fit, ...] = ()
    left_out: Mapping[int, str] = field(default_factory=dict)

    def save(self, study: Study) -> None:
        study.remember(PREFIX + self.target.name, self.to_json())

    def to_json(self) -> dict[str, Any]:
        return {
            "target": self.target.to_json(),
            "kind": self.kind,
            "protocol": self.protocol,
            "baseline": None if self.baseline is None else self.baseline.to_json(),
            "models": {str(trial): record.to_json() for trial, record in self.models.items()},
            "predictions": [prediction.to_json() for prediction in self.predictions],
            "fits": [asdict(fit) for fit in self.fits],
            "left_out": {str(trial): reason for trial, reason in self.left_out.items()},
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Retargeted:
        baseline = value["baseline"]
        return cls(
            Target(**value["target"]),
            value["kind"],
            value["protocol"],
            None if baseline is None else Record.from_json(baseline),
            {int(trial): Record.from_json(record) for trial, record in value["models"].items()},
            tuple(map(Prediction.from_json, value["predictions"])),
            tuple(Fit(**fit) for fit in value["fits"]),
            {int(trial): reason for trial, reason in value["left_out"].items()},
        )


def names(study: Study) -> list[str]:
    """The targets for which a study has results."""
    return sorted(key.removeprefix(PREFIX) for key in study.attributes if key.startswith(PREFIX))


def find(study: Study, name: str) -> Retargeted:
    """The results for a target. Raises `StudyError` or
    `UnknownName` where there are none."""
    stored = study.attributes.get(PREFIX + name)
    if stored is not None:
        return decoded(Retargeted.from_json, stored, f"study {study.name!r}: what was measured on {name}")
    space = study.space()
    if name in space.fleet_names:
        return _on_member(study, name)
    if known := [*space.fleet_names, *names(study)]:
        raise UnknownName(f"device of study {study.name!r}", name, [space.device_name, *known])
    raise StudyError(
        f"study {study.name!r} has no results on {name!r}; to measure its models there: vitsearch retarget "
        f"{study.name} --device {name}"
    )


def _on_member(study: Study, name: str) -> Retargeted:
    """What the search itself has measured on one device of its fleet."""
    fleets = study.fleets
    models = {
        number: on_member(record, fleets, name)
        for number, record in study.records().items()
        if record.is_confirmed and record.keys is not None and record.keys.device_id in fleets
    }
    baseline = study.baseline()
    protocols = [fleet.members[name].protocol for fleet in fleets.values()]
    known, protocol = study.devices.get(name), protocols[-1] if protocols else ""
    kind = "" if known is None else known.latest.kind
    return Retargeted(
        Target(name), kind, protocol, None if baseline is None else on_member(baseline, fleets, name), models
    )


def on_member(record: Record, fleets: Mapping[str, Fleet], name: str) -> Record:
    """The record of a trial of a fleet with the figures of one of its devices."""
    assert record.keys is not None  # it was measured
    keys = replace(record.keys, device_id=fleets[record.keys.device_id].members[name].device_id)
    plan = replace(record.plan, deployments=tuple(replace(one, device=name) for one in record.plan.deployments))
    return replace(record, plan=plan, keys=keys, metrics=record.metrics.on_device(name))
