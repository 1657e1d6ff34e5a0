"""One trial of a study in full: what was asked, what became of it and why, its file, its stages and their costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vitsearch.core.decoding import decoded
from vitsearch.core.limits import bounds
from vitsearch.core.pareto import dominates, loss
from vitsearch.core.preprocessing import Preprocessing
from vitsearch.core.record import Record
from vitsearch.errors import StudyError
from vitsearch.storage.files import Store
from vitsearch.storage.ledger import Ledger, MeasurementRow, StageResult
from vitsearch.study.current_figures import devices_of
from vitsearch.study.devices import shown_worker
from vitsearch.study.front import Front, OwnTimes, Point, read_models
from vitsearch.study.study import Study
from vitsearch.tasks import CLASSIFICATION
from vitsearch.tasks.classification.confusion import ClassAccuracy, Confusion


@dataclass(frozen=True)
class File:
    """The exported model in the store of the study."""

    sha256: str
    """Digest; of a model of several files, that of their digests."""
    path: Path | None
    """The file that the runtime opens; null where it is not on this machine: gone from a folder, or on a server and not
    used here yet."""
    store: str
    """The store that has it: a folder or a URL."""
    size_bytes: int
    """Of all its files."""
    artifact_key: str
    """Its key in the ledger."""
    parity: float | None
    """Largest difference of its logits to torch on the calibration images, over the largest logit."""
    preprocessing: Preprocessing
    """How it reads an image."""
    options: Mapping[str, Any]
    """Options of the runtime that it needs."""
    cosine: float | None = None
    """Mean cosine of its logits to the network's own in fp32, where these label the validation images; else null."""


@dataclass(frozen=True)
class LimitJudged:
    """A limit, the value of the model (None: not known), and whether it is met (None: not known). `shown` is the
    value in as many digits as tell that."""

    name: str
    value: float | None
    is_met: bool | None
    shown: str = ""


@dataclass(frozen=True)
class TrialDetail:
    """`point` has what is known today, all measurements pooled; `record` is what was stored when the trial ended.

    `place` says where it stands: on the front, dominated by which trials, the limits that it breaks, or not trained.
    `shown_device` is the name and host of the device. `labelled_by` is the network whose own fp32 outputs are the
    labels; None where the images have labels. `divergence_unit` is that of the task.
    """

    study: str
    point: Point
    record: Record
    place: str
    limits: tuple[LimitJudged, ...]
    file: File | None
    stages: tuple[StageResult, ...]
    measurements: tuple[MeasurementRow, ...]
    baseline: Point | None
    emulated: bool
    shown_device: str
    labelled_by: str | None = None
    divergence_unit: str = ""


def read_detail(study: Study, ledger: Ledger, store: Store, number: int | None) -> TrialDetail:
    """The trial `number`, None for the baseline. Raises `StudyError` where there is no such
    finished trial."""
    record = record_of(study, number)
    models = read_models(study, ledger)
    point = point_of(models, number, record)
    if record.keys is not None and not point.time_ratios:  # of a plan that was only measured
        point = OwnTimes.of(study, ledger).added_to(point)
    baseline = models.baseline.metrics.values if models.baseline else {}
    judged = tuple(
        LimitJudged(bound.name, None, None)
        if seen is None
        else LimitJudged(bound.name, seen, bound.violation(seen) <= 0.0, bound.shown(seen))
        for bound in bounds(study.space().limits, baseline)
        for seen in [point.metrics.value(bound.metric)]
    )
    keys = record.keys
    devices = [] if keys is None else list(devices_of(keys, study.fleets).values())
    return TrialDetail(
        study.name,
        point,
        record,
        place_of(models, point, record),
        judged,
        file_of(ledger, store, record),
        () if keys is None else tuple(_shown(run, study) for run in ledger.provenance.of_trial(keys, devices)),
        ()
        if keys is None
        else tuple(row for device_id in devices for row in ledger.measurements(keys.graph_key, device_id)),
        models.baseline,
        models.emulated,
        models.shown_device,
        models.labelled_by,
        study.space().purpose.divergence.unit,
    )


def _shown(run: StageResult, study: Study) -> StageResult:
    """A stage with the host of the device on which it ran."""
    cost = run.cost
    return run if cost is None else replace(run, cost=replace(cost, ran_on=shown_worker(cost.ran_on, study.devices)))


def read_classes(study: Study, ledger: Ledger, number: int | None) -> list[ClassAccuracy]:
    """What the file of trial `number` (None for the baseline) finds of each class of the validation images. Raises
    `StudyError` for a trial that was not evaluated."""
    if (kind := study.space().task.kind) != CLASSIFICATION.kind:
        raise StudyError(f"the task of study {study.name!r} is {kind}, which has no classes")
    record, data = record_of(study, number), study.attributes.get("data") or {}
    key = record.keys.artifact_key if record.keys else None
    evaluated = ledger.evaluation(key or "", study.judged_by)
    if evaluated is None:
        name = "the baseline" if number is None else f"trial {number}"
        raise StudyError(f"{name} has no exported model: its outcome is {record.outcome}")
    return decoded(Confusion.from_json, evaluated.tally, f"{evaluated.where}: tally").by_class(data["class_names"])


def record_of(study: Study, number: int | None) -> Record:
    """The record of a finished trial that has a plan, or of the baseline (None). Raises
    `StudyError`."""
    if number is None:
        return baseline_record(study)
    records = study.records()
    if number not in records:
        finished = f"finished trials: {_ranges(sorted(records))}" if records else "no trial is finished yet"
        raise StudyError(f"study {study.name!r} has no finished trial {number}; {finished}")
    return records[number]


def baseline_record(study: Study) -> Record:
    """The baseline as a record. Raises `StudyError` before it was measured."""
    record = study.baseline()
    if record is None:
        raise StudyError(f"study {study.name!r} has not measured its baseline yet")
    return record


def _ranges(numbers: list[int]) -> str:
    """`0 to 4, 6, 8 to 9`."""
    spans: list[list[int]] = []
    for number in numbers:
        if spans and number == spans[-1][-1] + 1:
            spans[-1] = [spans[-1][0], number]
        else:
            spans.append([number])
    return ", ".join(f"{span[0]} to {span[-1]}" if len(span) > 1 else str(span[0]) for span in spans)


def point_of(models: Front, number: int | None, record: Record) -> Point:
    """The model of a trial, or the baseline (None), with all its measurements, for a duplicate those of the trial that
    it repeats; that of an untrained trial as it was recorded."""
    first = number if record.duplicate_of is None else record.duplicate_of
    model = next((point for point in (*models.shown(), *models.others) if point.trial == first), None)
    if model is not None:
        return replace(model, trial=number, plan=record.plan)
    breaks = tuple(name for name, by in record.constraints.items() if by > 0.0)
    open_limits = tuple(name for name in models.limited if record.metrics.value(name) is None)
    point = Point(number, record.plan, record.keys, record.metrics, record.feasible)  # type: ignore[arg-type]
    return replace(point, breaks=breaks, unjudged=open_limits)


def place_of(models: Front, point: Point, record: Record) -> str:
    """Where a trial stands in its study, in a few words."""
    if record.duplicate_of is not None:
        return f"the same model as trial {record.duplicate_of}"
    if point.breaks:
        return f"breaks {', '.join(point.breaks)}"
    if not record.is_confirmed:
        return "not confirmed: its accuracy was not evaluated"
    if any(point.trial == model.trial for model in models.points):
        is_knee = models.knee is not None and models.points[models.knee].trial == point.trial
        return "on the front, its knee" if is_knee else "on the front"
    if missing := point.unmeasured(models.objectives):
        return f"not on the front: {', '.join(missing)} not measured"
    own = loss(models.objectives, point.metrics.values)
    better = [
        str(model.trial)
        for model in models.points
        if own and (other := loss(models.objectives, model.metrics.values)) and dominates(other, own)
    ]
    return f"dominated by trial {', '.join(better)}" if better else "not on the front"


def file_of(ledger: Ledger, store: Store, record: Record) -> File | None:
    """The exported file of a trial; None if none was made."""
    row = ledger.artifact(record.keys.artifact_key or "") if record.keys else None
    if row is None:
        return None
    options = row.detail.get("options", {})
    return File(
        row.sha256,
        store.find_model(row.sha256),
        store.address,
        row.size_bytes,
        row.artifact_key,
        row.detail.get("parity"),
        row.preprocessing,
        options,
        row.detail.get("cosine"),
    )
