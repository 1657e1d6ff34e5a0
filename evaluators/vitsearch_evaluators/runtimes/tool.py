"""Runtimes that are programs: they load, warm up and time a model by themselves, and tell in their own words."""

import abc
import os
import re
import signal
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence

from vitsearch_evaluators import procs
from vitsearch_evaluators.errors import MeasurementFailed
from vitsearch_evaluators.jobspec import MeasureProtocol
from vitsearch_evaluators.runtimes.base import Runtime, Session, is_out_of_memory

_TOLD_LINES = 3


class ToolTimes(NamedTuple):
    """What a program told. `wall_ms` are samples in order; what it does not tell is None, with its reason.

    `settled` is what it decided by itself, beside the options.
    """

    wall_ms: List[float]
    load_ms: Optional[float]
    first_inference_ms: Optional[float]
    peak_memory_mb: Optional[float]
    settled: Mapping[str, Any]
    reasons: Mapping[str, str]


class ToolRuntime(Runtime):
    """It is measured in the phase `latency` alone: the others need to say when a run begins."""

    def reserves_addresses(self, options: Mapping[str, Any]) -> bool:
        return True

    def load(self, path: str, options: Mapping[str, Any], threads: int, batch: int) -> Session:
        raise MeasurementFailed("runtime_unavailable", f"{self.name} is a program that runs models by itself")

    def prepare(self, path: str, options: Mapping[str, Any], protocol: MeasureProtocol) -> None:
        """Make what `measure` needs, in a process of its own that may take long. For those with `prepares`."""

    @abc.abstractmethod
    def measure(self, path: str, options: Mapping[str, Any], protocol: MeasureProtocol) -> ToolTimes:
        """Run the program; MeasurementFailed when it refuses the model or tells no times."""

    @property
    def program(self) -> str:
        if self.equipment.tool is None:
            raise MeasurementFailed("runtime_unavailable", f"no program for {self.name}")
        return self.equipment.tool


def run_tool(argv: Sequence[str]) -> str:
    """Run a program here and return what it printed, which goes to the log too.

    MeasurementFailed: `runtime_unavailable` when it cannot be started, `crash` for a signal,
    `out_of_memory` when the kernel killed it for memory, and
    `incompatible_artifact` (or `out_of_memory`) with its last words when it ends with an error. There is no
    time limit: the agent has one for this process and all that it started.
    """
    import subprocess  # every child imports this file, and few start a program

    environment = dict(os.environ, LC_ALL="C")
    kills = procs.out_of_memory_kills()
    try:
        done = subprocess.run(
            list(argv), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment
        )
    except OSError as error:
        raise MeasurementFailed("runtime_unavailable", f"{argv[0]} cannot be started: {error.strerror}") from error
    told = done.stdout.decode("utf-8", "replace")
    print(told[-8192:])
    if done.returncode == 0:
        return told
    last = " / ".join(_said(told)) or "it said nothing"
    if done.returncode == -signal.SIGKILL and kills is not None and (procs.out_of_memory_kills() or 0) > kills:
        raise MeasurementFailed("out_of_memory", f"the kernel killed {argv[0]} for memory")
    if done.returncode < 0:
        raise MeasurementFailed("crash", f"{argv[0]} was ended by signal {-done.returncode}: {last}")
    kind = "out_of_memory" if is_out_of_memory(RuntimeError(told)) else "incompatible_artifact"
    raise MeasurementFailed(kind, f"{argv[0]} ended with {done.returncode}: {last}")


def _said(told: str) -> List[str]:
    """Errors if it marks any, else its last words."""
    lines = [line.strip() for line in told.splitlines() if line.strip()]
    errors = [line for line in lines if re.search(r"\[E\]|\bERROR\b|\berror:", line)]
    return (errors or lines)[-_TOLD_LINES:]


def number(text: str) -> Optional[float]:
    """Return a number as C++ prints it (1.04e+06 too), None for anything else."""
    return float(text) if re.match(r"[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?\Z", text) else None


def unknown(**reasons: str) -> Dict[str, str]:
    """Reasons for what no program tells, and the given ones."""
    return dict({"cpu_ms": "the program tells no CPU time", "contention": "another program ran the model"}, **reasons)
