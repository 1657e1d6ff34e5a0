"""The Pareto front of a study, read from its records and all measurements of their graphs: no device, no torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from vitsearch.core.caveats import known_bad
from vitsearch.core.caveats.precision_shares import in_name_only
from vitsearch.core.figures import Metrics
from vitsearch.core.fleet import Fleet
from vitsearch.core.limits import Bound, bounds, constraints
from vitsearch.core.pareto import Loss, front, hypervolume, knee, loss, may_be_on, wilson
from vitsearch.core.plan import Plan
from vitsearch.core.record import Keys, Record
from vitsearch.space import LOCAL_DEVICE, SearchSpace
from vitsearch.storage import shipped
from vitsearch.storage.ledger import Ledger
from vitsearch.storage.stores import store_of
from vitsearch.study import retargeted
from vitsearch.study.current import CurrentFigures, devices_of
from vitsearch.study.study import Study


@dataclass(frozen=True)
class Classified:
    """How many of ``n`` images are classified correctly."""

    correct: int
    n: int

    @property
    def interval(self) -> tuple[float, float]:
        return wilson(self.correct, self.n)

    def to_json(self) -> dict[str, Any]:
        return {"correct": self.correct, "n": self.n, "interval": list(self.interval)}

    def agrees(self, accuracy: float) -> bool:
        """Whether chance may explain the difference to the worker's accuracy on the whole split."""
        low, high = self.interval
        return low <= accuracy <= high


@dataclass(frozen=True)
class Point:
    """A model that could be shipped; ``trial`` is None for the baseline.

    ``flags`` are those that all its measurements have, such as ``throttled``. ``basis`` is what its medians are:
    ``raw`` times, or ``paired`` with reference models; None without a measurement in the ledger. ``shares`` are those
    of its MACs in each precision, as the runtime computes them; empty where they are unknown. ``breaks`` are the limits
    that it does not meet, such as ``accuracy>=0.9``. ``sha256`` is the digest of its exported model, ``file`` the path
    of that on this machine (None where it is not here).
    """

    trial: int | None
    plan: Plan
    keys: Keys
    metrics: Metrics
    feasible: bool = True
    flags: tuple[str, ...] = ()
    basis: str | None = None
    on_device: Classified | None = None
    on_test: Classified | None = None
    shares: dict[str, float] = field(default_factory=dict)
    breaks: tuple[str, ...] = ()
    sha256: str | None = None
    file: Path | None = None

    @property
    def warnings(self) -> tuple[str, ...]:
        """What its precision does not keep, and what is known against its combination of model and deployment."""
        deployment = self.plan.deployment
        found = in_name_only(deployment.precision, self.shares), known_bad.warning(self.plan.backbone, deployment)
        return tuple(filter(None, found))

    @property
    def name(self) -> str:
        return "baseline" if self.trial is None else f"trial {self.trial}"

    def to_json(self) -> dict[str, Any]:
        return {
            "trial": self.trial,
            "plan": self.plan.to_json(),
            **self.metrics.to_json(),
            "feasible": self.feasible,
            "breaks": list(self.breaks),
            "flags": list(self.flags),
            "basis": self.basis,
            "shares": self.shares,
            "warnings": list(self.warnings),
            "on_device": self._on_device(),
            "on_test": None if self.on_test is None else self.on_test.to_json(),
            "sha256": self.sha256,
            "file": None if self.file is None else str(self.file),
        }

    def _on_device(self) -> dict[str, Any] | None:
        found, accuracy = self.on_device, self.metrics.value("accuracy")
        if found is None:
            return None
        agrees = None if accuracy is None else found.agrees(accuracy)
        return found.to_json() | {"agrees": agrees}


@dataclass(frozen=True)
class Front:
    """``points`` are feasible and sorted by the first cost; ``knee`` is the index of the balanced one.

    ``near`` are the feasible ones that are dominated only within the intervals of their costs. ``emulated``: the times
    are those of an emulated device. ``others`` are all further models: dominated ones, and those that break a limit, by
    trial. ``device`` is where the study was searched, or the target of ``vitsearch retarget`` where its models were
    measured.
    """

    study: str
    objectives: tuple[str, ...]
    baseline: Point | None
    points: tuple[Point, ...]
    knee: int | None
    emulated: bool = False
    near: tuple[Point, ...] = ()
    others: tuple[Point, ...] = ()
    device: str = LOCAL_DEVICE

    def shown(self) -> Sequence[Point]:
        """The baseline and the points."""
        return [*([self.baseline] if self.baseline else []), *self.points]

    def hypervolume(self, reference_point: Mapping[str, float | None]) -> float | None:
        """What the front dominates up to the corner that its study keeps (``vitsearch status``); None without one."""
        corner = loss(self.objectives, reference_point)
        losses = (loss(self.objectives, point.metrics.values) for point in self.points)
        return None if corner is None else hypervolume([one for one in losses if one is not None], corner)

    @property
    def metrics_of_devices(self) -> tuple[str, ...]:
        """The metrics of the single devices of a fleet, such as ``cpu_ms_p50@nano``; empty for one device."""
        found = (name for point in (*self.shown(), *self.others) for name in point.metrics.figures if "@" in name)
        return tuple(dict.fromkeys(found))

    def to_json(self) -> dict[str, Any]:
        return {
            "study": self.study,
            "device": self.device,
            "emulated": self.emulated,
            "baseline": self.baseline.to_json() if self.baseline else None,
            "points": [point.to_json() for point in self.points],
        }


def read_front(study: Study, ledger: Ledger, device: str | None = None, current: CurrentFigures | None = None) -> Front:
    """Every trained trial with all its measurements pooled; the feasible ones that nothing dominates.

    ``device`` names a target of ``vitsearch retarget``; None, or the name of the study's own device, for where it was
    searched. ``current`` are figures that the caller keeps up to date; without, all measurements are read.
    """
    found = _found(study, device)
    return _front(found, _Results.of(found, ledger, current))


def read_models(study: Study, ledger: Ledger, device: str | None = None) -> Front:
    """The front, with what is known of the files of all other models too."""
    found = _found(study, device)
    results = _Results.of(found, ledger)
    front = _front(found, results)
    return replace(front, others=tuple(map(results.with_artifact, front.others)))


@dataclass(frozen=True)
class _Found:
    """The finished models of a study on a device, with the space whose objectives and limits hold there."""

    study: Study
    device: str
    space: SearchSpace
    baseline: Record | None
    records: Mapping[int, Record]
    emulated: bool


def _found(study: Study, device: str | None) -> _Found:
    space = study.space()
    if device is None or device == space.device_name:
        return _Found(study, space.device_name, space, study.baseline(), study.records(), study.is_emulated)
    there = retargeted.find(study, device)
    return _Found(study, device, there.target.space(space), there.baseline, there.models, there.kind == "emulated")


def space_on(study: Study, device: str | None) -> SearchSpace:
    """The space of a study with the objectives and limits that hold on a device."""
    return _found(study, device).space


def records_on(study: Study, device: str | None) -> Mapping[int, Record]:
    """The records of the trials of a study on a device."""
    return _found(study, device).records


def baseline_on(study: Study, device: str | None) -> Record | None:
    """The baseline of a study on a device; None before it was measured there."""
    return _found(study, device).baseline


def _front(found: _Found, results: _Results) -> Front:
    objectives = tuple(found.space.objectives)
    confirmed = {number: one for number, one in found.records.items() if one.is_confirmed and one.keys is not None}
    results.read(confirmed.values())
    baseline = None if found.baseline is None else results.point(None, found.baseline)
    limits = bounds(found.space.limits, baseline.metrics.values if baseline else {})
    baseline = baseline and _judged(baseline, limits)
    points = [_judged(results.point(number, record), limits) for number, record in confirmed.items()]
    feasible = [
        (point, losses)
        for point in points
        if point.feasible and (losses := loss(objectives, point.metrics.values)) is not None
    ]
    kept = [feasible[index] for index in front([losses for _, losses in feasible])]
    costs = [index for index, name in enumerate(objectives) if name != "accuracy"]
    kept.sort(key=lambda pair: [pair[1][index] for index in costs])
    on_front = {point.trial for point, _ in kept}
    return Front(
        found.study.name,
        objectives,
        baseline and results.with_artifact(baseline),
        tuple(results.with_artifact(point) for point, _ in kept),
        knee([losses for _, losses in kept]),
        found.emulated,
        tuple(_near(objectives, [point for point, _ in feasible], kept)),
        tuple(point for point in points if point.trial not in on_front),
        found.device,
    )


def _judged(point: Point, limits: Sequence[Bound]) -> Point:
    """The point with the limits that it breaks today."""
    breaks = tuple(name for name, by in constraints(limits, point.metrics.values).items() if by > 0.0)
    return replace(point, breaks=breaks, feasible=not breaks)


def _near(objectives: Sequence[str], points: Sequence[Point], kept: Sequence[tuple[Point, Loss]]) -> Iterator[Point]:
    """The points that would be on the front at the better end of the intervals of their costs."""
    losses = [losses for _, losses in kept]
    for point in points:
        if all(point is not one for one, _ in kept) and may_be_on(losses, point.metrics, objectives):
            yield point


class _Results:
    """What the ledger knows of points now."""

    @classmethod
    def of(cls, found: _Found, ledger: Ledger, current: CurrentFigures | None = None) -> _Results:
        fingerprint = (found.study.attributes.get("data") or {}).get("fingerprint", "")
        fleets = found.study.fleets
        known = current or CurrentFigures(ledger, found.space.measure.threads, fleets)
        return cls(ledger, known, fingerprint, fleets)

    def __init__(self, ledger: Ledger, current: CurrentFigures, split: str, fleets: Mapping[str, Fleet]) -> None:
        self._ledger = ledger
        self._split = split
        self._fleets = fleets
        self._store = store_of(ledger)
        self._current = current

    def read(self, records: Iterable[Record]) -> None:
        """Read the measurements of these models at once."""
        self._current.read(record.keys for record in records if record.keys is not None)

    def point(self, trial: int | None, record: Record) -> Point:
        """A model with all measurements of its graph pooled."""
        assert record.keys is not None
        found = self._current.pooled(record.keys)
        point = Point(trial, record.plan, record.keys, record.metrics)
        if found is None:
            return point
        return replace(point, metrics=point.metrics | found.metrics, flags=found.flags, basis=found.basis)

    def with_artifact(self, point: Point) -> Point:
        """The point with its file, the precisions of that, its accuracy on the device, if the device was asked (of a
        fleet, on the one where it is lowest), and on the test images, if it was shipped."""
        key = point.keys.artifact_key or ""
        artifact = self._ledger.artifact(key)
        if artifact is not None:
            shares, file = dict(artifact.detail.get("shares", {})), self._store.find_model(artifact.sha256)
            point = replace(point, shares=shares, sha256=artifact.sha256, file=file)
        on_devices = [
            Classified(found.correct, found.n)
            for device_id in devices_of(point.keys, self._fleets).values()
            if (found := self._ledger.accuracy(key, self._split, evaluated_on=device_id))
        ]
        if on_devices:
            point = replace(point, on_device=min(on_devices, key=lambda one: one.correct / one.n))
        if (tested := shipped.find(self._ledger, key, self._split)) and tested.split == "test":
            point = replace(point, on_test=Classified(tested.correct, tested.n))
        return point
