"""The phases of a runtime that is a program (`ToolRuntime`): the child runs the program and records the times.

    latency, sustained   the program's samples                                      --> ProcessReport
    throughput           the program's count of runs over their time                --> ThroughputReport
    power                idle, the program from its start to its end, idle          --> PowerReport

A figure that the program does not provide raises `NotProvided`; its reason goes into the measurement. Only
the latency is required.
"""

from typing import Any, Dict

from vitsearch_agent.base.system import THIS_MACHINE
from vitsearch_agent.errors import MeasurementFailed
from vitsearch_agent.measure.child.measured_model import MeasuredModel
from vitsearch_agent.measure.child.phase_reports import PowerReport, ProcessReport, ThroughputReport
from vitsearch_agent.measure.child.process_usage import NO_CUDA, MemoryReading
from vitsearch_agent.measure.child.timed_loop import Clocks, spread, stay_idle
from vitsearch_agent.runtimes.shapes import RunShapes
from vitsearch_agent.runtimes.tools.tool_runtime import ToolRuntime, ToolTimes

IDLE_NOTE = "idle power was measured before the program started and after it ended, without the model loaded"


def run_phase(phase: str, runtime: ToolRuntime, measured: MeasuredModel, clocks: Clocks) -> Dict[str, Any]:
    """Return the report of a phase as JSON; NotProvided when the program cannot provide it."""
    arguments = (measured.path, measured.options, measured.protocol)
    sizes = runtime.sizes(measured.path, measured.protocol)
    if phase == "prepare":
        runtime.prepare(*arguments)
        return {}
    if phase == "latency":
        return _latency(runtime, measured, sizes).to_json()
    if phase == "sustained":
        return _report(measured, sizes, runtime.sustained(*arguments)).to_json()
    if phase == "throughput":
        count = runtime.throughput(*arguments)
        return ThroughputReport(count.runs_per_s * sizes.batch, count.runs, spread(count.wall_ms)).to_json()
    if phase == "power":
        return _power(runtime, measured, sizes.batch, clocks).to_json()
    raise MeasurementFailed("protocol", f"unknown phase {phase!r}")


def _latency(runtime: ToolRuntime, measured: MeasuredModel, sizes: RunShapes) -> ProcessReport:
    """Time the program, and read the memory of a GPU that it holds meanwhile."""
    arguments = (measured.path, measured.options, measured.protocol)
    if not runtime.uses_cuda(measured.options):
        return _report(measured, sizes, runtime.measure(*arguments))
    from vitsearch_agent.measure.child import gpu_memory

    with gpu_memory.Watch(gpu_memory.GpuMemory(THIS_MACHINE)) as watch:
        times = runtime.measure(*arguments)
    return _report(measured, sizes, times, watch.peak)


def _report(
    measured: MeasuredModel, sizes: RunShapes, times: ToolTimes, gpu_memory: MemoryReading = NO_CUDA
) -> ProcessReport:
    reasons = {} if gpu_memory.reason is None else {"gpu_memory_mb": gpu_memory.reason}
    return ProcessReport(
        wall_ms=tuple(times.wall_ms),
        cpu_ms=(),
        load_ms=times.load_ms,
        first_inference_ms=times.first_inference_ms,
        peak_memory_mb=times.peak_memory_mb,
        runtime_baseline_mb=None,
        gpu_memory_mb=gpu_memory.value_mb,
        scheduler_cpu_s=None,
        scheduler_wait_s=None,
        sleeps=None,
        steady=True,
        runtime_version=measured.version,
        options=dict(measured.options, **times.reported_options),
        reasons=dict(times.reasons, **reasons),
        batch=sizes.batch,
        shapes=sizes.shapes,
    )


def _power(runtime: ToolRuntime, measured: MeasuredModel, batch: int, clocks: Clocks) -> PowerReport:
    """Measure idle power before the program starts and after it ends: it cannot stay idle with the model loaded."""
    idle_s = measured.protocol.idle_s
    idle_before = stay_idle(idle_s, clocks)
    load = runtime.power_load(measured.path, measured.options, measured.protocol)
    idle_after = stay_idle(idle_s, clocks)
    return PowerReport(idle_before, load.window, idle_after, load.runs * batch, IDLE_NOTE if idle_s > 0 else None)
