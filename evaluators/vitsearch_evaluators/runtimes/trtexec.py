"""NVIDIA's `trtexec`: TensorRT where no Python has it.

prepare: ONNX --> engine, built on this device, kept (see `engines`)      latency: engine --> the time of each run

A sample is `latencyMs`: from the host's memory to the host's memory. What the GPU alone took stands beside it.
"""

import glob
import json
import math
import os
import re
from typing import Any, Dict, List, Mapping, Optional, Tuple

from vitsearch_evaluators.artifacts import inspect
from vitsearch_evaluators.canonical import file_digest
from vitsearch_evaluators.distribution import quantile
from vitsearch_evaluators.errors import MeasurementFailed
from vitsearch_evaluators.jobspec import MINIMUM_RUNS, MeasureProtocol
from vitsearch_evaluators.runtimes.base import Availability
from vitsearch_evaluators.runtimes.engines import EngineCache
from vitsearch_evaluators.runtimes.needs import NEEDS
from vitsearch_evaluators.runtimes.tool import ToolRuntime, ToolTimes, run_tool, unknown

_WORKSPACE_MIB = 1024
_TIMES = "times.json"
_LONGEST = 5000

Version = Tuple[int, int, int]


class TrtexecRuntime(ToolRuntime):
    """Option `precision`: `fp32` (TF32 off), `fp16`, `int8` (of a model with Q/DQ nodes; the rest in fp16).
    TensorRT 11 takes precisions from the model alone, which is `fp32` here."""

    name = "trtexec"
    tools = NEEDS["trtexec"].tools
    options = {"precision": ("fp32", "fp16", "int8")}
    prepares = True

    def available(self) -> Availability:
        try:
            version = read_version(run_tool([self.program, "--help"]))
        except MeasurementFailed as failure:
            return Availability(False, str(failure), None, ())
        if version is None:
            return Availability(False, f"{self.program} does not say which TensorRT it belongs to", None, ())
        precisions = ("fp32", "fp16", "int8") if version < (11, 0, 0) else ("fp32",)
        return Availability(True, None, _shown(version), (gpu_name(),), ("onnx",), precisions=precisions)

    def prepare(self, path: str, options: Mapping[str, Any], protocol: MeasureProtocol) -> None:
        if protocol.batch != 1:
            raise MeasurementFailed(
                "incompatible_artifact", f"trtexec measures batch 1, the protocol asks for {protocol.batch}"
            )
        inspect("onnx", {"model.onnx": path})
        version, flags = self._build(options)
        cache = self._cache()

        def build(engine: str) -> None:
            run_tool([self.program, f"--onnx={path}", f"--saveEngine={engine}", *flags])
            if not os.path.exists(engine):
                raise MeasurementFailed("protocol", "trtexec ended well and wrote no engine")

        cache.make(self._key(path, version, flags), build)

    def measure(self, path: str, options: Mapping[str, Any], protocol: MeasureProtocol) -> ToolTimes:
        version, flags = self._build(options)
        key = self._key(path, version, flags)
        engine = self._cache().find(key)
        if engine is None:
            raise MeasurementFailed("runtime_unavailable", "the engine of this job is not there; TensorRT changed?")
        try:
            told = run_tool([self.program, f"--loadEngine={engine}", *timing_flags(protocol)])
        except MeasurementFailed:
            self._cache().drop(key)  # it will not load the next time either
            raise
        _check_batch(told, protocol.batch)
        latency, compute = read_times(_TIMES)
        latency, compute = latency[: protocol.min_runs], compute[: protocol.min_runs]
        loaded = re.search(r"[Ee]ngine (?:deserialized|loaded) in ([0-9.]+) sec", told)
        reasons = unknown(
            first_inference_ms="trtexec warms up before it tells times",
            peak_memory_mb="trtexec tells no memory of the whole process",
            runtime_baseline_mb="trtexec tells no memory",
        )
        if loaded is None:
            reasons["load_ms"] = "trtexec did not tell it"
        settled = {"gpu_compute_ms_p50": quantile(sorted(compute), 0.5)} if compute else {}
        load_ms = None if loaded is None else float(loaded.group(1)) * 1e3
        return ToolTimes(latency[:_LONGEST], load_ms, None, None, settled, reasons)

    def _build(self, options: Mapping[str, Any]) -> Tuple[Version, List[str]]:
        """Return the version of now, whatever an earlier look found, and the flags for it."""
        version = read_version(run_tool([self.program, "--help"]))
        if version is None:
            raise MeasurementFailed("runtime_unavailable", f"{self.program} does not tell its version any more")
        return version, build_flags(version, options["precision"])

    def _cache(self) -> EngineCache:
        return EngineCache(os.path.join(self.equipment.cache or os.curdir, "engines"))

    def _key(self, path: str, version: Version, flags: List[str]) -> Dict[str, Any]:
        """The environment holds the power mode, the clocks and the release of JetPack."""
        return {
            "model": file_digest(path),
            "flags": flags,
            "tensorrt": _shown(version),
            "gpu": gpu_name(),
            "environment": self.equipment.environment,
        }


def build_flags(version: Version, precision: str) -> List[str]:
    """Return the flags of a build. All that matters is said, because defaults change: the workspace of
    TensorRT 8.2 is 16 MiB if nobody asks for more. MeasurementFailed for what this version cannot do."""
    old_memory = version < (8, 4, 0)
    flags = [f"--workspace={_WORKSPACE_MIB}" if old_memory else f"--memPoolSize=workspace:{_WORKSPACE_MIB}"]
    flags.append("--buildOnly" if version < (8, 6, 0) else "--skipInference")
    flags.append("--noTF32")
    if version >= (11, 0, 0):
        if precision != "fp32":
            raise MeasurementFailed(
                "runtime_unavailable", f"TensorRT {_shown(version)} takes {precision} from the model alone"
            )
        return flags
    return flags + {"fp32": [], "fp16": ["--fp16"], "int8": ["--int8", "--fp16"]}[precision]


def timing_flags(protocol: MeasureProtocol) -> List[str]:
    """Return the flags of the timed runs; one stream is what every version has by itself.

    trtexec runs until both are reached, the runs and the seconds: what is too much is cut off afterwards.
    """
    return [
        f"--iterations={MINIMUM_RUNS}",
        f"--duration={max(1, math.ceil(protocol.min_s))}",
        f"--warmUp={math.ceil(max(protocol.warmup_min_s, 0.2) * 1e3)}",
        "--sleepTime=0",
        "--avgRuns=10",
        f"--exportTimes={_TIMES}",
    ]


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


def read_times(path: str) -> Tuple[List[float], List[float]]:
    """Return latency and GPU time of each run, in ms, from --exportTimes of any version.

    MeasurementFailed `protocol` for a file that holds no such times.
    """
    try:
        with open(path) as stream:
            runs = json.load(stream)
        latency = [float(run["latencyMs"]) for run in runs]
        compute = [float(run["endComputeMs"]) - float(run["startComputeMs"]) for run in runs]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise MeasurementFailed("protocol", f"trtexec left no times: {type(error).__name__}: {error}") from error
    if not all(math.isfinite(value) and value >= 0 for value in latency + compute) or len(latency) < MINIMUM_RUNS:
        raise MeasurementFailed("protocol", f"trtexec left {len(latency)} times, not all of them good")
    return latency, compute


def gpu_name(root: str = "/") -> str:
    """Return the name of the GPU by what the driver says, or the board's: there it is a part of the chip."""
    for path in sorted(glob.glob(os.path.join(root, "proc/driver/nvidia/gpus/*/information"))):
        with open(path, errors="replace") as stream:
            match = re.search(r"^Model:\s*(.+?)\s*$", stream.read(), re.MULTILINE)
        if match is not None:
            return match.group(1)
    try:
        with open(os.path.join(root, "proc/device-tree/model"), errors="replace") as stream:
            return stream.read().strip("\0\n ") or "unknown GPU"
    except OSError:
        return "unknown GPU"


def _check_batch(told: str, batch: int) -> None:
    for sizes in re.findall(r"[Ii]nput binding for .* with dimensions ([0-9x]+)", told):
        first = sizes.split("x")[0]
        if first.isdigit() and int(first) != batch:
            raise MeasurementFailed(
                "incompatible_artifact", f"an input has the shape {sizes}, but the protocol asks for a batch of {batch}"
            )


def _shown(version: Version) -> str:
    return ".".join(map(str, version))
