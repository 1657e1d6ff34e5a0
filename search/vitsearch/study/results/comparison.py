"""Two models of a study, metric by metric and knob by knob: what differs, and whether the difference is significant.

Costs are compared as a ratio, on the logarithms of their values, whose errors follow from their 95 % intervals. The
errors of both are taken as independent; times that were taken beside the same reference models share a part of theirs,
so the true interval is narrower.

Qualities are those of the same validation images. What each model makes of each image is not stored, so the
interval of their difference is that of two independent samples, which is wider than that of paired ones. Where the
first metric of the task counts images that are right, what can be said of the paired test (McNemar's, exact) without
the answers is said: how many images the two may judge differently at most for the difference to be significant. With
the answers that test decides, and its interval takes the place of the other one; where the metric is a mean of one
value for each image, Student's test of the differences does. A metric of all images together, such as an intersection
over union, is none: what the images alone give is said beside it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from vitsearch.core.figures import Z_95, Metrics
from vitsearch.core.metrics import split
from vitsearch.storage.ledger import Ledger
from vitsearch.study.front import Front, Point, read_models
from vitsearch.study.knob_values import knob_values
from vitsearch.study.results.detail import point_of, record_of
from vitsearch.study.results.effects import student
from vitsearch.study.study import Study

SIGNIFICANT = 0.05
"""A smaller probability is called significant."""
ROUNDING = 1e-5
"""Two means of the same values may differ by so much."""
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


@dataclass(frozen=True)
class PairedMeans:
    """A metric of two models that is the mean of one value for each image, on the same `n` images: the mean of the
    second values minus the first, with its 95 % interval by Student's t, and whether more is better."""

    n: int
    change: float
    interval: tuple[float, float]
    more_is_better: bool

    @classmethod
    def of(cls, first: Sequence[float], second: Sequence[float], more_is_better: bool) -> PairedMeans:
        """Of the values of the same images, in the same order."""
        differences = [other - value for value, other in zip(first, second, strict=True)]
        n, mean = len(differences), math.fsum(differences) / len(differences)
        if n < 2:
            return cls(n, mean, (-math.inf, math.inf), more_is_better)
        scatter = math.sqrt(math.fsum((each - mean) ** 2 for each in differences) / (n - 1))
        half = student(n - 1) * scatter / math.sqrt(n)
        return cls(n, mean, (mean - half, mean + half), more_is_better)

    @property
    def is_significant(self) -> bool:
        low, high = self.interval
        return low > 0.0 or high < 0.0


Paired = McNemar | PairedMeans


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
    """`knobs` are those that differ: name -> both values. `metric` is the first one of the task, which `paired` tests
    on the answers of both files, where it was asked for."""

    study: str
    emulated: bool
    first: Point
    second: Point
    metrics: tuple[MetricCompared, ...]
    knobs: dict[str, tuple[Any, Any]]
    images: int | None
    metric: str = "accuracy"
    paired: Paired | None = None

    def with_answers(self, answers: Paired) -> Comparison:
        """The same with the answers of both files: their first metric is judged by them, if it is what they give."""
        metrics = (
            _paired(metric, answers) if metric.name == self.metric and _is_given(metric, answers) else metric
            for metric in self.metrics
        )
        return replace(self, metrics=tuple(metrics), paired=answers)

    @property
    def is_judged_by_pairs(self) -> bool:
        """Whether the difference of the first metric is that of the paired answers."""
        first = next((metric for metric in self.metrics if metric.name == self.metric), None)
        return first is not None and self.paired is not None and _is_given(first, self.paired)

    def summary(self) -> Iterator[str]:
        """Which of the two is better in what, in plain lines."""
        shown = [metric for metric in self.metrics if not split(metric.name)[0].is_raw]
        for verdict, point in (("first", self.first), ("second", self.second)):
            if names := [metric.name for metric in shown if metric.verdict == verdict]:
                yield f"{point.name} is better in {', '.join(names)}"
        if names := [metric.name for metric in shown if metric.verdict == "not significant"]:
            yield f"not significant: {', '.join(names)}"
        if (text := self.quality_text()) is not None:
            yield text

    def quality_text(self) -> str | None:
        """What is known of the first metric of the task, beyond its intervals."""
        if self.paired is not None:
            return _paired_text(self, self.paired)
        name = self.metric
        first, second = self.first.metrics.value(name), self.second.metrics.value(name)
        if first is None or second is None or self.images is None or not split(name)[0].is_count:
            return None
        apart = abs(round((second - first) * self.images))
        on = f"the same {self.images:,} validation images"
        if apart == 0:
            return f"{name}: both classify equally many of {on} correctly"
        better = self.second if second > first else self.first
        more = f"{name}: {better.name} classifies {apart} more of {on} correctly"
        most = most_differing(apart, self.images)
        if most is None:
            why = "by McNemar's exact test a difference below 6 never is"
            return f"{more}, which is not significant however they pair: {why}"
        return (
            f"{more}. The interval above takes the two as independent. On paired answers the difference is significant "
            f"if at most {most:,} images are judged differently (McNemar's exact test); --paired counts them"
        )


def _paired_text(comparison: Comparison, paired: Paired) -> str:
    says = "significant" if paired.is_significant else "not significant"
    if isinstance(paired, PairedMeans):
        low, high = paired.interval
        of_each = "" if comparison.is_judged_by_pairs else " of each image alone"
        return (
            f"{comparison.metric}{of_each} on the same {paired.n:,} images: that of {comparison.second.name} less that "
            f"of {comparison.first.name} is {paired.change:+.4f} on average ({low:+.4f} to {high:+.4f}): {says} "
            "(Student's test of the differences)"
        )
    return (
        f"{comparison.metric} on the same {paired.n:,} images: {comparison.first.name} alone is right on "
        f"{paired.only_first}, {comparison.second.name} alone on {paired.only_second}: {says} (McNemar's exact test, "
        f"p = {paired.p:.2g})"
    )


def _is_given(metric: MetricCompared, answers: Paired) -> bool:
    """Whether the difference of a metric is the mean of those of the images."""
    if isinstance(answers, McNemar):
        return True
    is_difference = metric.change is not None and split(metric.name)[0].is_share
    return is_difference and math.isclose(answers.change, metric.change or 0.0, abs_tol=ROUNDING)


def _paired(metric: MetricCompared, answers: Paired) -> MetricCompared:
    """A difference of qualities by the answers on the same images."""
    if isinstance(answers, PairedMeans):
        low, high = answers.interval
        first_or_second: Verdict = "second" if (answers.change > 0) == answers.more_is_better else "first"
        verdict: Verdict = first_or_second if answers.is_significant else "not significant"
        return replace(metric, change=answers.change, low=low, high=high, verdict=verdict)
    counted = answers
    change = (counted.only_second - counted.only_first) / counted.n
    better: Verdict = "second" if change > 0 else "first"
    if counted.only_first == counted.only_second == 0:
        return replace(metric, change=change, low=None, high=None, verdict="equal")
    low, high = counted.interval
    return replace(
        metric, change=change, low=low, high=high, verdict=better if counted.is_significant else "not significant"
    )


def compare(models: Front, first: Point, second: Point, images: int | None, quality: str = "accuracy") -> Comparison:
    """Two models of a study. `images`: the number of validation images on which both were evaluated; `quality`: the
    first metric of the task."""
    names = dict.fromkeys([*first.metrics.figures, *second.metrics.figures])
    metrics = tuple(
        _of_images(compared(name, first.metrics, second.metrics), images)
        if name == quality and split(name)[0].is_count
        else compared(name, first.metrics, second.metrics)
        for name in names
    )
    own, other = knob_values(first.plan), knob_values(second.plan)
    knobs = {name: (own[name], other[name]) for name in own if own[name] != other[name]}
    return Comparison(models.study, models.emulated, first, second, metrics, knobs, images, quality)


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
        is_count = split(name)[0].is_of_file
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
    quality = study.space().purpose.metrics[0].name
    evaluated = all(point.metrics.value(quality) is not None for point in points)
    return compare(models, points[0], points[1], validation.get("images") if evaluated else None, quality)
