"""What each knob did to each objective of a study on its device: the models that effects are read from, and what an
effect means."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from vitsearch.core.figures import Z_95, Metrics
from vitsearch.core.metrics import is_quality, split
from vitsearch.core.plan import Plan
from vitsearch.core.record import Record
from vitsearch.study.knob_values import knob_values, plan_for
from vitsearch.study.results.effects import (
    BackboneEffects,
    Effect,
    Observation,
    explained,
    importances,
    main_effects,
    unique,
)

SMALL_CHANGE, SMALL_LOSS = 0.05, 0.005
"""A gain that is certainly smaller counts as none: as a share of a cost, and as accuracy."""

EffectVerdict = Literal["better", "worse", "nothing", "open"]

LARGEST = 700.0
"""A difference of logarithms whose power is still a finite number."""


@dataclass(frozen=True)
class ObjectiveEffects:
    """Of one objective. The effects on costs are differences of logarithms: `change` makes shares of them.

    `measured` and `predicted` count the models; only accuracies are predicted.
    """

    name: str
    backbones: tuple[BackboneEffects, ...]
    importances: Mapping[str, float]
    explained: float | None
    measured: int
    predicted: int

    @property
    def is_quality(self) -> bool:
        return is_quality(self.name)

    def change(self, difference: float) -> float:
        """The change that a difference means: of a cost as a share, of a quality as it is. The end of a
        very wide interval stays a number."""
        return difference if self.is_quality else math.expm1(min(difference, LARGEST))

    def gain(self, difference: float) -> float:
        """The change in the better direction."""
        sign = 1.0 if split(self.name)[0].direction == "maximize" else -1.0
        return sign * self.change(difference)

    def verdict(self, effect: Effect) -> EffectVerdict:
        """`better`, `worse`, `nothing` (a gain is certainly small) or `open`."""
        ends = [self.gain(end) for end in (effect.low, effect.high)]
        if min(ends) > 0.0:
            return "better"
        if max(ends) < 0.0:
            return "worse"
        small = SMALL_LOSS * split(self.name)[0].width if self.is_quality else SMALL_CHANGE
        return "nothing" if max(ends) < small else "open"


def objective_effects(
    objectives: Iterable[str], records: Mapping[int, Record], figures: Mapping[int, Metrics]
) -> tuple[ObjectiveEffects, ...]:
    """The effects on each objective over all trials with a measurement, unpruned models among them. `figures` are
    those that each trial has now."""
    return tuple(_of_objective(name, records, figures) for name in objectives)


def _of_objective(name: str, records: Mapping[int, Record], figures: Mapping[int, Metrics]) -> ObjectiveEffects:
    entries = _qualities(name, records, figures) if is_quality(name) else _costs(name, records, figures)
    observed = unique((key, observation) for key, observation, _ in entries)
    kinds = {key: is_predicted for key, _, is_predicted in reversed(entries)}
    predicted = sum(kinds.values())
    backbones = tuple(main_effects(observed))
    shares = _identified(importances(observed), backbones)
    return ObjectiveEffects(
        name,
        backbones,
        shares,
        explained(observed) if shares else None,
        len(kinds) - predicted,
        predicted,
    )


def _identified(shares: Mapping[str, float], backbones: Iterable[BackboneEffects]) -> dict[str, float]:
    """The shares of backbones and of the knobs of which at least one effect is stated: the others rest on a single
    model, or on none."""
    stated = {"backbone"} | {effect.knob for backbone in backbones for effect in backbone.effects}
    return {knobs: share for knobs, share in shares.items() if stated & set(knobs.split(", "))}


_Entries = list[tuple[str, Observation, bool]]
"""The key of a result, its observation, and whether it is predicted."""


def _costs(name: str, records: Mapping[int, Record], figures: Mapping[int, Metrics]) -> _Entries:
    """The logarithms of the costs of graphs; what is a cost of the file counts once for each file."""
    entries: _Entries = []
    for number, record in records.items():
        value = figures[number].value(name)
        if record.keys is None or value is None or value <= 0.0:
            continue
        plan = plan_for(name, record.plan)
        key = record.keys.graph_key if split(name)[0].on_device else _graph_file(plan)
        observation = Observation(knob_values(plan), math.log(value), _log_deviation(figures[number], name))
        entries.append((key, observation, False))
    return entries


def _graph_file(plan: Plan) -> str:
    """What tells the files of graphs apart, whatever their weights and however they are run."""
    return repr((plan.backbone, plan.resolution, plan.window_size, plan.compression, plan.deployment))


def _log_deviation(metrics: Metrics, name: str) -> float:
    low, high = metrics.intervals.get(name, (1.0, 1.0))
    return math.log(high / low) / (2 * Z_95) if low > 0.0 else 0.0


def _qualities(name: str, records: Mapping[int, Record], figures: Mapping[int, Metrics]) -> _Entries:
    """Evaluated qualities; for plans that were not confirmed, the predicted ones. Both have the error of a finite
    number of images, and the predicted ones their own and those that they share. Plans that share a file share its
    quality: they count once."""
    entries: _Entries = []
    sampling = max((_deviation(name, metrics) for metrics in figures.values()), default=0.0)
    for number, record in records.items():
        if record.keys is None:
            continue
        plan = plan_for(name, record.plan)
        key, knobs = f"{record.keys.weights_key} {plan.deployment}", knob_values(plan)
        evaluated = figures[number].value(name) if record.is_confirmed else None
        predicted = None if record.proxy is None else record.proxy.predicted.get(name)
        if evaluated is not None:
            entries.append((key, Observation(knobs, evaluated, _deviation(name, figures[number])), False))
        elif predicted is not None:
            error = math.hypot(predicted.own_deviation, sampling)
            entries.append((key, Observation(knobs, predicted.mean, error, predicted.shared), True))
    return sorted(entries, key=lambda entry: entry[2])  # measured ones first: they count where both are known


def _deviation(name: str, metrics: Metrics) -> float:
    """One standard deviation of a quality; 0 where it was not evaluated."""
    low, high = metrics.intervals.get(name, (0.0, 0.0))
    return (high - low) / (2 * Z_95)
