"""One model in full, and two compared, as `--json` prints them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from vitsearch.core.record import Keys, ProxyScore
from vitsearch.storage.ledger import StageResult
from vitsearch.study.knob_values import knob_values
from vitsearch.study.printed.models import PrintedModel, PrintedPoint, fields_of
from vitsearch.study.results.comparison import Comparison, McNemar, MetricCompared, Paired, PairedMeans
from vitsearch.study.results.detail import File, TrialDetail
from vitsearch.tasks import CLASSIFICATION
from vitsearch.tasks.classification.confusion import ClassAccuracy


@dataclass(frozen=True)
class PrintedLimit:
    """A limit and the value of the model."""

    name: str
    """The bound."""
    value: float | None
    """The value of the model."""
    is_met: bool | None
    """Whether it is met; null where the value is not known."""


@dataclass(frozen=True)
class PrintedStage:
    """A stage that made a result of the model."""

    stage: str
    """Name of the stage."""
    detail: str
    """Rung of a training, protocol of a measurement."""
    made_at: str
    """When its result was written (ISO 8601)."""
    wall_seconds: float | None
    """Null where the cost is not known."""
    cpu_seconds: float | None
    """Of the worker or the device."""
    ran_on: str | None
    """The worker (HOST/PID) or the device (NAME@HOST)."""
    versions: Mapping[str, str]
    """Versions of the libraries."""

    @classmethod
    def of(cls, run: StageResult) -> PrintedStage:
        made_at = datetime.fromtimestamp(run.made_at, UTC).isoformat(timespec="seconds")
        cost = run.cost
        return cls(
            run.stage.value,
            run.detail,
            made_at,
            None if cost is None else cost.wall_seconds,
            None if cost is None else cost.cpu_seconds,
            None if cost is None else cost.ran_on,
            run.versions,
        )


@dataclass(frozen=True)
class PrintedClass:
    """What a model finds of a class."""

    name: str
    """The class."""
    n: int
    """Validation images of it."""
    correct: int
    """Of them classified correctly."""
    low: float
    """Lower end of the 95 % interval of the recall."""
    high: float
    """Upper end."""
    predicted: int
    """Validation images of any class that are taken for it."""
    confused_with: str | None
    """The class that most of the others are taken for."""
    confused: int
    """How many are."""
    accuracy: float
    """Recall: correct / n."""
    precision: float | None
    """Precision: correct / predicted; null where nothing is taken for it."""
    f1: float
    """Harmonic mean of recall and precision."""

    @classmethod
    def of(cls, counts: ClassAccuracy) -> PrintedClass:
        return cls(**vars(counts), accuracy=counts.accuracy, precision=counts.precision, f1=counts.f1)


@dataclass(frozen=True)
class PrintedDetail(PrintedPoint):
    """One model in full."""

    study: str
    """Name of the study."""
    emulated: bool
    """Whether its times are those of an emulated device."""
    shown_device: str
    """The device that measured it, with its host, such as local@HOST."""
    labelled_by: str | None
    """The ONNX network whose own fp32 outputs are the labels; null where the images have labels."""
    place: str
    """Where it stands in its study, in words."""
    outcome: str
    """What became of the trial: confirmed, infeasible, dominated, not_promoted, ..."""
    duplicate_of: int | None
    """The trial with the same model."""
    reason: str
    """Why the trial ended."""
    failure: Mapping[str, str] | None
    """Stage, kind and message of a failure."""
    knobs: Mapping[str, str | float | None]
    """Knob -> value."""
    keys: Keys | None
    """Of its results."""
    limits: tuple[PrintedLimit, ...]
    """Each limit, judged by what is known today."""
    rung: float
    """Epochs that it was trained for."""
    proxy: ProxyScore | None
    """Its proxy score."""
    file: File | None
    """The exported model."""
    stages: tuple[PrintedStage, ...]
    """The stages that made its results."""
    measurements: tuple[Mapping[str, Any], ...]
    """As the agent reports them (evaluators/README.md), with protocol and repeat."""
    classes: tuple[PrintedClass, ...] | None
    """What it finds of each class, with --per-class; of a classifier."""
    task_details: Mapping[str, Any]
    """What another task keeps of its outputs, such as each class of a segmentation; {} of a classifier."""

    @classmethod
    def of(cls, detail: TrialDetail, classes: Sequence[ClassAccuracy] | None = None) -> PrintedDetail:
        record, tally = detail.record, detail.point.tally
        of_task = {} if tally is None or tally.task == CLASSIFICATION else dict(tally.details())
        return cls(
            **fields_of(detail.point),
            study=detail.study,
            emulated=detail.emulated,
            shown_device=detail.shown_device,
            labelled_by=detail.labelled_by,
            place=detail.place,
            outcome=record.shown_outcome,
            duplicate_of=record.duplicate_of,
            reason=record.reason,
            failure=record.failure,
            knobs=knob_values(detail.point.plan),
            keys=record.keys,
            limits=tuple(PrintedLimit(limit.name, limit.value, limit.is_met) for limit in detail.limits),
            rung=record.rung,
            proxy=record.proxy,
            file=detail.file,
            stages=tuple(map(PrintedStage.of, detail.stages)),
            measurements=tuple(
                {"protocol": row.protocol, "repeat": row.repeat, "environment_id": row.environment_id}
                | row.measurement.to_json()
                for row in detail.measurements
            ),
            classes=None if classes is None else tuple(map(PrintedClass.of, classes)),
            task_details=of_task,
        )


@dataclass(frozen=True)
class PrintedPairing:
    """The answers of two files on the same images."""

    n: int
    """Images."""
    only_first: int
    """That the first model alone classifies correctly."""
    only_second: int
    """That the second alone does."""
    p: float
    """Of McNemar's exact two-sided test."""

    @classmethod
    def of(cls, test: McNemar) -> PrintedPairing:
        return cls(test.n, test.only_first, test.only_second, test.p)


@dataclass(frozen=True)
class PrintedPairedMeans:
    """One value for each image of two files, on the same images."""

    n: int
    """Images."""
    change: float
    """Mean of the second model's values minus the first one's."""
    interval: tuple[float, float]
    """Its 95 % interval by Student's t."""

    @classmethod
    def of(cls, test: PairedMeans) -> PrintedPairedMeans:
        return cls(test.n, test.change, test.interval)


def _printed(paired: Paired | None) -> PrintedPairing | PrintedPairedMeans | None:
    if paired is None:
        return None
    return PrintedPairing.of(paired) if isinstance(paired, McNemar) else PrintedPairedMeans.of(paired)


@dataclass(frozen=True)
class PrintedComparison:
    """Two models."""

    study: str
    """Name of the study."""
    emulated: bool
    """Whether its times are those of an emulated device."""
    first: PrintedModel
    """The first model."""
    second: PrintedModel
    """The second model."""
    metrics: tuple[MetricCompared, ...]
    """Metric by metric."""
    knobs: Mapping[str, tuple[str | float | None, ...]]
    """Knobs that differ -> both values."""
    images: int | None
    """Validation images of both accuracies."""
    paired: PrintedPairing | PrintedPairedMeans | None
    """The answers of both files, with --paired: counted where the first metric of the task counts images."""

    @classmethod
    def of(cls, comparison: Comparison) -> PrintedComparison:
        return cls(
            comparison.study,
            comparison.emulated,
            PrintedModel.of(comparison.first),
            PrintedModel.of(comparison.second),
            comparison.metrics,
            comparison.knobs,
            comparison.images,
            _printed(comparison.paired),
        )
