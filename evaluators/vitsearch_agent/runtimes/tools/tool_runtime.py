"""The base of runtimes that are programs: they load, warm up and time a model, and print their results."""

import abc
import collections
import os
import re
import signal
import time
from typing import Any, Deque, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from vitsearch_agent.base import processes
from vitsearch_agent.errors import MeasurementFailed
from vitsearch_agent.runtimes.base import Runtime, Session, is_out_of_memory
from vitsearch_agent.runtimes.shapes import RunShapes
from vitsearch_agent.wire.measure_protocol import MeasureProtocol, Shapes

_ERROR_LINES = 3
_LINES_KEPT = 20000
_LINE_BYTES = 4096


class NotProvided(MeasurementFailed):
    """A program does not provide this phase; the measurement records the reason and is valid without the figure."""

    def __init__(self, reason: str) -> None:
        super().__init__("runtime_unavailable", reason)


class ToolTimes(NamedTuple):
    """The times that a program reported. A figure that it does not report is None with its reason.

    Attributes:
        wall_ms: The samples in order, in milliseconds.
        load_ms: The time of loading the model.
        first_inference_ms: The time of the first run.
        peak_memory_mb: The peak of resident memory.
        reported_options: Further settings and figures, which the result records with the options.
        reasons: Why figures are missing, by their names.
    """

    wall_ms: List[float]
    load_ms: Optional[float]
    first_inference_ms: Optional[float]
    peak_memory_mb: Optional[float]
    reported_options: Mapping[str, Any]
    reasons: Mapping[str, str]


class RunCount(NamedTuple):
    """How often a program ran the model.

    Attributes:
        runs: The number of runs of all streams.
        runs_per_s: Their rate.
        wall_ms: The latencies of single runs beside each other; empty where the program does not report them.
    """

    runs: int
    runs_per_s: float
    wall_ms: Sequence[float] = ()


class LoadWindow(NamedTuple):
    """A window in which a program only ran the model, without loading and warm-up.

    Attributes:
        window: Its start and end in seconds, on the machine's monotonic clock.
        runs: The number of runs in it.
    """

    window: Tuple[float, float]
    runs: int


class ToolRuntime(Runtime):
    """A program that measures latency. Its other phases are optional: a method raises `NotProvided` without one."""

    def reserves_addresses(self, options: Mapping[str, Any]) -> bool:
        return True

    def load(
        self, path: str, options: Mapping[str, Any], threads: int, batch: Optional[int], shapes: Shapes
    ) -> Session:
        raise MeasurementFailed(
            "runtime_unavailable", f"{self.name} is a program: it loads models only in its own process"
        )

    def prepare(self, path: str, options: Mapping[str, Any], protocol: MeasureProtocol) -> None:
        """Make what `measure` needs, in a separate process that may take long. Called if `prepares` is set.

        Args:
            path: The first file of the model, as the job names it.
            options: Those in effect, as `check_options` returned them.
            protocol: How the measurement is taken.

        Raises:
            MeasurementFailed: The program rejects the model.
        """

    def sizes(self, path: str, protocol: MeasureProtocol) -> RunShapes:
        """Return the batch and the shapes of a run.

        Args:
            path: The first file of the model.
            protocol: How the measurement is taken, with the batch and the shapes that are asked for.

        Returns:
            The number of images in a run, and the shape of each input (None: unknown).

        Raises:
            MeasurementFailed: `incompatible_artifact` for a batch or shapes that this program cannot run.
        """
        if protocol.shapes:
            raise MeasurementFailed("incompatible_artifact", f"{self.name} cannot set the shapes of a model")
        return RunShapes(protocol.batch or 1, None)

    @abc.abstractmethod
    def measure(self, path: str, options: Mapping[str, Any], protocol: MeasureProtocol) -> ToolTimes:
        """Run the program and read the times that it prints.

        Args:
            path: The first file of the model, as the job names it.
            options: Those in effect, as `check_options` returned them.
            protocol: How the measurement is taken.

        Returns:
            The times of single runs, and figures of loading and memory where the program reports them.

        Raises:
            MeasurementFailed: The program rejects the model or reports no times.
        """

    def sustained(self, path: str, options: Mapping[str, Any], protocol: MeasureProtocol) -> ToolTimes:
        """Measure after `soak_s` of load.

        Args:
            path: The first file of the model, as the job names it.
            options: Those in effect, as `check_options` returned them.
            protocol: How the measurement is taken.

        Returns:
            The times after the load.

        Raises:
            NotProvided: The program cannot do that.
        """
        raise NotProvided(f"{self.name} cannot measure after a soak")

    def throughput(self, path: str, options: Mapping[str, Any], protocol: MeasureProtocol) -> RunCount:
        """Run `streams` inferences at a time for `throughput_s` and count them.

        Args:
            path: The first file of the model, as the job names it.
            options: Those in effect, as `check_options` returned them.
            protocol: How the measurement is taken.

        Returns:
            The number of runs and their rate.

        Raises:
            NotProvided: The program cannot do that.
        """
        raise NotProvided(f"{self.name} runs one inference at a time")

    def power_load(self, path: str, options: Mapping[str, Any], protocol: MeasureProtocol) -> LoadWindow:
        """Run without a pause for `power_s`, while the agent reads the meter.

        Args:
            path: The first file of the model, as the job names it.
            options: Those in effect, as `check_options` returned them.
            protocol: How the measurement is taken.

        Returns:
            The window in which the program only ran the model.

        Raises:
            NotProvided: The window of the runs is not known exactly.
        """
        raise NotProvided(f"{self.name} does not report when its runs start and end")

    @property
    def program(self) -> str:
        """The path of the program.

        Raises:
            MeasurementFailed: There is none.
        """
        if self.context.tool is None:
            raise MeasurementFailed("runtime_unavailable", f"no program for {self.name}")
        return self.context.tool


class OutputLine(NamedTuple):
    """A line that a program printed, and the monotonic time at which it arrived."""

    at_s: float
    text: str


class ToolOutput(NamedTuple):
    """The output of a program, stdout and stderr together."""

    lines: Sequence[OutputLine]

    @property
    def text(self) -> str:
        return "".join(line.text for line in self.lines)


def run_tool(argv: Sequence[str]) -> ToolOutput:
    """Run a program in this folder and return its output, which also goes to the log.

    It has no time limit of its own: the agent limits this process and all that it starts. Where this process is killed,
    the kernel ends the program too: an engine that is still being built would disturb the next measurement.

    Args:
        argv: The program and its arguments.

    Returns:
        The lines that it printed, stdout and stderr together, with the time of each.

    Raises:
        MeasurementFailed: `runtime_unavailable` when the program cannot be started, `crash` for a signal,
            `out_of_memory` when the kernel killed it for memory, and `incompatible_artifact` (or `out_of_memory`) with
            its error lines when it ends with an error.
    """
    import subprocess  # every child imports this file, but few start a program

    kills = processes.out_of_memory_kills()
    try:
        started = subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=dict(os.environ, LC_ALL="C"),
            preexec_fn=processes.killed_with_parent(),
        )
    except OSError as error:
        raise MeasurementFailed("runtime_unavailable", f"{argv[0]} cannot be started: {error.strerror}") from error
    output = _read_output(started.stdout)
    returncode = started.wait()
    print(output.text[-8192:])
    if returncode == 0:
        return output
    errors = " / ".join(_error_lines(output.text)) or "no output"
    if returncode == -signal.SIGKILL and kills is not None and (processes.out_of_memory_kills() or 0) > kills:
        raise MeasurementFailed("out_of_memory", f"the kernel killed {argv[0]} for memory")
    if returncode < 0:
        raise MeasurementFailed("crash", f"{argv[0]} was killed by signal {-returncode}: {errors}")
    kind = "out_of_memory" if is_out_of_memory(RuntimeError(output.text)) else "incompatible_artifact"
    raise MeasurementFailed(kind, f"{argv[0]} ended with {returncode}: {errors}")


def _read_output(pipe: Any) -> ToolOutput:
    """Read to the end and record when each line arrives; only the last _LINES_KEPT lines are kept."""
    lines: Deque[OutputLine] = collections.deque(maxlen=_LINES_KEPT)
    with pipe:
        for raw in iter(lambda: pipe.readline(_LINE_BYTES), b""):
            lines.append(OutputLine(time.monotonic(), raw.decode("utf-8", "replace")))
    return ToolOutput(lines)


def _error_lines(text: str) -> List[str]:
    """Return the last lines marked as errors, or the last lines if none is marked."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if re.search(r"\[E\]|\bERROR\b|\berror:", line)]
    return (errors or lines)[-_ERROR_LINES:]


def number(text: str) -> Optional[float]:
    """Read a number as C++ prints it (also 1.04e+06).

    Args:
        text: What was printed.

    Returns:
        The number; None for anything else.
    """
    return float(text) if re.match(r"[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?\Z", text) else None


def missing_reasons(**reasons: str) -> Dict[str, str]:
    """Return the reasons for figures that a program does not report.

    Args:
        **reasons: Those of this program, by the names of the figures.

    Returns:
        These, and those for figures that no program reports.
    """
    common = {"cpu_ms": "the program reports no CPU time", "contention": "another program ran the model"}
    return dict(common, **reasons)
