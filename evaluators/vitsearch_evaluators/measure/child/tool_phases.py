"""The phases of a runtime that is a program (`ToolRuntime`): it does the work, we ask and note when.

    latency, sustained   its samples                                                --> ProcessReport
    throughput           its count, by the time that it took                        --> ThroughputReport
    power                rest, the program from its start to its end, rest          --> PowerReport

What it cannot tell beside the latency is `NotProvided`, a reason in the measurement.
"""

from typing import Any, Dict

from vitsearch_evaluators.errors import MeasurementFailed
from vitsearch_evaluators.measure.child.phase_reports import PowerReport, ThroughputReport
from vitsearch_evaluators.measure.child.subject import Subject, stay_idle
from vitsearch_evaluators.measure.child.timed_loop import Clocks, ProcessReport
from vitsearch_evaluators.runtimes.tools.tool import ToolRuntime, ToolTimes

IDLE_NOTE = (
    "at rest the program was not there: idle is the device before it started and after it ended, without the model"
)


def run_phase(phase: str, runtime: ToolRuntime, subject: Subject, clocks: Clocks) -> Dict[str, Any]:
    """Return the report of a phase as JSON. Raises NotProvided for what the program cannot tell."""
    asked = (subject.path, subject.options, subject.protocol)
    if phase == "prepare":
        runtime.prepare(*asked)
        return {}
    if phase == "latency":
        return _report(subject, runtime.measure(*asked)).to_json()
    if phase == "sustained":
        return _report(subject, runtime.sustained(*asked)).to_json()
    if phase == "throughput":
        counted = runtime.throughput(*asked)
        return ThroughputReport(counted.runs_per_s * subject.protocol.batch, counted.runs).to_json()
    if phase == "power":
        return _power(runtime, subject, clocks).to_json()
    raise MeasurementFailed("protocol", f"unknown phase {phase!r}")


def _report(subject: Subject, times: ToolTimes) -> ProcessReport:
    return ProcessReport(
        wall_ms=tuple(times.wall_ms),
        cpu_ms=(),
        load_ms=times.load_ms,
        first_inference_ms=times.first_inference_ms,
        peak_memory_mb=times.peak_memory_mb,
        runtime_baseline_mb=None,
        scheduler_cpu_s=None,
        scheduler_wait_s=None,
        sleeps=None,
        steady=True,
        runtime_version=subject.version,
        options=dict(subject.options, **times.reported_options),
        reasons=times.reasons,
    )


def _power(runtime: ToolRuntime, subject: Subject, clocks: Clocks) -> PowerReport:
    """Rest before the program starts and after it ended: nobody can make it rest with the model loaded."""
    idle_s = subject.protocol.idle_s
    idle_before = stay_idle(idle_s, clocks)
    worked = runtime.power_load(subject.path, subject.options, subject.protocol)
    idle_after = stay_idle(idle_s, clocks)
    inferences = worked.runs * subject.protocol.batch
    return PowerReport(idle_before, worked.window, idle_after, inferences, IDLE_NOTE if idle_s > 0 else None)
