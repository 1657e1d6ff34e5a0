"""Runtimes that are programs: they load, warm up and time a model by themselves, and tell in their own words."""

import abc
import collections
import os
import re
import signal
import time
from typing import Any, Deque, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from vitsearch_evaluators.base import processes
from vitsearch_evaluators.errors import MeasurementFailed
from vitsearch_evaluators.runtimes.base import Runtime, Session, is_out_of_memory
from vitsearch_evaluators.wire.job_spec import MeasureProtocol

_TOLD_LINES = 3
_LINES_KEPT = 20000
_LINE_BYTES = 4096


class NotProvided(MeasurementFailed):
    """What a program cannot tell beside the latency; the job stands without it, with this reason in its place."""

    def __init__(self, reason: str) -> None:
        super().__init__("runtime_unavailable", reason)


class ToolTimes(NamedTuple):
    """What a program told. `wall_ms` are samples in order; what it does not tell is None, with its reason.

    `settled` is what it decided by itself, beside the options.
    """

    wall_ms: List[float]
    load_ms: Optional[float]
    first_inference_ms: Optional[float]
    peak_memory_mb: Optional[float]
    reported_options: Mapping[str, Any]
    reasons: Mapping[str, str]


class RunCount(NamedTuple):
    """How many runs all streams finished, and how many that is per second."""

    runs: int
    runs_per_s: float


class LoadWindow(NamedTuple):
    """When a program did nothing but run the model, loading and warm-up excluded, and how often it ran meanwhile.

    `window` is (start, end) of the machine's monotonic clock.
    """

    window: Tuple[float, float]
    runs: int


class ToolRuntime(Runtime):
    """A program that measures latency, and what else its methods can do: those that do not raise `NotProvided`."""

    def reserves_addresses(self, options: Mapping[str, Any]) -> bool:
        return True

    def load(self, path: str, options: Mapping[str, Any], threads: int, batch: int) -> Session:
        raise MeasurementFailed("runtime_unavailable", f"{self.name} is a program that runs models by itself")

    def prepare(self, path: str, options: Mapping[str, Any], protocol: MeasureProtocol) -> None:
        """Make what `measure` needs, in a process of its own that may take long. For those with `prepares`."""

    @abc.abstractmethod
    def measure(self, path: str, options: Mapping[str, Any], protocol: MeasureProtocol) -> ToolTimes:
        """Run the program; MeasurementFailed when it refuses the model or tells no times."""

    def sustained(self, path: str, options: Mapping[str, Any], protocol: MeasureProtocol) -> ToolTimes:
        """The same, after `soak_s` of load; or NotProvided."""
        raise NotProvided(f"{self.name} keeps no load up before it measures")

    def throughput(self, path: str, options: Mapping[str, Any], protocol: MeasureProtocol) -> RunCount:
        """Count the runs of `streams` at a time within `throughput_s`; or NotProvided."""
        raise NotProvided(f"{self.name} runs one inference at a time")

    def power_load(self, path: str, options: Mapping[str, Any], protocol: MeasureProtocol) -> LoadWindow:
        """Run without a pause for `power_s`; or NotProvided, when nobody knows between which times exactly."""
        raise NotProvided(f"{self.name} does not say when its runs began and ended")

    @property
    def program(self) -> str:
        if self.context.tool is None:
            raise MeasurementFailed("runtime_unavailable", f"no program for {self.name}")
        return self.context.tool


class OutputLine(NamedTuple):
    """What a program printed, and when it was here (monotonic)."""

    at_s: float
    text: str


class ToolOutput(NamedTuple):
    """All that a program printed, on either stream."""

    lines: Sequence[OutputLine]

    @property
    def text(self) -> str:
        return "".join(line.text for line in self.lines)


def run_tool(argv: Sequence[str]) -> ToolOutput:
    """Run a program here and return what it printed, which goes to the log too.

    MeasurementFailed: `runtime_unavailable` when it cannot be started, `crash` for a signal,
    `out_of_memory` when the kernel killed it for memory, and
    `incompatible_artifact` (or `out_of_memory`) with its last words when it ends with an error. There is no
    time limit: the agent has one for this process and all that it started.
    """
    import subprocess  # every child imports this file, and few start a program

    kills = processes.out_of_memory_kills()
    try:
        started = subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=dict(os.environ, LC_ALL="C"),
        )
    except OSError as error:
        raise MeasurementFailed("runtime_unavailable", f"{argv[0]} cannot be started: {error.strerror}") from error
    received = _listen(started.stdout)
    returncode = started.wait()
    print(received.text[-8192:])
    if returncode == 0:
        return received
    last = " / ".join(_said(received.text)) or "it said nothing"
    if returncode == -signal.SIGKILL and kills is not None and (processes.out_of_memory_kills() or 0) > kills:
        raise MeasurementFailed("out_of_memory", f"the kernel killed {argv[0]} for memory")
    if returncode < 0:
        raise MeasurementFailed("crash", f"{argv[0]} was ended by signal {-returncode}: {last}")
    kind = "out_of_memory" if is_out_of_memory(RuntimeError(received.text)) else "incompatible_artifact"
    raise MeasurementFailed(kind, f"{argv[0]} ended with {returncode}: {last}")


def _listen(pipe: Any) -> ToolOutput:
    """Read to the end; each line gets its time as it comes, of too many the first are let go."""
    lines: Deque[OutputLine] = collections.deque(maxlen=_LINES_KEPT)
    with pipe:
        for raw in iter(lambda: pipe.readline(_LINE_BYTES), b""):
            lines.append(OutputLine(time.monotonic(), raw.decode("utf-8", "replace")))
    return ToolOutput(lines)


def _said(told: str) -> List[str]:
    """Errors if it marks any, else its last words."""
    lines = [line.strip() for line in told.splitlines() if line.strip()]
    errors = [line for line in lines if re.search(r"\[E\]|\bERROR\b|\berror:", line)]
    return (errors or lines)[-_TOLD_LINES:]


def number(text: str) -> Optional[float]:
    """Return a number as C++ prints it (1.04e+06 too), None for anything else."""
    return float(text) if re.match(r"[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?\Z", text) else None


def missing_reasons(**reasons: str) -> Dict[str, str]:
    """Reasons for what no program tells, and the given ones."""
    return dict({"cpu_ms": "the program tells no CPU time", "contention": "another program ran the model"}, **reasons)
