"""What each choice of a knob came with: the mean of an objective over the trials that have it, with an interval."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from vitsearch.report.knobs import Choice
from vitsearch.report.trials import BASELINE, ShownTrial


@dataclass(frozen=True)
class Effect:
    """The mean of ``metric`` over ``n`` trials with this choice, and its 95 % interval (None for a single trial).

    The mean of a cost is the geometric one, as the search sees costs.
    """

    knob: str
    choice: Choice
    metric: str
    n: int
    mean: float
    low: float | None
    high: float | None


def effects(
    trials: Sequence[ShownTrial], chosen: Sequence[Mapping[str, Choice]], metrics: Sequence[str]
) -> tuple[Effect, ...]:
    """The effects of every knob that has several values. ``chosen`` are the knobs of each trial."""
    rows = [
        (knobs, trial.metrics.values)
        for trial, knobs in zip(trials, chosen, strict=True)
        if trial.group != BASELINE and trial.duplicate_of is None
    ]
    return tuple(effect for metric in metrics for effect in _of_metric(rows, metric))


def _of_metric(
    rows: Sequence[tuple[Mapping[str, Choice], Mapping[str, float | None]]], metric: str
) -> Iterator[Effect]:
    known = [(knobs, value) for knobs, values in rows if (value := values.get(metric)) is not None]
    for knob in known[0][0] if known else ():
        by_choice: dict[Choice, list[float]] = {}
        for knobs, value in known:
            by_choice.setdefault(knobs[knob], []).append(value)
        if len(by_choice) > 1:
            for choice in sorted(by_choice, key=lambda one: (isinstance(one, str), one)):
                yield Effect(knob, choice, metric, len(by_choice[choice]), *_mean(by_choice[choice], metric))


def _mean(values: Sequence[float], metric: str) -> tuple[float, float | None, float | None]:
    """The mean and its 95 % interval by Student's t."""
    in_logs = metric.partition("@")[0] != "accuracy" and min(values) > 0.0
    numbers = [math.log(value) for value in values] if in_logs else list(values)
    back = math.exp if in_logs else float
    mean = statistics.fmean(numbers)
    if len(numbers) < 2:
        return back(mean), None, None
    from scipy.special import stdtrit  # scipy: only for those who make a report

    half = float(stdtrit(len(numbers) - 1, 0.975)) * statistics.stdev(numbers) / math.sqrt(len(numbers))
    return back(mean), back(mean - half), back(mean + half)
