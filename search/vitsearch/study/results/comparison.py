"""Two models of a study, metric by metric and knob by knob: what differs, and whether the difference is significant.

Costs are compared as a ratio, on the logarithms of their values, whose errors follow from their 95 % intervals. The
errors of both are taken as independent; times that were taken beside the same reference models share a part of theirs,
so the true interval is narrower.

Accuracies are those of the same validation images. Which images each model classifies correctly is not stored, so the
interval of their difference is that of two independent samples, which is wider than that of paired ones. What can be
said of the paired test (McNemar's, exact) without the answers is said: how many images the two may judge differently at
most for the difference to be significant. With the answers that test decides, and its interval takes the place of the
other one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

from vitsearch.core.figures import Z_95, Metrics
from vitsearch.core.metrics import split
from vitsearch.storage.ledger import Ledger
from vitsearch.study.front import Front, Point, read_models
from vitsearch.study.knob_values import knob_values
from vitsearch.study.results.detail import point_of, record_of
from vitsearch.study.study import Study

SIGNIFICANT = 0.05
"""A smaller probability is called significant."""
Verdict = Literal["first", "second", "not significant", "equal", "no interval", "not measured"]
"""Which model is better, or why that is not known."""


@dataclass(frozen=True)
class MetricCompared:
    """A metric of two models."""

    name: str
    """The metric."""
    first: float | None
    """Value of the first model."""
    second: float | None
    """Value of the second."""
    change: float | None
    """The second value over the first; of accuracies the second minus the first."""
    low: float | None
    """Lower end of its 95 % interval."""
    high: float | None
    """Upper end."""
    verdict: Verdict
    """Which model is better, or why that is not known."""


@dataclass(frozen=True)
class McNemar:
    """Two models on the same `n` images. `only_first`: images that the first alone classifies correctly.
    `p` is that of the exact two-sided test."""

    n: int
    only_first: int
    only_second: int

    @property
    def p(self) -> float:
        """The probability of a difference as large, if both were equally good."""
        few, both = min(self.only_first, self.only_second), self.only_first + self.only_second
        tail = ways = 1
        for count in range(few):
            ways = ways * (both - count) // (count + 1)
            tail += ways
        return min(1.0, 2 * tail / (1 << both))  # of integers: floats would overflow

    @property
    def is_significant(self) -> bool:
        return self.p < SIGNIFICANT

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the second accuracy minus the first, given how many images are judged differently: that
        of Clopper and Pearson for the share of these on which the second is right. It excludes 0 where the test is
        significant."""
        from scipy.special import betaincinv  # here: only a paired comparison needs it

        first, second = self.only_first, self.only_second
        low = betaincinv(second, first + 1, SIGNIFICANT / 2) if second else 0.0
        high = betaincinv(second + 1, first, 1.0 - SIGNIFICANT / 2) if first else 1.0
        both = (first + second) / self.n
        return (2.0 * float(low) - 1.0) * both, (2.0 * float(high) - 1.0) * both


def most_differing(apart: int, n: int) -> int | None:
    """Two models of which one classifies `apart` more of `n` images correctly: how many images they may judge
    differently at most for the exact test to be significant. None where no number is small enough: below 6."""
    above = (
        math.ceil(apart * apart / (Z_95 * Z_95)) + 2
    )  # the test without its correction for small numbers allows more
    most = min(n, above)
    for both in range(most - (most - apart) % 2, apart - 1, -2):
        few = (both - apart) // 2
        if McNemar(n, few, both - few).is_significant:
            return both
    return None


@dataclass(frozen=True)
class Comparison:
    """`knobs` are those that differ: name -> both values. `paired` is the test on the answers of both files, where
    it was asked for."""

    study: str
    emulated: bool
    first: Point
    second: Point
    metrics: tuple[MetricCompared, ...]
    knobs: dict[str, tuple[Any, Any]]
    images: int | None
    paired: McNemar | None = None

    def with_answers(self, counted: McNemar) -> Comparison:
        """The same with the answers of both files: the accuracies are judged by them."""
        metrics = (_paired(metric, counted) if metric.name == "accuracy" else metric for metric in self.metrics)
        return replace(self, metrics=tuple(metrics), paired=counted)

    def summary(self) -> Iterator[str]:
        """Which of the two is better in what, in plain lines."""
        shown = [metric for metric in self.metrics if not metric.name.partition("@")[0].endswith("_raw")]
        for verdict, point in (("first", self.first), ("second", self.second)):
            if names := [metric.name for metric in shown if metric.verdict == verdict]:
                yield f"{point.name} is better in {', '.join(names)}"
        if names := [metric.name for metric in shown if metric.verdict == "not significant"]:
            yield f"not significant: {', '.join(names)}"
        if (text := self.accuracy_text()) is not None:
            yield text

    def accuracy_text(self) -> str | None:
        """What is known of the accuracies, beyond their intervals."""
        if self.paired is not None:
            return _paired_text(self)
        first, second = self.first.metrics.value("accuracy"), self.second.metrics.value("accuracy")
        if first is None or second is None or self.images is None:
            return None
        apart = abs(round((second - first) * self.images))
        on = f"the same {self.images:,} validation images"
        if apart == 0:
            return f"accuracy: both classify equally many of {on} correctly"
        better = self.second if second > first else self.first
        more = f"accuracy: {better.name} classifies {apart} more of {on} correctly"
        most = most_differing(apart, self.images)
        if most is None:
            why = "by McNemar's exact test a difference below 6 never is"
            return f"{more}, which is not significant however they pair: {why}"
        return (
            f"{more}. The interval above takes the two as independent. On paired answers the difference is significant "
            f"if at most {most:,} images are judged differently (McNemar's exact test); --paired counts them"
        )


def _paired_text(comparison: Comparison) -> str:
    paired = comparison.paired
    assert paired is not None  # asked by the caller
    says = "significant" if paired.is_significant else "not significant"
    return (
        f"accuracy on the same {paired.n:,} images: {comparison.first.name} alone is right on {paired.only_first}, "
        f"{comparison.second.name} alone on {paired.only_second}: {says} (McNemar's exact test, p = {paired.p:.2g})"
    )


def _paired(metric: MetricCompared, counted: McNemar) -> MetricCompared:
    """A difference of accuracies by the answers on the same images."""
    change = (counted.only_second - counted.only_first) / counted.n
    better: Verdict = "second" if change > 0 else "first"
    if counted.only_first == counted.only_second == 0:
        return replace(metric, change=change, low=None, high=None, verdict="equal")
    low, high = counted.interval
    return replace(
        metric, change=change, low=low, high=high, verdict=better if counted.is_significant else "not significant"
    )


def compare(models: Front, first: Point, second: Point, images: int | None) -> Comparison:
    """Two models of a study. `images`: the number of validation images that both accuracies were computed on."""
    names = dict.fromkeys([*first.metrics.figures, *second.metrics.figures])
    metrics = tuple(
        _of_images(compared(name, first.metrics, second.metrics), images)
        if name == "accuracy"
        else compared(name, first.metrics, second.metrics)
        for name in names
    )
    own, other = knob_values(first.plan), knob_values(second.plan)
    knobs = {name: (own[name], other[name]) for name in own if own[name] != other[name]}
    return Comparison(models.study, models.emulated, first, second, metrics, knobs, images)


def _of_images(metric: MetricCompared, images: int | None) -> MetricCompared:
    """Accuracies on so many images: on the same ones, a difference of a few is not significant however they pair."""
    if metric.change is None or images is None or metric.verdict not in ("first", "second"):
        return metric
    possible = most_differing(abs(round(metric.change * images)), images) is not None
    return metric if possible else replace(metric, verdict="not significant")


def compared(name: str, first: Metrics, second: Metrics) -> MetricCompared:
    """One metric of two models."""
    value, other = first.value(name), second.value(name)
    if value is None or other is None:
        return MetricCompared(name, value, other, None, None, None, "not measured")
    is_share = split(name)[0].is_share
    change = other - value if is_share else other / value if value else None
    error = _error(name, first, second, is_share)
    if value == other:
        return MetricCompared(name, value, other, change, None, None, "equal")
    if error is None or change is None:
        is_count = name in ("size_mb", "macs_m", "params_m")
        return MetricCompared(
            name, value, other, change, None, None, _better(name, value, other) if is_count else "no interval"
        )
    if is_share:
        low, high, none = change - error, change + error, 0.0
    else:
        low, high, none = change / math.exp(error), change * math.exp(error), 1.0
    verdict: Verdict = "not significant" if low <= none <= high else _better(name, value, other)
    return MetricCompared(name, value, other, change, low, high, verdict)


def _error(name: str, first: Metrics, second: Metrics, is_share: bool) -> float | None:
    """Half of the 95 % interval of the difference, or of the logarithm of the ratio."""
    halves = []
    for metrics in (first, second):
        if name not in metrics.intervals:
            return None
        low, high = metrics.intervals[name]
        if not is_share and low <= 0.0:
            return None
        halves.append((high - low) / 2 if is_share else math.log(high / low) / 2)
    return math.hypot(*halves)


def _better(name: str, value: float, other: float) -> Literal["first", "second"]:
    is_higher = split(name)[0].direction == "maximize"
    return "first" if (value > other) == is_higher else "second"


def read_comparison(study: Study, ledger: Ledger, first: int | None, second: int | None) -> Comparison:
    """Two models of a study, by the numbers of their trials; None for the baseline. Raises
    `StudyError` where there is no such finished trial."""
    models = read_models(study, ledger)
    points = [point_of(models, number, record_of(study, number)) for number in (first, second)]
    validation = (study.attributes.get("data") or {}).get("splits", {}).get("validation", {})
    evaluated = all(point.metrics.value("accuracy") is not None for point in points)
    return compare(models, points[0], points[1], validation.get("images") if evaluated else None)
