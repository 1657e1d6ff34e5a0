"""What TFLite's `benchmark_model` prints, and what it says about when it ran.

count=5 first=... (warm-up)    -- the timed runs, one after another --    count=50 first=...
"""

import re
from typing import Dict, NamedTuple, Optional

from vitsearch_evaluators.errors import MeasurementFailed
from vitsearch_evaluators.runtimes.tools.tool import LoadWindow, NotProvided, ToolOutput, number

_MIB = 1.048576
_LEAST_OF_RUNS = 0.95
"""Lines that are less than that share of their runs' time apart were held back on their way."""


class Reported(NamedTuple):
    """What one start printed; times in ms, None where it says nothing."""

    runs: int
    mean_ms: Optional[float]
    middle_ms: float
    is_median: bool
    load_ms: Optional[float]
    first_ms: Optional[float]
    memory_mb: Optional[float]


def load_window(received: ToolOutput) -> LoadWindow:
    """Return when the timed runs were, by the lines before and after them.

    NotProvided when lines are missing, or were held back on their way.
    """
    told = parse(received.text)
    marks = [line for line in received.lines if re.search(r"\bcount=[0-9]+ |Running benchmark for at least", line.text)]
    done = max(index for index, line in enumerate(marks) if "count=" in line.text)
    if done == 0:
        raise NotProvided("benchmark_model does not say when its warm-up was over")
    window = marks[done - 1].at_s, marks[done].at_s
    apart_s = window[1] - window[0]
    ran_s = told.runs * (told.middle_ms if told.mean_ms is None else told.mean_ms) / 1e3
    if apart_s < _LEAST_OF_RUNS * ran_s or apart_s <= 0:
        raise NotProvided(f"benchmark_model ran for {ran_s:.3g} s, but its lines are {apart_s:.3g} s apart: held back")
    return LoadWindow(window, told.runs)


def parse(told: str) -> Reported:
    """Read what a start printed, whatever stands before it on a line (INFO:, a log's time).

    The last `count=` line is of the timed runs, those before of warm-up. MeasurementFailed `protocol` when there
    is none, or no time in it.
    """
    counted = [_pairs(match.group(0)) for match in re.finditer(r"\bcount=[0-9]+ .*", told)]
    last = counted[-1] if counted else {}
    # Runs that all took the same have one number: count=50 curr=105(all same)
    for key, is_median in (("median", True), ("avg", False), ("curr", "first" not in last)):
        if key in last and last.get("count", 0) >= 1:
            mean_us = last.get("avg")
            return Reported(
                int(last["count"]),
                None if mean_us is None else mean_us / 1e3,
                last[key] / 1e3,
                is_median,
                _first(r"\bInit: ([0-9.eE+]+)", told, 1e-3),
                _first(r"First inference: ([0-9.eE+]+)", told, 1e-3),
                _first(
                    r"(?:footprint delta from the start of the tool|Peak memory footprint)"
                    r" \(MB\): .*overall=([0-9.eE+]+)",
                    told,
                    _MIB,
                ),
            )
    raise MeasurementFailed("protocol", "benchmark_model told no times")


def _pairs(line: str) -> Dict[str, float]:
    found = {}
    for key, text in re.findall(r"\b([a-z0-9]+)=([0-9.eE+-]+)", line):
        value = number(text)
        if value is not None:
            found[key] = value
    return found


def _first(pattern: str, told: str, factor: float) -> Optional[float]:
    match = re.search(pattern, told)
    value = None if match is None else number(match.group(1).rstrip("."))
    return None if value is None else value * factor
