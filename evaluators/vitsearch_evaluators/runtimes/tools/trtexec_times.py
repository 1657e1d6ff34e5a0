"""What `trtexec --exportTimes` tells: when each run began and ended, in ms after trtexec's own zero.

    "Starting inference"  zero |--- warm-up ---|--------- the runs that count ---------|  "Warmup completed ..."
          line                                                                                 line

Up to 8.4 the runs of the warm-up are in the file too. The zero is on nobody's clock, but it lies after one line
and the last run ends before the other: that bounds both, usually to some milliseconds.
"""

import itertools
import json
import math
import re
from typing import Any, Dict, Iterator, List, NamedTuple, TextIO, Tuple

from vitsearch_evaluators.errors import MeasurementFailed
from vitsearch_evaluators.runtimes.tools.tool import LoadWindow, NotProvided, ToolOutput
from vitsearch_evaluators.wire.job_spec import MINIMUM_RUNS

_CHUNK = 1 << 20
_STARTS = ("startH2dMs", "startInMs")
_ENDS = ("endD2hMs", "endOutMs")
"""Of the copies to and from the device, by their names since 8.0 and before."""

_MOST_UNKNOWN = 0.1
"""The largest share of the load about which nobody knows whether it was load."""

_ROUNDING = 1e-5
_AT_ONCE_S = 0.01


class Run(NamedTuple):
    """One run: when it began and ended, copies included, and how long it and its computation took."""

    start_ms: float
    compute_start_ms: float
    end_ms: float
    latency_ms: float
    compute_ms: float


class Steady(NamedTuple):
    """The runs after the warm-up: how many, from the start of the first to the end of the last."""

    runs: int
    start_ms: float
    end_ms: float

    @property
    def seconds(self) -> float:
        return (self.end_ms - self.start_ms) / 1e3


def read_runs(path: str, warm_ms: float, most: int) -> List[Run]:
    """Return the first runs after the warm-up; MeasurementFailed `protocol` when there are too few or they are none."""
    runs = list(itertools.islice(_after_warm_up(path, warm_ms), most))
    _enough(len(runs))
    return runs


def read_steady(path: str, warm_ms: float) -> Steady:
    """Return what all runs after the warm-up come to, without keeping them; MeasurementFailed as `read_runs`."""
    count, start_ms, end_ms = 0, math.inf, 0.0
    for run in _after_warm_up(path, warm_ms):
        count, start_ms, end_ms = count + 1, min(start_ms, run.start_ms), max(end_ms, run.end_ms)
    _enough(count)
    if end_ms <= start_ms:
        raise MeasurementFailed("protocol", "trtexec's runs took no time")
    return Steady(count, start_ms, end_ms)


def load_window(received: ToolOutput, steady: Steady) -> LoadWindow:
    """Return the part of the steady runs that certainly lies between two times of this machine's clock.

    NotProvided when trtexec's lines do not bound it well enough.
    """
    begun_s, done_s = _bounds(received)
    unknown_s = done_s - begun_s - steady.end_ms / 1e3
    if unknown_s < -_AT_ONCE_S - _ROUNDING * steady.end_ms / 1e3:
        raise NotProvided("trtexec's lines came later than it printed them: when it ran is not known")
    unknown_s = max(0.0, unknown_s)
    window = begun_s + unknown_s + steady.start_ms / 1e3, begun_s + steady.end_ms / 1e3
    if unknown_s > _MOST_UNKNOWN * steady.seconds:
        raise NotProvided(
            f"trtexec ran the model for {steady.seconds:.3g} s, but when that began is not known to {unknown_s:.3g} s"
        )
    return LoadWindow(window, max(1, round(steady.runs * (window[1] - window[0]) / steady.seconds)))


def _bounds(received: ToolOutput) -> Tuple[float, float]:
    """Return when trtexec had not begun yet and when it was done."""
    last_s = None
    begun_s = None
    for line in received.lines:
        if re.search(r"Warmup completed|Timing trace has|Performance summary", line.text):
            begun_s = last_s if begun_s is None else begun_s
            if begun_s is None:
                break
            return begun_s, line.at_s
        if "Starting inference" in line.text:
            begun_s = line.at_s
        last_s = line.at_s
    raise NotProvided("trtexec does not say when it ran the model")


def _after_warm_up(path: str, warm_ms: float) -> Iterator[Run]:
    """trtexec's own rule: from the first run on whose computation began after the warm-up."""
    return itertools.dropwhile(lambda run: run.compute_start_ms < warm_ms, _runs(path))


def _runs(path: str) -> Iterator[Run]:
    """Read one object after another: a long run's file may be larger than the memory."""
    try:
        with open(path) as stream:
            for entry in _objects(stream):
                times = [float(value) for value in _times(json.loads(entry))]
                if not all(math.isfinite(value) and value >= 0 for value in times):
                    raise ValueError(f"not all of its times are good: {entry}")
                yield Run(*times)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise MeasurementFailed("protocol", f"trtexec left no times: {type(error).__name__}: {error}") from error


def _times(entry: Dict[str, Any]) -> List[Any]:
    compute = entry["startComputeMs"], entry["endComputeMs"]
    start = next((entry[name] for name in _STARTS if name in entry), compute[0])
    end = next((entry[name] for name in _ENDS if name in entry), compute[1])
    # The two times have six digits, and so has their difference: it is the better one.
    return [start, compute[0], end, entry["latencyMs"], entry.get("computeMs", compute[1] - compute[0])]


def _objects(stream: TextIO) -> Iterator[str]:
    """Yield the text of each {...} of a list; none of them holds another."""
    rest = ""
    for chunk in iter(lambda: stream.read(_CHUNK), ""):
        rest += chunk
        end = rest.rfind("}") + 1
        for match in re.finditer(r"{[^{}]*}", rest[:end]):
            yield match.group(0)
        rest = rest[end:]
    if rest.strip() != "]":
        raise ValueError("the file does not end as a list does")


def _enough(count: int) -> None:
    if count < MINIMUM_RUNS:
        raise MeasurementFailed("protocol", f"trtexec left {count} times")
