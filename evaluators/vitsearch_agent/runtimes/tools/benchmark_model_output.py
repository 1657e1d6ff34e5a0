"""Parse the output of TFLite's `benchmark_model`: its times, and the window of its timed runs.

count=5 first=... (warm-up)    -- the timed runs, one after another --    count=50 first=...
"""

import re
from typing import Dict, NamedTuple, Optional

from vitsearch_agent.errors import MeasurementFailed
from vitsearch_agent.runtimes.tools.tool_runtime import LoadWindow, NotProvided, ToolOutput, number

_MIB = 1.048576
_LEAST_OF_RUNS = 0.95
"""If two lines are less than this share of their runs' time apart, the first one was delayed by buffering."""


class BenchmarkReport(NamedTuple):
    """The output of one start; times in ms, None where it reports none."""

    runs: int
    mean_ms: Optional[float]
    middle_ms: float
    is_median: bool
    load_ms: Optional[float]
    first_ms: Optional[float]
    memory_mb: Optional[float]


def load_window(output: ToolOutput) -> LoadWindow:
    """Return the window of the timed runs, from the lines before and after them.

    Raises NotProvided when lines are missing or were delayed.
    """
    report = parse(output.text)
    marks = [line for line in output.lines if re.search(r"\bcount=[0-9]+ |Running benchmark for at least", line.text)]
    done = max(index for index, line in enumerate(marks) if "count=" in line.text)
    if done == 0:
        raise NotProvided("benchmark_model does not report when its warm-up ended")
    window = marks[done - 1].at_s, marks[done].at_s
    apart_s = window[1] - window[0]
    ran_s = report.runs * (report.middle_ms if report.mean_ms is None else report.mean_ms) / 1e3
    if apart_s < _LEAST_OF_RUNS * ran_s or apart_s <= 0:
        raise NotProvided(
            f"benchmark_model ran for {ran_s:.3g} s, but its lines arrived {apart_s:.3g} s apart: output was delayed"
        )
    return LoadWindow(window, report.runs)


def parse(text: str) -> BenchmarkReport:
    """Parse the output of a start; a line may begin with a prefix such as INFO: or a log's time.

    The last `count=` line describes the timed runs, the earlier ones the warm-up. Raises MeasurementFailed
    `protocol` when there is none or it has no time.
    """
    counted = [_pairs(match.group(0)) for match in re.finditer(r"\bcount=[0-9]+ .*", text)]
    last = counted[-1] if counted else {}
    # If all runs took the same time, the line has one number: count=50 curr=105(all same)
    for key, is_median in (("median", True), ("avg", False), ("curr", "first" not in last)):
        if key in last and last.get("count", 0) >= 1:
            mean_us = last.get("avg")
            return BenchmarkReport(
                int(last["count"]),
                None if mean_us is None else mean_us / 1e3,
                last[key] / 1e3,
                is_median,
                _first(r"\bInit: ([0-9.eE+]+)", text, 1e-3),
                _first(r"First inference: ([0-9.eE+]+)", text, 1e-3),
                _first(
                    r"(?:footprint delta from the start of the tool|Peak memory footprint)"
                    r" \(MB\): .*overall=([0-9.eE+]+)",
                    text,
                    _MIB,
                ),
            )
    raise MeasurementFailed("protocol", "benchmark_model reported no times")


def _pairs(line: str) -> Dict[str, float]:
    pairs = {}
    for key, text in re.findall(r"\b([a-z0-9]+)=([0-9.eE+-]+)", line):
        value = number(text)
        if value is not None:
            pairs[key] = value
    return pairs


def _first(pattern: str, text: str, factor: float) -> Optional[float]:
    match = re.search(pattern, text)
    value = None if match is None else number(match.group(1).rstrip("."))
    return None if value is None else value * factor
