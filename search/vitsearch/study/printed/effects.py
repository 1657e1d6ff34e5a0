"""What each knob did, as `--json` prints it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from vitsearch.study.dropped_backbones import DroppedBackbone
from vitsearch.study.results.backbone_standing import BackboneStanding
from vitsearch.study.results.effects import BackboneEffects, Effect
from vitsearch.study.results.explanation import EvaluatedPrediction, Explanation
from vitsearch.study.results.objectives import EffectVerdict, ObjectiveEffects


@dataclass(frozen=True)
class PrintedEffect:
    """What a value of a knob does."""

    knob: str
    """The knob."""
    at: str
    """The choices of other knobs for which it does so, such as a runtime; empty where it does for all."""
    start: str
    """From this value."""
    to: str
    """To this one."""
    estimate: float
    """Of a cost as a share (-0.1: 10 % less), of the accuracy as a difference."""
    low: float
    """Lower end of the 95 % interval."""
    high: float
    """Upper end."""
    models: int
    """Models with the value 'to'."""
    verdict: EffectVerdict
    """Whether it is better or worse, nothing (a gain is certainly small) or open."""

    @classmethod
    def of(cls, effect: Effect, objective: ObjectiveEffects) -> PrintedEffect:
        change = objective.change
        return cls(
            effect.knob,
            effect.at,
            effect.start,
            effect.to,
            change(effect.estimate),
            change(effect.low),
            change(effect.high),
            effect.models,
            objective.verdict(effect),
        )


@dataclass(frozen=True)
class PrintedBackboneEffects:
    """What the knobs did to the models of a backbone."""

    backbone: str
    """The backbone."""
    models: int
    """Its models."""
    r_squared: float | None
    """Share of the variance that these effects explain."""
    about: str
    """How many models there are, and how far to believe these effects, in words."""
    effects: tuple[PrintedEffect, ...]
    """Empty where there are too few models."""
    not_stated: tuple[str, ...]
    """Which effects the models do not identify, one line for each reason."""

    @classmethod
    def of(cls, backbone: BackboneEffects, objective: ObjectiveEffects) -> PrintedBackboneEffects:
        effects = tuple(PrintedEffect.of(effect, objective) for effect in backbone.effects)
        reasons = tuple(backbone.reasons())
        return cls(backbone.backbone, backbone.models, backbone.r_squared, backbone.about(), effects, reasons)


@dataclass(frozen=True)
class PrintedObjectiveEffects:
    """What the knobs did to an objective."""

    objective: str
    """The metric."""
    measured: int
    """Models with a measured value."""
    predicted: int
    """Models with a predicted value."""
    explained: float | None
    """Share of the variance that all knobs explain together."""
    importances: Mapping[str, float]
    """Knob, or knobs of which each pair of values has its own effect, -> share of the variance explained alone."""
    backbones: tuple[PrintedBackboneEffects, ...]
    """Backbone by backbone."""

    @classmethod
    def of(cls, objective: ObjectiveEffects) -> PrintedObjectiveEffects:
        return cls(
            objective.name,
            objective.measured,
            objective.predicted,
            objective.explained,
            objective.importances,
            tuple(PrintedBackboneEffects.of(backbone, objective) for backbone in objective.backbones),
        )


@dataclass(frozen=True)
class PrintedPredictedQuality:
    """A metric of the task that was predicted and measured later."""

    metric: str
    """Its name."""
    trial: int
    """Number of the trial."""
    predicted: float
    """Value predicted without training."""
    deviation: float
    """One standard deviation."""
    measured: float
    """Value of the exported file."""
    low: float
    """Lower end of its 95 % interval."""
    high: float
    """Upper end."""
    was_trained: bool
    """Whether it was trained in between."""
    error: float
    """The measured value minus the predicted one."""
    interval: tuple[float, float]
    """Where a measured value lies with 95 % probability, by the errors of the prediction and the images."""
    holds: bool
    """Whether the measured one lies within it."""

    @classmethod
    def of(cls, prediction: EvaluatedPrediction) -> PrintedPredictedQuality:
        error, interval = prediction.error, prediction.interval
        return cls(**vars(prediction), error=error, interval=interval, holds=prediction.holds)


@dataclass(frozen=True)
class PrintedExplanation:
    """What each knob did to each objective."""

    study: str
    """Name of the study."""
    emulated: bool
    """Whether its times are those of an emulated device."""
    devices: tuple[str, ...]
    """Its devices, each with its host."""
    objectives: tuple[PrintedObjectiveEffects, ...]
    """Objective by objective."""
    lines: tuple[str, ...]
    """What gains nothing, in plain lines."""
    predictions: tuple[PrintedPredictedQuality, ...]
    """Values of the first quality that were predicted and measured later."""
    calibration: tuple[str, ...]
    """What the predictions were worth, in plain lines."""
    dropped: tuple[DroppedBackbone, ...]
    """Backbones that were not searched, because they cannot meet the limits."""
    backbones: tuple[BackboneStanding, ...]
    """What the best models of each backbone reach, those with most models on the front first."""
    ending: tuple[str, ...]
    """Why its last search ended, in plain lines."""

    @classmethod
    def of(cls, explanation: Explanation) -> PrintedExplanation:
        return cls(
            explanation.study,
            explanation.emulated,
            explanation.shown_devices,
            tuple(map(PrintedObjectiveEffects.of, explanation.objectives)),
            tuple(explanation.lines()),
            tuple(map(PrintedPredictedQuality.of, explanation.predictions)),
            () if explanation.calibration is None else tuple(explanation.calibration.lines()),
            explanation.dropped,
            explanation.backbones,
            explanation.ending,
        )
