"""The flags of trtexec, by its version. Every relevant flag is given, because defaults change."""

import math
import re
from typing import List, NamedTuple, Optional, Sequence, Tuple

from vitsearch_agent.artifacts.facts import Declared
from vitsearch_agent.errors import MeasurementFailed
from vitsearch_agent.runtimes.shapes import RunShapes
from vitsearch_agent.runtimes.tools.tool_runtime import NotProvided
from vitsearch_agent.wire.measure_protocol import MINIMUM_RUNS

TIMES = "times.json"

CALIBRATION_CACHE = "calibration.cache"

_WORKSPACE_MIB = 1024

Version = Tuple[int, int, int]

OLDEST_TYPED: Version = (10, 0, 0)
"""The first version whose trtexec is given `--stronglyTyped` here; 9, which no JetPack has, may know it too."""


def read_version(text: str) -> Optional[Version]:
    """Parse the version in trtexec's output; None without one.

    [TensorRT v8201] is 8.2.1    [TensorRT v100300] [b17] is 10.3.0    [TensorRT v11.1.0.106] is 11.1.0
    """
    match = re.search(r"\[TensorRT v([0-9.]+)\]", text)
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


def build_flags(version: Version, precision: str, sparsity: str = "disable") -> List[str]:
    """Return the flags of a build; MeasurementFailed for a precision that this version does not support.

    `typed` takes the precision from the types in the model, the only way of TensorRT 11. `sparsity` `enable` tries the
    kernels for weights with two zeros in four. The workspace is set, because TensorRT 8.2 defaults to only 16 MiB.
    """
    old_memory = version < (8, 4, 0)
    flags = [f"--workspace={_WORKSPACE_MIB}" if old_memory else f"--memPoolSize=workspace:{_WORKSPACE_MIB}"]
    flags.append("--buildOnly" if version < (8, 6, 0) else "--skipInference")
    flags.append("--noTF32")
    if sparsity != "disable":
        flags.append(f"--sparsity={sparsity}")
    if version >= (11, 0, 0):
        if precision not in ("fp32", "typed"):
            raise MeasurementFailed(
                "runtime_unavailable",
                f"TensorRT {shown(version)} has no flag for {precision}: the model must have it",
            )
        return flags
    if precision == "typed" and version < OLDEST_TYPED:
        raise MeasurementFailed(
            "runtime_unavailable",
            f"TensorRT {shown(version)} does not take the precision from the model, {shown(OLDEST_TYPED)} and newer do",
        )
    chosen = {"fp32": [], "fp16": ["--fp16"], "int8": ["--int8", "--fp16"], "typed": ["--stronglyTyped"]}
    return flags + chosen[precision]


def calibration_cache(version: Version, scales: str) -> str:
    """Return the content of the file for `--calib`; `scales` are its lines (`artifacts.calibration`).

    TensorRT reads a cache of its own version and of the calibrator that trtexec has (IInt8EntropyCalibrator2). For any
    other it asks for images, which trtexec does not have beside a cache, so that the build fails.
    """
    major, minor, patch = version
    return f"TRT-{major * (1000 if major < 10 else 10000) + minor * 100 + patch}-EntropyCalibration2\n{scales}"


class Load(NamedTuple):
    """How long trtexec runs the model and at least how often, and how long it warms up before."""

    seconds: float
    warm_s: float
    runs: int = MINIMUM_RUNS

    @property
    def warm_ms(self) -> int:
        return math.ceil(self.warm_s * 1e3)

    def flags(self) -> List[str]:
        """Return the flags of a run with one stream, the default of every version.

        trtexec runs until both the iterations and the duration are reached; surplus runs are ignored later.
        """
        return [
            f"--iterations={max(MINIMUM_RUNS, self.runs)}",
            f"--duration={max(1, math.ceil(self.seconds))}",
            f"--warmUp={self.warm_ms}",
            "--sleepTime=0",
            "--avgRuns=100000",  # it prints one line for this many runs
        ]

    def timed_flags(self) -> List[str]:
        """Return the flags of a run that exports the time of each inference."""
        return [*self.flags(), f"--exportTimes={TIMES}"]


def shape_flags(declared: Sequence[Declared], sizes: RunShapes) -> List[str]:
    """Return the flag with the shapes of the inputs that have open dimensions; a model without those takes none.

    Without it trtexec sets every open dimension to 1. Raises MeasurementFailed for a name that it cannot be given.
    """
    flags = []
    for item in declared:
        shape = (sizes.shapes or {})[item.name]
        if item.dims is None or tuple(item.dims) != tuple(shape):
            if re.search(r"['\"\s]", item.name):
                raise MeasurementFailed(
                    "incompatible_artifact", f"trtexec takes no shape for an input with the name {item.name!r}"
                )
            name = f"'{item.name}'" if re.search("[:,]", item.name) else item.name
            flags.append(f"{name}:{'x'.join(map(str, shape))}")
    return ["--shapes=" + ",".join(flags)] if flags else []


def stream_flags(help_text: str, streams: int) -> List[str]:
    """Return the flags for several streams, as this version's help names them (`--infStreams` since 8.6).

    Raises NotProvided when the help has no such flag.
    """
    if streams == 1:
        return []
    for name in ("--infStreams", "--streams"):
        if re.search(name + r"\b", help_text):
            return [f"{name}={streams}", "--threads"]
    raise NotProvided(f"this trtexec has no flag for {streams} streams")
