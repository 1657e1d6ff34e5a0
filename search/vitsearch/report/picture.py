"""The front as a picture for slides: the models within the limits, the baseline, intervals and limits."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from vitsearch.core.limits import Bound
from vitsearch.core.metrics import is_quality, split
from vitsearch.errors import StudyError
from vitsearch.report.data import ReportData
from vitsearch.report.shapes import Dot, Line, Picture, Shape, Text, Where
from vitsearch.report.trials import BASELINE, CONFIRMED, FRONT, NEAR, ShownTrial

WIDTH, HEIGHT = 1280, 720
LEFT, RIGHT, TOP, BOTTOM = 110, 1240, 90, 610
"""The edges of the plot, in pixels."""
INK, QUIET, GRID, LIMIT = "#1a1f24", "#505b66", "#dde2e7", "#8f3a00"
LOOKS: dict[str, tuple[str, float, str]] = {
    CONFIRMED: ("#b06d00", 4.0, "square"),
    NEAR: ("#007d5b", 5.5, "diamond"),
    FRONT: ("#0072b2", 7.0, "circle"),
    BASELINE: (INK, 7.0, "diamond"),
}
"""Colour (Okabe and Ito 2008, darker for white ground), radius, form. Later ones cover earlier ones."""
LOG_FROM = 10.0
"""The ratio of the largest cost to the smallest from which its axis is logarithmic."""
MARGIN = 0.06
"""Empty share at both ends of an axis."""


@dataclass(frozen=True)
class Axis:
    """A metric between two values; `start` and `end` are pixels."""

    metric: str
    low: float
    high: float
    is_log: bool
    start: float
    end: float

    def at(self, value: float) -> float:
        low, high, here = (math.log(v) if self.is_log else v for v in (self.low, self.high, value))
        return self.start + (self.end - self.start) * (here - low) / (high - low)

    @property
    def title(self) -> str:
        unit = split(self.metric)[0].unit
        return f"{self.metric} [{unit}]" if unit and unit.lower() not in self.metric else self.metric

    def ticks(self) -> list[float]:
        if self.is_log:
            powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            values = [digit * 10.0**power for power in powers for digit in (1, 2, 5)]
        else:
            step = _nice((self.high - self.low) / 6)
            first = math.ceil(self.low / step)
            values = [step * index for index in range(first, first + 20)]
        return [value for value in values if self.low <= value <= self.high]


def front_picture(data: ReportData) -> Picture:
    """The front in its first two objectives, a quality upwards.

    Raises `StudyError` where there is no model within the limits yet.
    """
    across, up = _objectives(data)
    shown = [trial for trial in data.trials if trial.group in LOOKS and _has(trial, across) and _has(trial, up)]
    if not any(trial.is_model for trial in shown):
        raise StudyError(
            f"study {data.study!r} has no model within its limits yet, so there is no front to draw; "
            f"see 'vitsearch status {data.study_argument}'"
        )
    x = _axis(across, shown, LEFT, RIGHT)
    y = _axis(up, shown, BOTTOM, TOP)
    count = sum(trial.group == FRONT for trial in shown)
    models = "1 model" if count == 1 else f"{count} models"
    agreement = "" if data.labelled_by is None else f"; accuracy is agreement with {data.labelled_by}"
    title = f"{'EMULATED: ' if data.emulated else ''}Pareto front of study {data.study}: {models}{agreement}"
    shapes: list[Shape] = [Text((LEFT, 40), title, 26, INK)]
    shapes += _frame(x, y)
    shapes += _limits(data.limits, x, y)
    on_front = sorted((trial for trial in shown if trial.group == FRONT), key=lambda trial: _value(trial, across))
    shapes.append(Line(tuple(_place(trial, x, y) for trial in on_front), LOOKS[FRONT][0], 1.5))
    for group in LOOKS:
        for trial in shown:
            if trial.group == group:
                shapes += _mark(trial, x, y, data.knee)
    shapes += _legend([group for group in LOOKS if any(trial.group == group for trial in shown)])
    return Picture(WIDTH, HEIGHT, f"{title}; {up} against {across}", tuple(shapes))


def _objectives(data: ReportData) -> tuple[str, str]:
    """The metric of each axis."""
    names = list(data.objectives)
    up = next(filter(is_quality, names), names[1])
    return next(name for name in names if name != up), up


def _has(trial: ShownTrial, metric: str) -> bool:
    return trial.metrics.value(metric) is not None


def _value(trial: ShownTrial, metric: str) -> float:
    value = trial.metrics.value(metric)
    assert value is not None  # only trials that have it are shown
    return value


def _ends(trial: ShownTrial, metric: str) -> tuple[float, float]:
    value = _value(trial, metric)
    return trial.metrics.intervals.get(metric, (value, value))


def _axis(metric: str, shown: Sequence[ShownTrial], start: float, end: float) -> Axis:
    ends = [_ends(trial, metric) for trial in shown]
    low, high = min(low for low, _ in ends), max(high for _, high in ends)
    is_log = not split(metric)[0].is_share and low > 0.0 and high / low > LOG_FROM
    if is_log:
        room = (high / low) ** MARGIN
        return Axis(metric, low / room, high * room, True, start, end)
    room = (high - low or abs(high) or 1.0) * MARGIN
    return Axis(metric, low - room, high + room, False, start, end)


def _nice(step: float) -> float:
    """The next larger of 1, 2, 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(digit * power for digit in (1, 2, 5, 10) if digit * power >= step)


def _frame(x: Axis, y: Axis) -> Iterator[Shape]:
    for value in x.ticks():
        at = x.at(value)
        yield Line(((at, TOP), (at, BOTTOM)), GRID)
        yield Text((at, BOTTOM + 20), f"{value:.4g}", 16, QUIET, "middle")
    for value in y.ticks():
        at = y.at(value)
        yield Line(((LEFT, at), (RIGHT, at)), GRID)
        yield Text((LEFT - 10, at), f"{value:.4g}", 16, QUIET, "end")
    yield Line(((LEFT, TOP), (LEFT, BOTTOM), (RIGHT, BOTTOM)), QUIET)
    yield Text(((LEFT + RIGHT) / 2, BOTTOM + 50), x.title, 18, INK, "middle")
    yield Text((30, (TOP + BOTTOM) / 2), y.title, 18, INK, "middle", turned=True)


def _limits(limits: Sequence[Bound], x: Axis, y: Axis) -> Iterator[Shape]:
    for bound in limits:
        label = f"limit: {bound.metric} {bound.sense} {bound.value:.4g}"
        if bound.metric == y.metric and y.low <= bound.value <= y.high:
            at = y.at(bound.value)
            yield Line(((LEFT, at), (RIGHT, at)), LIMIT, 1.5, dash=8)
            yield Text((RIGHT - 6, at - 12), label, 14, LIMIT, "end")
        elif bound.metric == x.metric and x.low <= bound.value <= x.high:
            at = x.at(bound.value)
            yield Line(((at, TOP), (at, BOTTOM)), LIMIT, 1.5, dash=8)
            yield Text((at - 6, TOP + 12), label, 14, LIMIT, "end")


def _place(trial: ShownTrial, x: Axis, y: Axis) -> Where:
    return x.at(_value(trial, x.metric)), y.at(_value(trial, y.metric))


def _mark(trial: ShownTrial, x: Axis, y: Axis, knee: int | None) -> Iterator[Shape]:
    colour, radius, form = LOOKS[trial.group]
    across, up = _place(trial, x, y)
    if trial.group != CONFIRMED:
        left, right = (x.at(end) for end in _ends(trial, x.metric))
        low, high = (y.at(end) for end in _ends(trial, y.metric))
        yield Line(((left, up), (right, up)), colour)
        yield Line(((across, low), (across, high)), colour)
    yield Dot((across, up), radius, colour, form)  # type: ignore[arg-type]  # a word of LOOKS
    if trial.group == BASELINE:
        yield Text((across + 12, up + 16), "baseline", 14, INK)
    elif trial.group == FRONT:  # above and to the left, where no model is
        yield Text((across - 9, up - 13), f"{trial.number}{' (knee)' if trial.number == knee else ''}", 14, INK, "end")


def _legend(groups: Sequence[str]) -> Iterator[Shape]:
    at = float(LEFT)
    for group in groups:
        colour, radius, form = LOOKS[group]
        yield Dot((at + 6, HEIGHT - 24), radius, colour, form)  # type: ignore[arg-type]  # a word of LOOKS
        yield Text((at + 20, HEIGHT - 24), group, 15, INK)
        at += 44 + 8.5 * len(group)
    yield Text((RIGHT, HEIGHT - 24), "numbers are trials; bars are 95 % intervals", 14, QUIET, "end")
