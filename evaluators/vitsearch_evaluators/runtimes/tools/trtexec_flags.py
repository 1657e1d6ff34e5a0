"""How trtexec is asked, by its version. All that matters is said, because defaults change."""

import math
import re
from typing import List, NamedTuple, Optional, Tuple

from vitsearch_evaluators.errors import MeasurementFailed
from vitsearch_evaluators.runtimes.tools.tool import NotProvided
from vitsearch_evaluators.wire.job_spec import MINIMUM_RUNS

TIMES = "times.json"

_WORKSPACE_MIB = 1024

Version = Tuple[int, int, int]


def read_version(told: str) -> Optional[Version]:
    """Read the version from the first line that trtexec prints:

    [TensorRT v8201] is 8.2.1    [TensorRT v100300] [b17] is 10.3.0    [TensorRT v11.1.0.106] says it itself
    """
    match = re.search(r"\[TensorRT v([0-9.]+)\]", told)
    if match is None:
        return None
    parts = match.group(1).split(".")
    if len(parts) >= 3:
        return int(parts[0]), int(parts[1]), int(parts[2])
    if len(parts) != 1 or len(parts[0]) not in (4, 5, 6):
        return None
    digits = int(parts[0])
    base = 1000 if len(parts[0]) == 4 else 10000
    return digits // base, digits % base // 100, digits % 100


def shown(version: Version) -> str:
    return ".".join(map(str, version))


def build_flags(version: Version, precision: str) -> List[str]:
    """Return the flags of a build. The workspace of TensorRT 8.2 is 16 MiB if nobody asks for
    more. MeasurementFailed for what this version cannot do."""
    old_memory = version < (8, 4, 0)
    flags = [f"--workspace={_WORKSPACE_MIB}" if old_memory else f"--memPoolSize=workspace:{_WORKSPACE_MIB}"]
    flags.append("--buildOnly" if version < (8, 6, 0) else "--skipInference")
    flags.append("--noTF32")
    if version >= (11, 0, 0):
        if precision != "fp32":
            raise MeasurementFailed(
                "runtime_unavailable", f"TensorRT {shown(version)} takes {precision} from the model alone"
            )
        return flags
    return flags + {"fp32": [], "fp16": ["--fp16"], "int8": ["--int8", "--fp16"]}[precision]


class Load(NamedTuple):
    """How long the model is run, without and with its times."""

    seconds: float
    warm_s: float

    @property
    def warm_ms(self) -> int:
        return math.ceil(self.warm_s * 1e3)

    def flags(self) -> List[str]:
        """Return the flags of the runs; one stream is what every version has by itself.

        trtexec runs until both are reached, the runs and the seconds: what is too much is cut off afterwards.
        """
        return [
            f"--iterations={MINIMUM_RUNS}",
            f"--duration={max(1, math.ceil(self.seconds))}",
            f"--warmUp={self.warm_ms}",
            "--sleepTime=0",
            "--avgRuns=100000",  # it prints a line for each so many
        ]

    def timed_flags(self) -> List[str]:
        """Return the same, with the time of each run."""
        return [*self.flags(), f"--exportTimes={TIMES}"]


def stream_flags(help_text: str, streams: int) -> List[str]:
    """Return the flags of several streams, as this version's help names them (since 8.6 `--infStreams`).

    Raises NotProvided when the help names none.
    """
    if streams == 1:
        return []
    for name in ("--infStreams", "--streams"):
        if re.search(name + r"\b", help_text):
            return [f"{name}={streams}", "--threads"]
    raise NotProvided(f"this trtexec has no flag for {streams} streams")
