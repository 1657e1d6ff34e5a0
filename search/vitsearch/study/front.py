"""The Pareto front of a study, read from its records and all measurements of their graphs: no device, no torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from vitsearch.core.caveats import known_bad
from vitsearch.core.caveats.agreement import agreement_text
from vitsearch.core.caveats.leaks import leak_text
from vitsearch.core.caveats.precision_shares import in_name_only
from vitsearch.core.caveats.precision_times import REFERENCES, Graph, TimeRatio, graph_of, time_ratio
from vitsearch.core.decoding import decoded
from vitsearch.core.figures import Metrics
from vitsearch.core.fleet import Fleet
from vitsearch.core.limits import Limit, bounds, constraints, unjudged
from vitsearch.core.metrics import is_quality
from vitsearch.core.pareto import Loss, front, hypervolume, knee, loss, may_be_on
from vitsearch.core.plan import Plan
from vitsearch.core.record import Keys, Record
from vitsearch.space import LOCAL_DEVICE, SearchSpace
from vitsearch.storage import shipped
from vitsearch.storage.ledger import Ledger
from vitsearch.storage.stores import store_of
from vitsearch.study import retargeted
from vitsearch.study.current_figures import CurrentFigures, devices_of
from vitsearch.study.devices import shown_target
from vitsearch.study.study import Study
from vitsearch.tasks import Tally


@dataclass(frozen=True)
class Evaluated:
    """The first metric of the task on other images than those of the search, or on the device itself.

    Attributes:
        metric: Its name.
        value: Of the model.
        interval: Its 95 % interval (low, high).
        n: The images.
    """

    metric: str
    value: float
    interval: tuple[float, float]
    n: int

    @classmethod
    def of(cls, metric: str, metrics: Metrics, n: int) -> Evaluated | None:
        """Take a figure out of metrics.

        Args:
            metric: Its name.
            metrics: With its value and its interval.
            n: Images that it was counted over.

        Returns:
            The figure; None where the metric has no value.
        """
        value = metrics.value(metric)
        return None if value is None else cls(metric, value, metrics.intervals.get(metric, (value, value)), n)

    def agrees(self, value: float) -> bool:
        """Decide whether chance may explain a difference.

        Args:
            value: The worker's, on the whole split.

        Returns:
            Whether it lies within the interval.
        """
        low, high = self.interval
        return low <= value <= high


@dataclass(frozen=True)
class Point:
    """A model that could be shipped.

    Attributes:
        trial: The number of its trial; None for the baseline.
        plan: How it is made.
        keys: Under which its results are stored.
        metrics: Its figures, all measurements pooled.
        feasible: Whether it breaks no limit that can be judged.
        flags: Those that all its measurements have, such as `throttled`.
        basis: What its medians are: `raw` times, or `paired` with reference models; None without a measurement in the
            ledger.
        on_device: Its quality on the device, on a part of the validation images.
        on_test: Its quality on the test images, if it was shipped.
        shares: Shares of its MACs by the precision in which the runtime computes them; empty where they are unknown.
        breaks: The limits that it does not meet, such as `accuracy>=0.9`.
        unjudged: The metrics with a limit that cannot be judged, because it (or the baseline, of a relative limit) has
            no value.
        sha256: The digest of its exported model.
        file: Where that is on this machine; None where it is not here.
        time_ratios: Its times over those of the same graph in other precisions that the study has measured.
        tally: What the task keeps of its outputs; None before it was evaluated.
        leak: How many of the images that judge it are nearly those of its training; None where hardly any is.
    """

    trial: int | None
    plan: Plan
    keys: Keys
    metrics: Metrics
    feasible: bool = True
    flags: tuple[str, ...] = ()
    basis: str | None = None
    on_device: Evaluated | None = None
    on_test: Evaluated | None = None
    shares: dict[str, float] = field(default_factory=dict)
    breaks: tuple[str, ...] = ()
    unjudged: tuple[str, ...] = ()
    sha256: str | None = None
    file: Path | None = None
    time_ratios: tuple[TimeRatio, ...] = ()
    tally: Tally | None = None
    leak: str | None = None

    @property
    def warnings(self) -> tuple[str, ...]:
        """Whether its training knows the images that judge it, what its precision does not keep, what is known against
        its combination of model and deployment, and where the device judges it otherwise. Where the study has figures
        of its own, these are said."""
        known = warnings_of(self.plan, self.shares, self.time_ratios)
        return tuple(filter(None, (self.leak, *known, self._disagreement)))

    @property
    def _disagreement(self) -> str | None:
        """The quality on the device, when chance does not explain its difference to the worker's."""
        there = self.on_device
        here = None if there is None else self.metrics.value(there.metric)
        if there is None or here is None or there.agrees(here):
            return None
        low, high = there.interval
        figure = f"{there.metric} {there.value:.3f} ({low:.3f} to {high:.3f}) on {there.n} images"
        return f"{figure} on the device itself, but {here:.3f} on the worker"

    @property
    def meets_limits(self) -> bool | None:
        """Whether it meets all limits; None where it breaks none, but one of them cannot be judged."""
        return None if self.feasible and self.unjudged else self.feasible

    def unmeasured(self, objectives: Sequence[str]) -> tuple[str, ...]:
        """Name what keeps it off every front.

        Args:
            objectives: Names of metrics.

        Returns:
            Those that it has no value of.
        """
        return tuple(name for name in objectives if self.metrics.value(name) is None)

    @cached_property
    def quality_warnings(self) -> tuple[str, ...]:
        """What to know before its figures are believed, such as classes that it misses. Judged when it is asked for: a
        study has thousands of models, and shows some."""
        return () if self.tally is None else self.tally.warnings(self.name)

    @property
    def name(self) -> str:
        return "baseline" if self.trial is None else f"trial {self.trial}"


def _values(tallies: Mapping[str, Tally]) -> dict[str, Any]:
    return {name: tally.value for name, tally in tallies.items()}


def warnings_of(plan: Plan, shares: Mapping[str, float], times: Sequence[TimeRatio]) -> tuple[str, ...]:
    """What to know of a model's precision: what its file does not keep of it by the `shares` of its MACs, and what is
    known against its combination of model and deployment, with its own `times` beside those of other precisions."""
    deployment = plan.deployment
    caveat = known_bad.warning(plan.backbone, deployment, bool(shares), times)
    lacks = in_name_only(deployment.precision, shares)
    fp32 = next((str(ratio) for ratio in times if ratio.precision == "fp32"), None)
    if lacks and fp32 and fp32 not in (caveat or ""):
        lacks = f"{lacks}; {fp32}"
    return tuple(filter(None, (lacks, caveat)))


@dataclass(frozen=True)
class Front:
    """The models of a study that nothing dominates.

    Attributes:
        study: Its name.
        objectives: The metrics that are traded off.
        baseline: The unpruned model; None before it was measured.
        points: The feasible models that nothing dominates, sorted by the first cost.
        knee: The index of the balanced one; None without points.
        emulated: Whether the times are those of an emulated device.
        near: Feasible models that are dominated only within the intervals of their costs.
        others: All further models (dominated ones, and those that break a limit), by trial; empty in `front()`.
        device: Where the study was searched, or the target of `vitsearch retarget` where its models were measured.
        shown_device: The same with the host of the device.
        labelled_by: The network whose own fp32 outputs are the labels; None where the images have labels.
        limited: The metrics that the space file limits, in its order.
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
    shown_device: str = LOCAL_DEVICE
    labelled_by: str | None = None
    limited: tuple[str, ...] = ()

    def shown(self) -> Sequence[Point]:
        """List the baseline and the points.

        Returns:
            The baseline first, if it was measured.
        """
        return [*([self.baseline] if self.baseline else []), *self.points]

    def hypervolume(self, reference_point: Mapping[str, float | None]) -> float | None:
        """Compute the hypervolume that the front dominates.

        Args:
            reference_point: The corner that the study keeps (`vitsearch status`): the worst value of each objective.

        Returns:
            The hypervolume, in the product of the losses' units; None without a corner.
        """
        corner = loss(self.objectives, reference_point)
        losses = (loss(self.objectives, point.metrics.values) for point in self.points)
        return None if corner is None else hypervolume([values for values in losses if values is not None], corner)

    @property
    def metrics_of_devices(self) -> tuple[str, ...]:
        """The metrics of the single devices of a fleet, such as `cpu_ms_p50@nano`; empty for one device."""
        of_devices = (name for point in (*self.shown(), *self.others) for name in point.metrics.figures if "@" in name)
        return tuple(dict.fromkeys(of_devices))

    @property
    def chosen(self) -> dict[str, Point]:
        """The baseline and the knee, by what they are called in a sentence."""
        knee = None if self.knee is None else self.points[self.knee]
        baseline = {} if self.baseline is None else {"the baseline": self.baseline}
        return baseline | ({} if knee is None else {f"{knee.name}, the knee,": knee})

    def quality_warnings(self) -> list[str]:
        """Say what to know before the qualities of the models are believed.

        Returns:
            Where the images have no labels, what accuracy is. A line for each caveat of the task on the baseline and on
            the knee, and one for the other models of the front.
        """
        chosen = self.chosen
        named = {name: point.tally for name, point in chosen.items() if point.tally}
        others = {
            f"{point.trial}": point.tally for point in self.points if point not in chosen.values() and point.tally
        }
        agreement = [] if self.labelled_by is None else [agreement_text(self.labelled_by)]
        tally = next(iter((*named.values(), *others.values())), None)
        if tally is None:
            return agreement

        def said(_: None) -> list[str]:
            return list(tally.task.warnings(_values(named), _values(others), tally.class_names))

        return [*agreement, *decoded(said, None, f"vs_evaluation of study {self.study}: tally")]


def read_front(study: Study, ledger: Ledger, device: str | None = None, current: CurrentFigures | None = None) -> Front:
    """Every confirmed trial with all its measurements pooled; the feasible ones that nothing dominates.

    `device` names a target of `vitsearch retarget`; None, or the name of the study's own device, for where it was
    searched. `current` are figures that the caller keeps up to date; without, all measurements are read.
    """
    target = _target_models(study, device)
    return _front(target, _Results.of(target, ledger, current))


def read_models(study: Study, ledger: Ledger, device: str | None = None) -> Front:
    """The front, with what is known of the files of all other models too."""
    target = _target_models(study, device)
    results = _Results.of(target, ledger)
    front = _front(target, results)
    times = results.times(target)
    return replace(front, others=tuple(times.added_to(results.with_artifact(point)) for point in front.others))


@dataclass(frozen=True)
class _TargetModels:
    """The finished models of a study on a device, with the space whose objectives and limits hold there."""

    study: Study
    device: str
    space: SearchSpace
    baseline: Record | None
    records: Mapping[int, Record]
    emulated: bool


def _target_models(study: Study, device: str | None) -> _TargetModels:
    space = study.space()
    if device is None or device == space.device_name:
        return _TargetModels(study, space.device_name, space, study.baseline(), study.records(), study.is_emulated)
    there = retargeted.find(study, device)
    return _TargetModels(
        study, device, there.target.space(space), there.baseline, there.models, there.kind == "emulated"
    )


def space_on(study: Study, device: str | None) -> SearchSpace:
    """The space of a study with the objectives and limits that hold on a device."""
    return _target_models(study, device).space


def records_on(study: Study, device: str | None) -> Mapping[int, Record]:
    """The records of the trials of a study on a device."""
    return _target_models(study, device).records


def baseline_on(study: Study, device: str | None) -> Record | None:
    """The baseline of a study on a device; None before it was measured there."""
    return _target_models(study, device).baseline


def _front(target: _TargetModels, results: _Results) -> Front:
    objectives = tuple(target.space.objectives)
    confirmed = {
        number: record for number, record in target.records.items() if record.is_confirmed and record.keys is not None
    }
    results.read(confirmed.values())
    times = results.times(target)
    baseline = None if target.baseline is None else results.point(None, target.baseline)
    limits = target.space.limits
    baseline_values = baseline.metrics.values if baseline else {}
    baseline = baseline and _judged(baseline, limits, baseline_values)
    points = [_judged(results.point(number, record), limits, baseline_values) for number, record in confirmed.items()]
    feasible = [
        (point, losses)
        for point in points
        if point.feasible and (losses := loss(objectives, point.metrics.values)) is not None
    ]
    kept = [feasible[index] for index in front([losses for _, losses in feasible])]
    costs = [index for index, name in enumerate(objectives) if not is_quality(name)]
    kept.sort(key=lambda pair: [pair[1][index] for index in costs])
    on_front = {point.trial for point, _ in kept}
    return Front(
        target.study.name,
        objectives,
        baseline and times.added_to(results.with_artifact(baseline)),
        tuple(times.added_to(results.with_artifact(point)) for point, _ in kept),
        knee([losses for _, losses in kept]),
        target.emulated,
        tuple(_near(objectives, [point for point, _ in feasible], kept)),
        tuple(point for point in points if point.trial not in on_front),
        target.device,
        shown_target(target.device, target.study.devices),
        None if (section := target.space.labelled_by) is None else section.name,
        tuple(target.space.limits),
    )


def _judged(point: Point, limits: Mapping[str, Limit], baseline: Mapping[str, float | None]) -> Point:
    """The point with the limits that it breaks today, and those that cannot be judged."""
    values = point.metrics.values
    breaks = tuple(name for name, by in constraints(bounds(limits, baseline), values).items() if by > 0.0)
    return replace(point, breaks=breaks, feasible=not breaks, unjudged=unjudged(limits, baseline, values))


def _near(objectives: Sequence[str], points: Sequence[Point], kept: Sequence[tuple[Point, Loss]]) -> Iterator[Point]:
    """The points that would be on the front at the better end of the intervals of their costs."""
    losses = [losses for _, losses in kept]
    for point in points:
        if all(point is not other for other, _ in kept) and may_be_on(losses, point.metrics, objectives):
            yield point


class OwnTimes:
    """The times of a study's models, to hold a precision against another one of the same graph. Plans that were only
    measured, and not trained, count too."""

    @classmethod
    def of(cls, study: Study, ledger: Ledger) -> OwnTimes:
        """Those of a study on its own device."""
        space = study.space()
        current = CurrentFigures(ledger, study.fleets)
        return cls(study.records(), tuple(space.objectives), current)

    def __init__(self, records: Mapping[int, Record], objectives: Sequence[str], current: CurrentFigures) -> None:
        self._objectives = objectives
        self._current = current
        self._reference_trials: dict[tuple[Graph, str], tuple[int, Record]] = {}
        for number, record in records.items():
            precision = record.plan.deployment.precision
            if record.keys is not None and record.duplicate_of is None and precision in REFERENCES:
                self._reference_trials.setdefault((graph_of(record.plan), precision), (number, record))

    def added_to(self, point: Point) -> Point:
        """The point with its times beside those of the same graph in other precisions."""
        return replace(point, time_ratios=tuple(self.time_ratios(point.plan, point.metrics)))

    def time_ratios(self, plan: Plan, metrics: Metrics) -> Iterator[TimeRatio]:
        """The times of a model over those of the same graph in each of `REFERENCES`, where they are known."""
        for precision in REFERENCES:
            if precision == plan.deployment.precision:
                return
            reference_trial = self._reference_trials.get((graph_of(plan), precision))
            if reference_trial is None:
                continue
            number, record = reference_trial
            reference = self._current.now(record)[0]
            if (own := time_ratio(metrics, f"trial {number}", precision, reference, self._objectives)) is not None:
                yield own


class _Results:
    """What the ledger knows of points now."""

    @classmethod
    def of(cls, target: _TargetModels, ledger: Ledger, current: CurrentFigures | None = None) -> _Results:
        study = target.study
        figures = current or CurrentFigures(ledger, study.fleets)
        data = study.attributes.get("data") or {}
        tally = Tally(target.space.purpose, None, data.get("class_names", []))
        return cls(ledger, figures, study.judged_by, study.fleets, tally, leak_text(data.get("leaks", {})))

    def __init__(
        self,
        ledger: Ledger,
        current: CurrentFigures,
        split: str,
        fleets: Mapping[str, Fleet],
        no_tally: Tally,
        leak: str | None,
    ) -> None:
        self._leak = leak
        self._ledger = ledger
        self._split = split
        self._task = no_tally.task
        self._no_tally = no_tally
        self._fleets = fleets
        self._store = store_of(ledger)
        self._current = current

    def read(self, records: Iterable[Record]) -> None:
        """Read the measurements of these models at once."""
        self._current.read(record.keys for record in records if record.keys is not None)

    def times(self, target: _TargetModels) -> OwnTimes:
        """The times of all measured plans."""
        return OwnTimes(target.records, tuple(target.space.objectives), self._current)

    def point(self, trial: int | None, record: Record) -> Point:
        """A model with all measurements of its graph pooled."""
        assert record.keys is not None
        pooled = self._current.pooled(record.keys)
        point = Point(trial, record.plan, record.keys, record.metrics, leak=self._leak)
        if pooled is None:
            return point
        return replace(point, metrics=point.metrics | pooled.metrics, flags=pooled.flags, basis=pooled.basis)

    def with_artifact(self, point: Point) -> Point:
        """The point with its file, the precisions of that, what the counts of its classes say, its accuracy on the
        device, if the device was asked (of a fleet, on the one where it is lowest), and on the test images, if it was
        shipped."""
        key = point.keys.artifact_key or ""
        artifact = self._ledger.artifact(key)
        if artifact is not None:
            shares, file = dict(artifact.detail.get("shares", {})), self._store.find_model(artifact.sha256)
            point = replace(point, shares=shares, sha256=artifact.sha256, file=file)
        if evaluated := self._ledger.evaluation(key, self._split):
            point = replace(
                point, tally=replace(self._no_tally, value=evaluated.tally, where=f"{evaluated.where}: tally")
            )
        metric, on_devices = self._task.metrics[0], []
        for device_id in devices_of(point.keys, self._fleets).values():
            there = self._ledger.evaluation(key, self._split, evaluated_on=device_id)
            if there is not None and (figure := Evaluated.of(metric.name, there.metrics, there.n)) is not None:
                on_devices.append(figure)
        if on_devices:
            point = replace(point, on_device=max(on_devices, key=lambda figure: metric.error(figure.value)))
        if (tested := shipped.find(self._ledger, key, self._split)) and tested.split == "test":
            point = replace(point, on_test=Evaluated.of(metric.name, tested.figures, tested.n))
        return point
