"""NVIDIA's `trtexec`: TensorRT without a Python library.

prepare: ONNX --> engine, built on this device and kept (`engine_cache`)      latency: engine --> the time of each run

A sample is `latencyMs`: from host memory to host memory. The GPU's part alone is reported as an option.
Throughput is that of `streams` contexts on one engine, each with its own thread. trtexec starts a run while the
previous one still copies its outputs, so with one stream the throughput is a little more than 1 / latency.
"""

import contextlib
import glob
import os
import re
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from vitsearch_agent.artifacts import calibration, declared_inputs, inspect
from vitsearch_agent.base.canonical_json import file_digest
from vitsearch_agent.errors import MeasurementFailed
from vitsearch_agent.runtime_facts import RUNTIMES
from vitsearch_agent.runtimes.base import Availability
from vitsearch_agent.runtimes.shapes import RunShapes, run_shapes
from vitsearch_agent.runtimes.tools.engine_cache import EngineCache
from vitsearch_agent.runtimes.tools.tool_runtime import (
    LoadWindow,
    NotProvided,
    RunCount,
    ToolOutput,
    ToolRuntime,
    ToolTimes,
    missing_reasons,
    run_tool,
)
from vitsearch_agent.runtimes.tools.trtexec_flags import (
    CALIBRATION_CACHE,
    TIMES,
    Load,
    Version,
    build_flags,
    calibration_cache,
    read_version,
    shape_flags,
    shown,
    stream_flags,
)
from vitsearch_agent.runtimes.tools.trtexec_times import load_window, read_runs, read_steady
from vitsearch_agent.wire.distribution import quantile
from vitsearch_agent.wire.measure_protocol import MeasureProtocol

_LONGEST = 5000

_WITHOUT_INT8 = {b"nvidia,tegra210", b"nvidia,tegra186"}
"""The chips of Jetson Nano and TX1, and of TX2."""

_UNBROKEN_S = 30.0
"""The last part of a soak, which runs in the same process as the samples. trtexec stores times as float32 since its
start: they are exact to 0.002 ms after this time, but only to 0.1 ms after half an hour."""


class TrtexecRuntime(ToolRuntime):
    """Runs ONNX files.

    Option `precision`: `fp32` (TF32 off), `fp16`, `int8` (a model with Q/DQ nodes, or with scales in its metadata; its
    other layers in fp16), or `typed` (as the types in the model say; TensorRT 10 and newer). TensorRT 11 takes the
    precision only from the model; the option must then be `fp32` or `typed`.
    Option `sparsity`: `enable` tries sparse kernels for weights of which two in four are zero.
    """

    name = "trtexec"
    tools = RUNTIMES["trtexec"].tools
    options = {"precision": ("fp32", "fp16", "int8", "typed"), "sparsity": ("disable", "enable")}
    prepares = True
    _help_text: Optional[str] = None

    def available(self) -> Availability:
        try:
            version = read_version(self._help())
        except MeasurementFailed as failure:
            return Availability(False, str(failure), None, ())
        if version is None:
            return Availability(False, f"{self.program} does not print its TensorRT version", None, ())
        precisions = ("fp32", "fp16", "int8") if has_int8() else ("fp32", "fp16")
        return Availability(True, None, shown(version), (gpu_name(),), ("onnx",), precisions=precisions)

    def prepare(self, path: str, options: Mapping[str, Any], protocol: MeasureProtocol) -> None:
        inspect("onnx", {"model.onnx": path})
        version, flags = self._build(options)
        flags += self._shapes(path, protocol) + _calibration_flags(path, options, version)
        cache = self._cache()

        def build(engine: str) -> None:
            run_tool([self.program, f"--onnx={path}", f"--saveEngine={engine}", *flags])
            if not os.path.exists(engine):
                raise MeasurementFailed("protocol", "trtexec ended without an error but wrote no engine")

        cache.make(self._key(path, options, protocol), build)

    def uses_cuda(self, options: Mapping[str, Any]) -> bool:
        return True

    def sizes(self, path: str, protocol: MeasureProtocol) -> RunShapes:
        return run_shapes(declared_inputs("onnx", path), protocol.batch, protocol.shapes)

    def measure(self, path: str, options: Mapping[str, Any], protocol: MeasureProtocol) -> ToolTimes:
        load = Load(protocol.min_s, _warm_s(protocol), protocol.min_runs)
        try:
            text = self._run(path, options, protocol, load.timed_flags()).text
        except MeasurementFailed:
            self._cache().drop(self._key(path, options, protocol))  # an engine that fails to load would fail again
            raise
        runs = read_runs(TIMES, load.warm_ms, _LONGEST)
        loaded = re.search(r"[Ee]ngine (?:deserialized|loaded) in ([0-9.]+) sec", text)
        reasons = missing_reasons(
            first_inference_ms="trtexec reports no times of its warm-up",
            peak_memory_mb="trtexec does not report the memory of its process",
            runtime_baseline_mb="trtexec does not report the memory of its process",
        )
        if loaded is None:
            reasons["load_ms"] = "trtexec did not report it"
        reported_options = {"gpu_compute_ms_p50": quantile(sorted(run.compute_ms for run in runs), 0.5)}
        load_ms = None if loaded is None else float(loaded.group(1)) * 1e3
        return ToolTimes([run.latency_ms for run in runs], load_ms, None, None, reported_options, reasons)

    def sustained(self, path: str, options: Mapping[str, Any], protocol: MeasureProtocol) -> ToolTimes:
        """Measure after a soak; a long soak is a separate run, and its end is the warm-up of the timed run."""
        unbroken_s = min(protocol.soak_s, _UNBROKEN_S)
        if protocol.soak_s > unbroken_s:
            self._run(path, options, protocol, Load(protocol.soak_s - unbroken_s, 0.0).flags())
        return self.measure(path, options, protocol._replace(warmup_min_s=unbroken_s + protocol.warmup_min_s))

    def throughput(self, path: str, options: Mapping[str, Any], protocol: MeasureProtocol) -> RunCount:
        load = Load(protocol.throughput_s, _warm_s(protocol))
        flags = load.timed_flags() + stream_flags(self._help(), protocol.streams)
        try:
            self._run(path, options, protocol, flags)
        except MeasurementFailed as failure:
            if protocol.streams > 1 and failure.kind in ("incompatible_artifact", "out_of_memory"):
                raise NotProvided(f"with {protocol.streams} streams: {failure}") from failure
            raise
        steady = read_steady(TIMES, load.warm_ms)
        latencies_ms = [run.latency_ms for run in read_runs(TIMES, load.warm_ms, _LONGEST)]
        return RunCount(steady.runs, steady.runs / steady.seconds, latencies_ms)

    def power_load(self, path: str, options: Mapping[str, Any], protocol: MeasureProtocol) -> LoadWindow:
        load = Load(protocol.power_s, _warm_s(protocol))
        output = self._run(path, options, protocol, load.timed_flags())
        return load_window(output, read_steady(TIMES, load.warm_ms))

    def _run(
        self, path: str, options: Mapping[str, Any], protocol: MeasureProtocol, flags: Sequence[str]
    ) -> ToolOutput:
        """Run the engine that `prepare` made from the model."""
        engine = self._cache().find(self._key(path, options, protocol))
        if engine is None:
            raise MeasurementFailed(
                "runtime_unavailable", "the engine of this job is missing; TensorRT may have changed"
            )
        with contextlib.suppress(FileNotFoundError):
            os.remove(TIMES)  # the file of an earlier process
        output = run_tool([self.program, f"--loadEngine={engine}", *self._shapes(path, protocol), *flags])
        _check_shapes(output.text, self.sizes(path, protocol))
        return output

    def _shapes(self, path: str, protocol: MeasureProtocol) -> List[str]:
        return shape_flags(declared_inputs("onnx", path), self.sizes(path, protocol))

    def _help(self) -> str:
        """Return the help text; every process reads it again, because trtexec may have been replaced."""
        if self._help_text is None:
            self._help_text = run_tool([self.program, "--help"]).text
        return self._help_text

    def _build(self, options: Mapping[str, Any]) -> Tuple[Version, List[str]]:
        """Return the TensorRT version and the build flags for it."""
        version = read_version(self._help())
        if version is None:
            raise MeasurementFailed("runtime_unavailable", f"{self.program} no longer prints its TensorRT version")
        return version, build_flags(version, options["precision"], options.get("sparsity", "disable"))

    def _cache(self) -> EngineCache:
        return EngineCache(os.path.join(self.context.cache or os.curdir, "engines"))

    def _key(self, path: str, options: Mapping[str, Any], protocol: MeasureProtocol) -> Dict[str, Any]:
        """Return the key of the engine. The environment covers power mode, clocks and JetPack release; the digest of
        the model covers its scales for int8."""
        version, flags = self._build(options)
        return {
            "model": file_digest(path),
            "flags": flags + self._shapes(path, protocol),
            "tensorrt": shown(version),
            "gpu": gpu_name(),
            "environment": self.context.environment,
        }


def gpu_name(root: str = "/") -> str:
    """Return the name of the GPU from the driver, else that of the board, whose chip contains the GPU."""
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


def has_int8(root: str = "/") -> bool:
    """Return False on a board whose GPU lacks int8: TensorRT builds there too, but computes in other precisions."""
    try:
        with open(os.path.join(root, "proc/device-tree/compatible"), "rb") as stream:
            return not set(stream.read().split(b"\0")) & _WITHOUT_INT8
    except OSError:
        return True


def _calibration_flags(path: str, options: Mapping[str, Any], version: Version) -> List[str]:
    """Return the flag for the scales that a model in int8 brings, and write them to the file that it names."""
    scales = calibration(path) if options["precision"] == "int8" else None
    if scales is None:
        return []
    with open(CALIBRATION_CACHE, "w", encoding="utf-8", newline="\n") as stream:
        stream.write(calibration_cache(version, scales))
    return [f"--calib={CALIBRATION_CACHE}"]


def _check_shapes(text: str, sizes: RunShapes) -> None:
    """Refuse a run at other shapes than those of the job; trtexec prints those that it used."""
    for name, used in re.findall(r"[Ii]nput binding for (.*) with dimensions ([0-9x]+)", text):
        wanted = "x".join(map(str, (sizes.shapes or {}).get(name, ())))
        if wanted and used != wanted:
            raise MeasurementFailed("incompatible_artifact", f"trtexec ran input {name!r} at {used}, not at {wanted}")


def _warm_s(protocol: MeasureProtocol) -> float:
    return max(protocol.warmup_min_s, 0.2)
