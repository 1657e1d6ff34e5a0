"""TFLite's `benchmark_model`, for devices on which no Python has an interpreter.

It reports no single runs, only statistics over many. So it is started eleven times, each for an eleventh of the
runs: a sample is the median of one start (the mean, with an old version that prints no median). Their median is
the model's, with an interval from fresh processes; other quantiles are not available.

    sustained    one start that only loads the device, directly followed by the eleven starts
    throughput   one process for each stream, all at the same time
    power        one long start; the window lies between its lines before and after the timed runs
"""

import hashlib
import os
from typing import Any, List, Mapping, NamedTuple, Sequence

from vitsearch_agent.artifacts import Declared, declared_inputs, inspect
from vitsearch_agent.base.canonical_json import file_digest
from vitsearch_agent.base.system import run_command
from vitsearch_agent.errors import MeasurementFailed
from vitsearch_agent.runtime_facts import RUNTIMES
from vitsearch_agent.runtimes.base import Availability
from vitsearch_agent.runtimes.shapes import RunShapes, run_shapes
from vitsearch_agent.runtimes.tools.benchmark_model_output import load_window, parse
from vitsearch_agent.runtimes.tools.tool_runtime import (
    LoadWindow,
    NotProvided,
    RunCount,
    ToolRuntime,
    ToolTimes,
    missing_reasons,
    run_tool,
)
from vitsearch_agent.wire.measure_protocol import MINIMUM_RUNS, MeasureProtocol

_FEWEST_RUNS = 3
_ENOUGH_S = 1e4
_APPLIED = {"gpu": "GPU", "nnapi": "NNAPI"}
"""Delegates that have a flag of their own, by the name that the program prints when it has applied one."""
_PHONE = "phone\n"
"""What a script that runs the program on a phone prints first, asked for `--identity`."""
_LEAST_TOGETHER = 0.9
"""All streams must run together for at least this share of the time from the first start to the last end."""


class BenchmarkModelRuntime(ToolRuntime):
    """Runs TFLite files. Option `delegate`: `xnnpack`, `none`, `gpu` or `nnapi`.

    A file whose inputs have open dimensions gets the shapes of the job; any other runs the shapes in the file. The
    program may be a script that runs it on a phone, and says of which identity the phone is (`adb-benchmark-model`).
    """

    name = "benchmark_model"
    tools = RUNTIMES["benchmark_model"].tools
    options = {"delegate": ("xnnpack", "none", "gpu", "nnapi")}

    def available(self) -> Availability:
        try:
            # The program has no version; the digest distinguishes builds.
            version = f"sha256:{file_digest(self.program)[:16]}"
        except OSError as error:
            return Availability(False, f"{self.program} cannot be read: {error.strerror}", None, ())
        identity = run_command([self.program, "--identity"])
        if identity.stdout.startswith(_PHONE):
            if identity.reason is not None:
                return Availability(False, f"no phone answers: {identity.reason}", None, ())
            # Another phone, another system on it and another program there are another environment.
            version = f"{version} phone:{hashlib.sha256(identity.stdout.encode('utf-8')).hexdigest()[:16]}"
        return Availability(True, None, version, (), ("tflite",), precisions=("fp32", "int8"))

    def sizes(self, path: str, protocol: MeasureProtocol) -> RunShapes:
        return run_shapes(declared_inputs("tflite", path), protocol.batch, protocol.shapes)

    def measure(self, path: str, options: Mapping[str, Any], protocol: MeasureProtocol) -> ToolTimes:
        inspect("tflite", {"model.tflite": path})
        starts = [_one_of_eleven(protocol, start) for start in range(MINIMUM_RUNS)]
        outputs = [run_tool(self._command(path, options, protocol, start)).text for start in starts]
        for output in outputs:
            _refuse_without_delegate(output, options["delegate"])
        reports = [parse(output) for output in outputs]
        what = "median" if reports[0].is_median else "mean (this version reports no median)"
        runs = sorted(report.runs for report in reports)
        reasons = missing_reasons(
            latency_ms=f"{MINIMUM_RUNS} samples, each the {what} of {runs[0]} to {runs[-1]} runs of a fresh process",
            runtime_baseline_mb="the program reports only the memory of the model",
        )
        memory = [report.memory_mb for report in reports if report.memory_mb is not None]
        if not memory:
            reasons["peak_memory_mb"] = "the program reports no memory"
        for name, value in (("load_ms", reports[0].load_ms), ("first_inference_ms", reports[0].first_ms)):
            if value is None:
                reasons[name] = "the program does not report it"
        return ToolTimes(
            [report.middle_ms for report in reports],
            reports[0].load_ms,
            reports[0].first_ms,
            max(memory) if memory else None,
            {},
            reasons,
        )

    def sustained(self, path: str, options: Mapping[str, Any], protocol: MeasureProtocol) -> ToolTimes:
        soak = Start(runs=1, min_s=0.0, max_s=_ENOUGH_S, warm_runs=1, warm_s=protocol.soak_s)
        run_tool(self._command(path, options, protocol, soak))
        times = self.measure(path, options, protocol)
        note = f"{times.reasons['latency_ms']}, after {protocol.soak_s:g} s of load"
        return times._replace(reasons=dict(times.reasons, latency_ms=note))

    def throughput(self, path: str, options: Mapping[str, Any], protocol: MeasureProtocol) -> RunCount:
        from concurrent.futures import ThreadPoolExecutor  # loaded only where several streams run

        start = _long(protocol, protocol.throughput_s)
        commands = [
            self._command(_name_for_stream(path, stream), options, protocol, start)
            for stream in range(protocol.streams)
        ]
        with ThreadPoolExecutor(protocol.streams) as streams:
            windows = [load_window(output) for output in streams.map(run_tool, commands)]
        starts, ends = zip(*(load.window for load in windows))
        together = (min(ends) - max(starts)) / (max(ends) - min(starts))
        if together < _LEAST_TOGETHER:
            share = f"{max(0.0, together):.0%} of the time"
            raise NotProvided(f"{protocol.streams} processes of benchmark_model ran together for only {share}")
        return RunCount(
            sum(load.runs for load in windows),
            sum(load.runs / (load.window[1] - load.window[0]) for load in windows),
        )

    def power_load(self, path: str, options: Mapping[str, Any], protocol: MeasureProtocol) -> LoadWindow:
        return load_window(run_tool(self._command(path, options, protocol, _long(protocol, protocol.power_s))))

    def _command(self, path: str, options: Mapping[str, Any], protocol: MeasureProtocol, start: "Start") -> List[str]:
        """Return the command line; every relevant flag is given, because defaults change between versions."""
        return [
            self.program,
            f"--graph={path}",
            f"--num_threads={protocol.threads}",
            f"--num_runs={start.runs}",
            f"--min_secs={start.min_s:g}",
            f"--max_secs={start.max_s:g}",
            f"--warmup_runs={start.warm_runs}",
            f"--warmup_min_secs={start.warm_s:g}",
            "--run_delay=-1.0",
            f"--use_xnnpack={'true' if options['delegate'] == 'xnnpack' else 'false'}",
            # Builds without a delegate do not know its flag.
            *([f"--use_{options['delegate']}=true"] if options["delegate"] in _APPLIED else []),
            "--enable_op_profiling=false",
            *_shape_flags(declared_inputs("tflite", path), self.sizes(path, protocol)),
        ]


def _refuse_without_delegate(output: str, delegate: str) -> None:
    """Raise MeasurementFailed where the program ran without the delegate that was asked for: it only warns of that."""
    name = _APPLIED.get(delegate)
    if name is not None and f"Explicitly applied {name} delegate" not in output:
        raise MeasurementFailed("runtime_unavailable", f"benchmark_model did not apply the {name} delegate")


def _shape_flags(declared: Sequence[Declared], sizes: RunShapes) -> List[str]:
    """Return the flags with the shapes of all inputs if one has an open dimension; they are given in order."""
    shapes = sizes.shapes or {}
    if all(item.dims is not None and tuple(item.dims) == shapes[item.name] for item in declared):
        return []
    if any("," in item.name for item in declared):
        names = ", ".join(repr(item.name) for item in declared)
        raise MeasurementFailed(
            "incompatible_artifact", f"benchmark_model takes no shapes for names with a comma: {names}"
        )
    return [
        "--input_layer=" + ",".join(item.name for item in declared),
        "--input_layer_shape=" + ":".join(",".join(map(str, shapes[item.name])) for item in declared),
    ]


class Start(NamedTuple):
    """How long one process runs: until `runs` and `min_s` are reached, at most `max_s` (also for the warm-up)."""

    runs: int
    min_s: float
    max_s: float
    warm_runs: int
    warm_s: float


def _one_of_eleven(protocol: MeasureProtocol, start: int) -> Start:
    """Return one of the eleven starts of a measurement; the first has the protocol's full warm-up."""
    share = 1.0 / MINIMUM_RUNS
    warm = 1.0 if start == 0 else share
    warm_s = protocol.warmup_min_s * warm
    return Start(
        runs=max(_FEWEST_RUNS, round(protocol.min_runs * share)),
        min_s=protocol.min_s * share,
        max_s=max(protocol.max_s * share, warm_s),
        warm_runs=max(1, round(protocol.warmup_min_runs * warm)),
        warm_s=warm_s,
    )


def _long(protocol: MeasureProtocol, seconds: float) -> Start:
    return Start(1, seconds, _ENOUGH_S, max(1, protocol.warmup_min_runs), protocol.warmup_min_s)


def _name_for_stream(path: str, stream: int) -> str:
    """Return a separate name (a link) of the file for each stream: the adb script pushes one copy per name."""
    if stream == 0:
        return path
    folder, name = os.path.split(path)
    other = os.path.join(folder, f"{stream}-{name}")
    if not os.path.lexists(other):
        os.symlink(os.path.abspath(path), other)
    return other
