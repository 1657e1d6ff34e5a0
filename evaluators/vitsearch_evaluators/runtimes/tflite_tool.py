"""TFLite's `benchmark_model`, for devices on which no Python has an interpreter.

It tells no single run, only what a number of them took together. So it is started eleven times, each for an
eleventh of the runs: a sample is the median of one start (of an old version, which tells none: its mean).
Their median is the model's, with an interval that rests on fresh processes; quantiles beyond it are not told.
"""

import re
from typing import Any, Dict, List, Mapping, NamedTuple, Optional

from vitsearch_evaluators.artifacts import inspect
from vitsearch_evaluators.canonical import file_digest
from vitsearch_evaluators.errors import MeasurementFailed
from vitsearch_evaluators.jobspec import MINIMUM_RUNS, MeasureProtocol
from vitsearch_evaluators.runtimes.base import Availability
from vitsearch_evaluators.runtimes.needs import NEEDS
from vitsearch_evaluators.runtimes.tool import ToolRuntime, ToolTimes, number, run_tool, unknown

_MIB = 1.048576
_FEWEST_RUNS = 3
_ENOUGH_S = 1e4


class Told(NamedTuple):
    """What one start printed; times in ms, None where it says nothing."""

    runs: int
    middle_ms: float
    is_median: bool
    load_ms: Optional[float]
    first_ms: Optional[float]
    memory_mb: Optional[float]


class BenchmarkModelRuntime(ToolRuntime):
    """Option `delegate`: `xnnpack` or `none`. It runs the shape that the file has: batch 1 is taken at its word."""

    name = "benchmark_model"
    tools = NEEDS["benchmark_model"].tools
    options = {"delegate": ("xnnpack", "none")}

    def available(self) -> Availability:
        try:
            # It tells no version; another build is another runtime.
            version = f"sha256:{file_digest(self.program)[:16]}"
        except OSError as error:
            return Availability(False, f"{self.program} cannot be read: {error.strerror}", None, ())
        return Availability(True, None, version, (), ("tflite",), precisions=("fp32", "int8"))

    def measure(self, path: str, options: Mapping[str, Any], protocol: MeasureProtocol) -> ToolTimes:
        if protocol.batch != 1:
            raise MeasurementFailed(
                "incompatible_artifact", f"benchmark_model measures batch 1, the protocol asks for {protocol.batch}"
            )
        inspect("tflite", {"model.tflite": path})
        told = [parse(run_tool(self._command(path, options, protocol, start))) for start in range(MINIMUM_RUNS)]
        what = "median" if told[0].is_median else "mean (this version tells no median)"
        runs = sorted(one.runs for one in told)
        reasons = unknown(
            latency_ms=f"{MINIMUM_RUNS} samples, each the {what} of {runs[0]} to {runs[-1]} runs of a fresh process",
            runtime_baseline_mb="the program tells what the model needs beyond it",
        )
        memory = [one.memory_mb for one in told if one.memory_mb is not None]
        if not memory:
            reasons["peak_memory_mb"] = "the program tells no memory"
        for name, value in (("load_ms", told[0].load_ms), ("first_inference_ms", told[0].first_ms)):
            if value is None:
                reasons[name] = "the program does not tell it"
        return ToolTimes(
            [one.middle_ms for one in told],
            told[0].load_ms,
            told[0].first_ms,
            max(memory) if memory else None,
            {},
            reasons,
        )

    def _command(self, path: str, options: Mapping[str, Any], protocol: MeasureProtocol, start: int) -> List[str]:
        """All that matters is said: defaults change from version to version."""
        share = 1.0 / MINIMUM_RUNS
        warm_runs = protocol.warmup_min_runs if start == 0 else protocol.warmup_min_runs * share
        warm_s = protocol.warmup_min_s if start == 0 else protocol.warmup_min_s * share
        return [
            self.program,
            f"--graph={path}",
            f"--num_threads={protocol.threads}",
            f"--num_runs={max(_FEWEST_RUNS, round(protocol.min_runs * share))}",
            "--min_secs=0",
            f"--max_secs={protocol.min_s * share if protocol.min_s > 0 else _ENOUGH_S:g}",
            f"--warmup_runs={max(1, round(warm_runs))}",
            f"--warmup_min_secs={warm_s:g}",
            "--run_delay=-1.0",
            f"--use_xnnpack={'true' if options['delegate'] == 'xnnpack' else 'false'}",
            "--enable_op_profiling=false",
        ]


def parse(told: str) -> Told:
    """Read what a start printed, whatever stands before it on a line (INFO:, a log's time).

    The last `count=` line is of the timed runs, those before of warm-up. MeasurementFailed `protocol` when there
    is none, or no time in it.
    """
    counted = [_pairs(match.group(0)) for match in re.finditer(r"\bcount=[0-9]+ .*", told)]
    last = counted[-1] if counted else {}
    # Runs that all took the same have one number: count=50 curr=105(all same)
    for key, is_median in (("median", True), ("avg", False), ("curr", "first" not in last)):
        if key in last and last.get("count", 0) >= 1:
            return Told(
                int(last["count"]),
                last[key] / 1e3,
                is_median,
                _first(r"\bInit: ([0-9.eE+]+)", told, 1e-3),
                _first(r"First inference: ([0-9.eE+]+)", told, 1e-3),
                _first(
                    r"(?:footprint delta from the start of the tool|Peak memory footprint)"
                    r" \(MB\): .*overall=([0-9.eE+]+)",
                    told,
                    _MIB,
                ),
            )
    raise MeasurementFailed("protocol", "benchmark_model told no times")


def _pairs(line: str) -> Dict[str, float]:
    found = {}
    for key, text in re.findall(r"\b([a-z0-9]+)=([0-9.eE+-]+)", line):
        value = number(text)
        if value is not None:
            found[key] = value
    return found


def _first(pattern: str, told: str, factor: float) -> Optional[float]:
    match = re.search(pattern, told)
    value = None if match is None else number(match.group(1).rstrip("."))
    return None if value is None else value * factor
