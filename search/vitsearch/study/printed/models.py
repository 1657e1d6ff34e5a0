"""A model as `--json` prints it, and fronts of such models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import WithJsonSchema

from vitsearch.core.figures import PrintedMetrics
from vitsearch.study.front import Evaluated, Front, Point
from vitsearch.study.results.nearest import Miss, Nearest, NearModel
from vitsearch.study.results.selection import ties
from vitsearch.study.retargeted import Fit, Prediction, Retargeted

PlanJson = Annotated[
    dict[str, Any],
    WithJsonSchema(
        {
            "type": "object",
            "required": [
                "backbone",
                "weights",
                "resolution",
                "compression",
                "distillation",
                "recipe",
                "deployments",
            ],
        }
    ),
]
"""What `vitsearch.core.plan.Plan.to_json` gives."""


@dataclass(frozen=True)
class PrintedEvaluation:
    """The first metric of the task on certain images."""

    metric: str
    """Its name."""
    value: float
    """Of the model."""
    interval: tuple[float, float]
    """Its 95 % interval."""
    n: int
    """Number of images."""

    @classmethod
    def of(cls, evaluated: Evaluated) -> PrintedEvaluation:
        return cls(evaluated.metric, evaluated.value, evaluated.interval, evaluated.n)


@dataclass(frozen=True)
class PrintedAgreement(PrintedEvaluation):
    """The first metric of the task on the device."""

    agrees: bool | None
    """Whether chance explains the difference to the value of the worker."""


@dataclass(frozen=True)
class PrintedPoint(PrintedMetrics):
    """What is known of a model."""

    trial: int | None
    """Number of the trial; null for the baseline."""
    plan: PlanJson
    """The configuration of the model, as 'vitsearch plan' reads it."""
    feasible: bool | None
    """Whether it is within the limits; null where it breaks none, but one of them cannot be judged."""
    breaks: tuple[str, ...]
    """The limits that it breaks, such as accuracy>=0.9."""
    unjudged: tuple[str, ...]
    """Metrics with a limit that cannot be judged: it (or the baseline, of a relative limit) has no value."""
    flags: tuple[str, ...]
    """Flags that all its measurements have, such as throttled."""
    basis: str | None
    """Times as they were read (raw), or by reference models that ran beside it (paired)."""
    shares: Mapping[str, float]
    """Share of its MACs in each precision."""
    warnings: tuple[str, ...]
    """Classes that it misses; what is known against its precision or combination."""
    on_device: PrintedAgreement | None
    """Its quality on the device itself."""
    on_test: PrintedEvaluation | None
    """Its quality on the test images; null before it was shipped."""
    sha256: str | None
    """Digest of its exported file; null where there is none."""


def fields_of(point: Point) -> dict[str, Any]:
    """The fields of a `PrintedPoint`."""
    return {
        **vars(point.metrics.printed()),
        "trial": point.trial,
        "plan": point.plan.to_json(),
        "feasible": point.meets_limits,
        "breaks": point.breaks,
        "unjudged": point.unjudged,
        "flags": point.flags,
        "basis": point.basis,
        "shares": point.shares,
        "warnings": (*point.quality_warnings, *point.warnings),
        "on_device": _on_device(point),
        "on_test": None if point.on_test is None else PrintedEvaluation.of(point.on_test),
        "sha256": point.sha256,
    }


def _on_device(point: Point) -> PrintedAgreement | None:
    there = point.on_device
    if there is None:
        return None
    here = point.metrics.value(there.metric)
    agrees = None if here is None else there.agrees(here)
    return PrintedAgreement(there.metric, there.value, there.interval, there.n, agrees)


@dataclass(frozen=True)
class PrintedModel(PrintedPoint):
    """A model that could be shipped."""

    file: Path | None
    """Path of its exported file; null where it is not on this machine."""

    @classmethod
    def of(cls, point: Point) -> PrintedModel:
        return cls(**fields_of(point), file=point.file)


@dataclass(frozen=True)
class PrintedFrontModel(PrintedModel):
    """A model with its place on the front."""

    on_front: bool
    """Whether it breaks no limit, and no such model dominates it."""
    is_knee: bool
    """Whether it is the knee."""
    tied: Mapping[str, tuple[str, ...]]
    """Objective -> neighbours on the front from which it does not differ significantly."""


@dataclass(frozen=True)
class PrintedMiss:
    """A limit that a model breaks."""

    limit: str
    """The key of the space file."""
    bound: str
    """The bound that follows from it."""
    seen: float
    """The value of the model."""
    by: float
    """How far it is off, as a share of the bound."""
    now: float
    """The value of the key."""
    loosened: float
    """The value of the key with which the model passes."""

    @classmethod
    def of(cls, miss: Miss) -> PrintedMiss:
        limit = miss.limit
        return cls(limit.path, limit.bound.name, miss.seen, miss.by, limit.value, miss.loosened)


@dataclass(frozen=True)
class PrintedNearModel:
    """A model that breaks limits."""

    trial: int
    """Number of the trial."""
    plan: PlanJson
    """Its plan."""
    values: Mapping[str, float | None]
    """Its metrics."""
    predicted: tuple[str, ...]
    """Metrics that are predicted, because it was not trained."""
    misses: tuple[PrintedMiss, ...]
    """The limits that it breaks."""
    unjudged: tuple[str, ...]
    """Metrics with a limit whose value is not known."""

    @classmethod
    def of(cls, near: NearModel) -> PrintedNearModel:
        model, misses = near.candidate, tuple(map(PrintedMiss.of, near.misses))
        return cls(model.trial, model.plan.to_json(), model.values, model.predicted, misses, near.unjudged)


@dataclass(frozen=True)
class PrintedNearest:
    """What came nearest to the limits."""

    models: tuple[PrintedNearModel, ...]
    """The nearest models, nearest first."""
    single: tuple[PrintedNearModel, ...]
    """For each limit the model that passes with the least loosening of it alone."""

    @classmethod
    def of(cls, nearest: Nearest) -> PrintedNearest:
        return cls(tuple(map(PrintedNearModel.of, nearest.models)), tuple(map(PrintedNearModel.of, nearest.single)))


@dataclass(frozen=True)
class PrintedFront:
    """The models of a front."""

    study: str
    """Name of the study."""
    device: str
    """Where the models were measured, as front --device takes it."""
    shown_device: str
    """The same with its host, such as local@HOST."""
    emulated: bool
    """Whether its times are those of an emulated device."""
    labelled_by: str | None
    """The ONNX network whose own fp32 outputs are the labels; null where the images have labels."""
    quality_warnings: tuple[str, ...]
    """What accuracy is without labels; classes that the baseline or the front misses, in words."""
    baseline: PrintedModel | None
    """The unpruned model that relative limits refer to, on this device."""
    points: tuple[PrintedFrontModel, ...]
    """The models, in the order in which they are shown."""

    @classmethod
    def of(cls, front: Front, shown: Sequence[Point]) -> PrintedFront:
        """The front with the models `shown`, which need not be on it."""
        tied = {point.trial: tie for point, tie in zip(front.points, ties(front.points, front.objectives), strict=True)}
        knee = None if front.knee is None else front.points[front.knee].trial
        return cls(
            front.study,
            front.device,
            front.shown_device,
            front.emulated,
            front.labelled_by,
            tuple(front.quality_warnings()),
            None if front.baseline is None else PrintedModel.of(front.baseline),
            tuple(
                PrintedFrontModel(
                    **fields_of(point),
                    file=point.file,
                    on_front=point.trial in tied,
                    is_knee=point.trial == knee,
                    tied=tied.get(point.trial, {}),
                )
                for point in shown
            ),
        )


@dataclass(frozen=True)
class PrintedSelection(PrintedFront):
    """The models of a study that a person wants to see, and what came nearest to the limits."""

    nearest: PrintedNearest | None
    """What came nearest, where no model is within the limits."""

    @classmethod
    def with_nearest(cls, front: PrintedFront, nearest: Nearest | None) -> PrintedSelection:
        return cls(**vars(front), nearest=None if nearest is None else PrintedNearest.of(nearest))


@dataclass(frozen=True)
class PrintedPrediction:
    """A model that was not measured on a device, but predicted."""

    trial: int
    """Number of the trial."""
    plan: PlanJson
    """Its plan on this device."""
    values: Mapping[str, float]
    """Predicted metrics."""
    intervals: Mapping[str, tuple[float, float]]
    """Their 95 % intervals."""
    chance: float
    """Chance that it is on the front."""

    @classmethod
    def of(cls, prediction: Prediction) -> PrintedPrediction:
        plan = prediction.plan.to_json()
        return cls(prediction.trial, plan, prediction.values, prediction.intervals, prediction.chance)


@dataclass(frozen=True)
class PrintedLeftOut:
    """A model that cannot run on a device."""

    trial: int
    """Number of the trial."""
    reason: str
    """Why it cannot run here."""


@dataclass(frozen=True)
class PrintedRetargeting:
    """The models of a study on another device."""

    measured: int
    """Models that were measured on this device."""
    fits: tuple[Fit, ...]
    """How well each cost is predicted."""
    predictions: tuple[PrintedPrediction, ...]
    """Models that were not measured, the likeliest on the front first."""
    left_out: tuple[PrintedLeftOut, ...]
    """Models that are not measured."""
    front: PrintedFront
    """The front on this device."""

    @classmethod
    def of(cls, retargeted: Retargeted, front: Front) -> PrintedRetargeting:
        return cls(
            len(retargeted.models),
            retargeted.fits,
            tuple(map(PrintedPrediction.of, retargeted.predictions)),
            tuple(PrintedLeftOut(trial, reason) for trial, reason in retargeted.left_out.items()),
            PrintedFront.of(front, front.points),
        )
