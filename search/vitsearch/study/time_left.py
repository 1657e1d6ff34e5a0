"""How long a search still takes, from the times at which its plans were trained: an interval, or nothing.

The time between two trained plans holds everything that happens meanwhile: the candidates that are not trained, the
plans that are trained beside each other, and whatever slows the machine. Breaks between runs do not count.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from vitsearch.study.time_spans import union

FIRST_ROUND_FACTOR = 8.0
"""How much less time a plan may take than one of the first round, which also makes what all plans share: in two
recorded runs of the quickstart 6 times (45 s, then 8 s on average) and 8 times."""
LEAST_VARIATION = 0.5
"""Plans differ in size, so the times between them vary at least this much (standard deviation over mean), whatever the
few that were seen suggest."""
STANDARD_ERRORS = 1.5
"""Of the sum of what is left, on both sides of the interval: it holds about six of seven sums."""
LATE_FACTOR = 0.5
"""A plan that is late may take this share of the time that it has taken so far once more."""

UNITS = (("s", 1.0, 5.0), ("min", 60.0, 1.0), ("h", 3600.0, 0.5))
LARGEST = 90.0
"""From 90 s on minutes are shown, from 90 min on hours."""


@dataclass(frozen=True)
class TrialSpan:
    """A finished trial: when it started and ended (seconds of one clock), and whether its plan was trained."""

    start_s: float
    end_s: float
    trained: bool


@dataclass(frozen=True)
class TimeLeft:
    """Between `low_s` and `high_s` seconds."""

    low_s: float
    high_s: float

    def plus(self, seconds: float) -> TimeLeft:
        return TimeLeft(self.low_s + seconds, self.high_s + seconds)

    def at_most(self, seconds: float) -> TimeLeft:
        return TimeLeft(min(self.low_s, seconds), min(self.high_s, seconds))

    def __str__(self) -> str:
        """`about 4 to 7 min`."""
        if self.high_s < 10.0:
            return "a few seconds"
        unit, seconds, step = next(entry for entry in UNITS if self.high_s < LARGEST * entry[1] or entry is UNITS[-1])
        low, high = (round(value / seconds / step) * step for value in (self.low_s, self.high_s))
        if low == high:
            return f"about {high:g} {unit}"
        return f"about {low:g} to {high:g} {unit}" if low else f"up to {high:g} {unit}"


def gaps(spans: Sequence[TrialSpan]) -> list[float]:
    """The times between trained plans, in the order in which they ended, without the breaks when no trial was open.

    The first is counted from the start of the first trial.
    """
    open_times = union((span.start_s, span.end_s) for span in spans)
    ends = [0.0, *_lengths_until(open_times, sorted(span.end_s for span in spans if span.trained))]
    return [end - before for before, end in pairwise(ends)]


def _lengths_until(times: Sequence[tuple[float, float]], untils_s: Iterable[float]) -> Iterator[float]:
    """How much of the sorted `times` lies before each of the sorted `untils_s`."""
    over_s, index = 0.0, 0
    for until_s in untils_s:
        while index < len(times) and times[index][1] <= until_s:
            over_s += times[index][1] - times[index][0]
            index += 1
        yield over_s + (max(0.0, until_s - times[index][0]) if index < len(times) else 0.0)


def time_left(past: Sequence[float], plans: int, slots: int, since_last_s: float) -> TimeLeft | None:
    """The time until `plans` more are trained; None before the first one was.

    `past` are the `gaps` so far, `slots` the plans that are trained at the same time, `since_last_s` the
    time since the last one ended (or since this run began to search). After the first round the interval is the mean
    of the later gaps, times and divided by what their variation allows.
    """
    if plans <= 0:
        return TimeLeft(0.0, 0.0)
    if not past:
        return None
    later = past[slots:]
    if len(later) < 2:
        typical = statistics.fmean(past)
        low, high = typical / FIRST_ROUND_FACTOR, typical
    else:
        typical = statistics.fmean(later)
        variation = max(LEAST_VARIATION, statistics.stdev(later) / typical if typical else 0.0)
        factor = 1.0 + STANDARD_ERRORS * variation * math.sqrt(1.0 / plans + 1.0 / len(later))
        low, high = typical / factor, typical * factor
    others = plans - 1
    return TimeLeft(
        low * others + max(0.0, low - since_last_s),
        high * others + max(high - since_last_s, LATE_FACTOR * since_last_s),
    )
