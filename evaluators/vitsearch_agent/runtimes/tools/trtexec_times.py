"""Read the file of `trtexec --exportTimes`: start and end of each run, in ms after trtexec's own zero.

    "Starting inference"  zero |--- warm-up ---|--------- the runs that count ---------|  "Warmup completed ..."
          line                                                                                 line

Up to 8.4 the file also contains the runs of the warm-up. The zero is not known on the machine's clock, but it lies
after the first of these lines, and the last run ends before the second: that bounds both, usually to some
milliseconds.
"""

import itertools
import json
import math
import re
from typing import Any, Dict, Iterator, List, NamedTuple, TextIO, Tuple

from vitsearch_agent.errors import MeasurementFailed
from vitsearch_agent.runtimes.tools.tool_runtime import LoadWindow, NotProvided, ToolOutput
from vitsearch_agent.wire.measure_protocol import MINIMUM_RUNS

_CHUNK = 1 << 20
_STARTS = ("startH2dMs", "startInMs")
_ENDS = ("endD2hMs", "endOutMs")
"""The start and the end of a run including its copies: the key since 8.0, and the older one."""

_MOST_UNKNOWN = 0.1
"""The largest allowed share of the load for which it is unknown whether the model ran."""

_ROUNDING = 1e-5
_AT_ONCE_S = 0.01


class Run(NamedTuple):
    """One run: its start and end including copies, its latency, and the duration of its computation."""

    start_ms: float
    compute_start_ms: float
    end_ms: float
    latency_ms: float
    compute_ms: float


class Steady(NamedTuple):
    """The runs after the warm-up: their number, the start of the first and the end of the last."""

    runs: int
    start_ms: float
    end_ms: float

    @property
    def seconds(self) -> float:
        return (self.end_ms - self.start_ms) / 1e3


def read_runs(path: str, warm_ms: float, most: int) -> List[Run]:
    """Return up to `most` runs after the warm-up; MeasurementFailed `protocol` for too few or an invalid file."""
    runs = list(itertools.islice(_after_warm_up(path, warm_ms), most))
    _enough(len(runs))
    return runs


def read_steady(path: str, warm_ms: float) -> Steady:
    """Summarize all runs after the warm-up without storing them; MeasurementFailed as in `read_runs`."""
    count, start_ms, end_ms = 0, math.inf, 0.0
    for run in _after_warm_up(path, warm_ms):
        count, start_ms, end_ms = count + 1, min(start_ms, run.start_ms), max(end_ms, run.end_ms)
    _enough(count)
    if end_ms <= start_ms:
        raise MeasurementFailed("protocol", "trtexec's runs took no time")
    return Steady(count, start_ms, end_ms)


def load_window(output: ToolOutput, steady: Steady) -> LoadWindow:
    """Return the window, on the machine's clock, that certainly lies within the steady runs.

    Raises NotProvided when trtexec's lines do not bound it closely enough.
    """
    started_s, done_s = _bounds(output)
    unknown_s = done_s - started_s - steady.end_ms / 1e3
    if unknown_s < -_AT_ONCE_S - _ROUNDING * steady.end_ms / 1e3:
        raise NotProvided("trtexec's output was delayed, so the window of its runs is not known")
    unknown_s = max(0.0, unknown_s)
    window = started_s + unknown_s + steady.start_ms / 1e3, started_s + steady.end_ms / 1e3
    if unknown_s > _MOST_UNKNOWN * steady.seconds:
        raise NotProvided(
            f"trtexec ran the model for {steady.seconds:.3g} s, but the start is only known to within {unknown_s:.3g} s"
        )
    return LoadWindow(window, max(1, round(steady.runs * (window[1] - window[0]) / steady.seconds)))


def _bounds(output: ToolOutput) -> Tuple[float, float]:
    """Return a time before trtexec's zero and a time after its last run."""
    last_s = None
    started_s = None
    for line in output.lines:
        if re.search(r"Warmup completed|Timing trace has|Performance summary", line.text):
            started_s = last_s if started_s is None else started_s
            if started_s is None:
                break
            return started_s, line.at_s
        if "Starting inference" in line.text:
            started_s = line.at_s
        last_s = line.at_s
    raise NotProvided("trtexec does not report when it ran the model")


def _after_warm_up(path: str, warm_ms: float) -> Iterator[Run]:
    """Yield the runs from the first whose computation started after the warm-up, which is trtexec's own rule."""
    return itertools.dropwhile(lambda run: run.compute_start_ms < warm_ms, _runs(path))


def _runs(path: str) -> Iterator[Run]:
    """Yield the runs one by one: the file of a long run may be larger than the memory."""
    try:
        with open(path) as stream:
            for entry in _objects(stream):
                times = [float(value) for value in _times(json.loads(entry))]
                if not all(math.isfinite(value) and value >= 0 for value in times):
                    raise ValueError(f"a time is negative or not finite: {entry}")
                yield Run(*times)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise MeasurementFailed(
            "protocol", f"trtexec's file of times is invalid: {type(error).__name__}: {error}"
        ) from error


def _times(entry: Dict[str, Any]) -> List[Any]:
    compute = entry["startComputeMs"], entry["endComputeMs"]
    start = next((entry[name] for name in _STARTS if name in entry), compute[0])
    end = next((entry[name] for name in _ENDS if name in entry), compute[1])
    # All numbers have six digits, so computeMs is more exact than the difference of two times.
    return [start, compute[0], end, entry["latencyMs"], entry.get("computeMs", compute[1] - compute[0])]


def _objects(stream: TextIO) -> Iterator[str]:
    """Yield the text of each {...} of a list; the objects are not nested."""
    rest = ""
    for chunk in iter(lambda: stream.read(_CHUNK), ""):
        rest += chunk
        end = rest.rfind("}") + 1
        for match in re.finditer(r"{[^{}]*}", rest[:end]):
            yield match.group(0)
        rest = rest[end:]
    if rest.strip() != "]":
        raise ValueError("the file does not end with ']'")


def _enough(count: int) -> None:
    if count < MINIMUM_RUNS:
        raise MeasurementFailed("protocol", f"trtexec timed {count} runs, at least {MINIMUM_RUNS} are needed")
