"""The Pareto front of a study, read from its records and the newest measurements: no device, no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from vitsearch.core.figures import Metrics, metrics_of
from vitsearch.core.limits import bounds, constraints
from vitsearch.core.pareto import Loss, front, knee, loss, wilson
from vitsearch.core.plan import Plan
from vitsearch.core.record import Keys
from vitsearch.storage.ledger import Ledger
from vitsearch.study.study import Study
from vitsearch_evaluators.wire.protocol import CONFIRM


@dataclass(frozen=True)
class OnDevice:
    """How many of ``n`` validation images the device itself classifies correctly."""

    correct: int
    n: int

    @property
    def interval(self) -> tuple[float, float]:
        return wilson(self.correct, self.n)

    def agrees(self, accuracy: float) -> bool:
        """Whether chance may explain the difference to the worker's accuracy on the whole split."""
        low, high = self.interval
        return low <= accuracy <= high


@dataclass(frozen=True)
class Point:
    """A model that could be shipped; ``trial`` is None for the baseline.

    ``flags`` are those of its newest measurement, such as ``throttled``.
    """

    trial: int | None
    plan: Plan
    keys: Keys
    metrics: Metrics
    feasible: bool = True
    flags: tuple[str, ...] = ()
    on_device: OnDevice | None = None

    @property
    def name(self) -> str:
        return "baseline" if self.trial is None else f"trial {self.trial}"

    def to_json(self) -> dict[str, Any]:
        return {
            "trial": self.trial,
            "plan": self.plan.to_json(),
            **self.metrics.to_json(),
            "feasible": self.feasible,
            "flags": list(self.flags),
            "on_device": self._on_device(),
        }

    def _on_device(self) -> dict[str, Any] | None:
        found, accuracy = self.on_device, self.metrics.value("accuracy")
        if found is None:
            return None
        agrees = None if accuracy is None else found.agrees(accuracy)
        return {"correct": found.correct, "n": found.n, "interval": list(found.interval), "agrees": agrees}


@dataclass(frozen=True)
class Front:
    """``points`` are feasible and sorted by the first cost; ``knee`` is the index of the balanced one.

    ``emulated``: the times are those of an emulated device.
    """

    study: str
    objectives: tuple[str, ...]
    baseline: Point | None
    points: tuple[Point, ...]
    knee: int | None
    emulated: bool = False

    def shown(self) -> Sequence[Point]:
        """The baseline and the points."""
        return [*([self.baseline] if self.baseline else []), *self.points]

    def to_json(self) -> dict[str, Any]:
        return {
            "study": self.study,
            "emulated": self.emulated,
            "baseline": self.baseline.to_json() if self.baseline else None,
            "points": [point.to_json() for point in self.points],
        }


def read_front(study: Study, ledger: Ledger) -> Front:
    """Every trained trial with its newest measurement; the feasible ones that nothing dominates."""
    space = study.space()
    objectives = tuple(space.objectives)
    protocol = study.attributes.get("protocol", CONFIRM.id)
    baseline = _baseline(study, ledger, protocol)
    split = (study.attributes.get("data") or {}).get("fingerprint", "")
    baseline = baseline and _with_device_accuracy(baseline, ledger, split)
    limits = bounds(space.limits, baseline.metrics.values if baseline else {})
    found: list[tuple[Point, Loss]] = []
    for number, record in study.records().items():
        if not record.trained or record.keys is None:
            continue
        point = _newest(Point(number, record.plan, record.keys, record.metrics), ledger, protocol)
        point = replace(point, feasible=all(v <= 0 for v in constraints(limits, point.metrics.values).values()))
        losses = loss(objectives, point.metrics.values)
        if point.feasible and losses is not None:
            found.append((point, losses))
    kept = [found[index] for index in front([losses for _, losses in found])]
    costs = [index for index, name in enumerate(objectives) if name != "accuracy"]
    kept.sort(key=lambda pair: [pair[1][index] for index in costs])
    points = tuple(_with_device_accuracy(point, ledger, split) for point, _ in kept)
    return Front(study.name, objectives, baseline, points, knee([losses for _, losses in kept]), study.is_emulated)


def _baseline(study: Study, ledger: Ledger, protocol: str) -> Point | None:
    stored = study.attributes.get("baseline")
    if stored is None:
        return None
    point = Point(None, Plan.from_json(stored["plan"]), Keys(**stored["keys"]), Metrics.from_json(stored["metrics"]))
    return _newest(point, ledger, protocol)


def _with_device_accuracy(point: Point, ledger: Ledger, split: str) -> Point:
    """The point with its accuracy on the device, if the device was asked."""
    found = ledger.accuracy(point.keys.artifact_key or "", split, evaluated_on=point.keys.device_id)
    return point if found is None else replace(point, on_device=OnDevice(found.correct, found.n))


def _newest(point: Point, ledger: Ledger, protocol: str) -> Point:
    """The point with its latest measurement."""
    rows = ledger.measurements(point.keys.graph_key, point.keys.device_id, protocol)
    if not rows:
        return point
    result = rows[-1].result
    return replace(point, metrics=point.metrics | metrics_of(result), flags=tuple(result["flags"]))
