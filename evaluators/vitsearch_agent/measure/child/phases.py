"""The phases of a measurement; each measuring process runs one.

    prepare      build what a program needs from the model (an engine)          --> nothing
    latency      load, first run, warm-up, samples in bursts                    --> ProcessReport
    sustained    load, first run, `soak_s` of load, samples without a pause     --> ProcessReport
    throughput   `streams` runs in flight, each in its own thread               --> ThroughputReport
    power        load, warm-up, idle, `power_s` of load, idle                   --> PowerReport

For a runtime that is a program see `tool_phases`.

Every phase has its own process, so that the phases do not affect each other: the latency is the same
whatever other phases the protocol has.
"""

import threading
from typing import Any, Callable, Dict, List, Optional, Tuple

from vitsearch_agent.base.system import THIS_MACHINE
from vitsearch_agent.errors import MeasurementFailed
from vitsearch_agent.measure.child import process_usage
from vitsearch_agent.measure.child.bursts import REFERENCE_SETTLE_S, BurstSampler, BurstSamples, Timed, settle_s
from vitsearch_agent.measure.child.hardware_counters import HardwareCounters
from vitsearch_agent.measure.child.measured_model import MeasuredModel
from vitsearch_agent.measure.child.phase_reports import PowerReport, ProcessReport, ThroughputReport
from vitsearch_agent.measure.child.process_usage import scheduler_times, voluntary_switches
from vitsearch_agent.measure.child.timed_loop import (
    PAIRED_WARM_UP_AT_MOST,
    WARM_UP_AT_MOST,
    Clocks,
    gc_disabled,
    sample,
    spread,
    stay_idle,
    warm_up,
)
from vitsearch_agent.runtimes.tools.tool_runtime import ToolRuntime

REFERENCE_WARM_UP_S = 0.01
"""The model has warmed the processor up; the first block of each burst, which is not counted, does the rest."""


def run_phase(phase: str, measured: MeasuredModel, clocks: Clocks) -> Dict[str, Any]:
    """Return the report of a phase as JSON."""
    if isinstance(measured.runtime, ToolRuntime):
        from vitsearch_agent.measure.child import tool_phases  # kept out of processes that time a library

        return tool_phases.run_phase(phase, measured.runtime, measured, clocks)
    if phase == "latency":
        return timed(measured, clocks).to_json()
    if phase == "sustained":
        return timed(measured, clocks, measured.protocol.soak_s).to_json()
    if phase == "throughput":
        return throughput(measured, clocks).to_json()
    if phase == "power":
        return power(measured, clocks).to_json()
    raise MeasurementFailed("protocol", f"unknown phase {phase!r}")


def timed(measured: MeasuredModel, clocks: Clocks, soak_s: float = 0.0) -> ProcessReport:
    """Load the model, time it by the protocol and record the memory and scheduling of this process."""
    reasons: Dict[str, str] = {}
    counters = HardwareCounters()
    baseline = process_usage.current_rss_mb()
    if process_usage.reset_peak() is not None:
        baseline = process_usage.peak_rss_mb()
    start = clocks.wall()
    session = measured.load()
    loaded = clocks.wall()
    session.run()
    first = clocks.wall()
    run_for(session.run, soak_s, clocks.wall)
    with gc_disabled():
        is_paired = soak_s == 0 and measured.has_references
        at_most = PAIRED_WARM_UP_AT_MOST if is_paired else WARM_UP_AT_MOST
        steady = warm_up(session.run, measured.protocol, clocks, at_most)
        peak = process_usage.peak_rss_mb()
        references = _warm_references(measured, clocks) if is_paired else ()
        scheduled_before, sleeps_before = scheduler_times(), voluntary_switches()
        if soak_s > 0:
            burst_samples = BurstSamples(sample(session.run, measured.protocol, clocks), ())
        else:
            model = Timed(session.run, settle_s(measured.model_bytes))
            burst_samples = BurstSampler(model, references, counters, clocks).sample(measured.protocol)
    scheduled, sleeps_after = scheduler_times().since(scheduled_before), voluntary_switches()
    gpu_memory = _gpu_memory(measured)
    # The session is not closed: the process ends soon, and a crash while closing would lose the samples.
    over_baseline = None
    if peak.value_mb is None or baseline.value_mb is None:
        reasons["peak_memory_mb"] = str(peak.reason or baseline.reason)
    else:
        over_baseline = max(0.0, peak.value_mb - baseline.value_mb)
    if baseline.value_mb is None:
        reasons["runtime_baseline_mb"] = str(baseline.reason)
    if gpu_memory.reason is not None:
        reasons["gpu_memory_mb"] = gpu_memory.reason
    if scheduled.reason is not None:
        reasons["contention"] = scheduled.reason
    counted = counters.per_run(len(burst_samples.samples.wall_ms))
    if counted is None and counters.reason is not None:
        reasons["counters"] = counters.reason
    return ProcessReport(
        wall_ms=tuple(burst_samples.samples.wall_ms),
        cpu_ms=tuple(burst_samples.samples.cpu_ms),
        load_ms=(loaded - start) * 1e3,
        first_inference_ms=(first - loaded) * 1e3,
        peak_memory_mb=over_baseline,
        runtime_baseline_mb=baseline.value_mb,
        gpu_memory_mb=gpu_memory.value_mb,
        scheduler_cpu_s=scheduled.cpu_s,
        scheduler_wait_s=scheduled.wait_s,
        sleeps=_sleeps(sleeps_before, sleeps_after, burst_samples.rests),
        steady=steady,
        runtime_version=measured.version,
        options=dict(measured.options, **session.reported_options),
        reasons=reasons,
        batch=session.batch,
        shapes=session.shapes,
        bursts=burst_samples.bursts,
        counters=counted,
    )


def _gpu_memory(measured: MeasuredModel) -> process_usage.MemoryReading:
    """Return the memory of a GPU that this process holds after its runs."""
    if not measured.runtime.uses_cuda(measured.options):
        return process_usage.NO_CUDA
    from vitsearch_agent.measure.child.gpu_memory import GpuMemory  # kept out of the others, as ctypes is

    return GpuMemory(THIS_MACHINE).read()


def _sleeps(before: Optional[int], after: Optional[int], rests: int) -> Optional[int]:
    """Return how often the processor was given up, our own rests not counted; None if that is unknown."""
    return None if before is None or after is None else max(0, after - before - rests)


def _warm_references(measured: MeasuredModel, clocks: Clocks) -> Tuple[Timed, ...]:
    """Load and warm up the reference models; called when the memory of the model has been read."""
    references = tuple(Timed(session.run, REFERENCE_SETTLE_S) for session in measured.load_references())
    for reference in references:
        run_for(reference.run, REFERENCE_WARM_UP_S, clocks.wall)
    return references


def run_for(run: Callable[[], None], seconds: float, clock: Callable[[], float]) -> int:
    """Run without a pause until `seconds` have passed; return the number of complete runs."""
    start = clock()
    runs = 0
    with gc_disabled():
        while clock() - start < seconds:
            run()
            runs += 1
    return runs


def throughput(measured: MeasuredModel, clocks: Clocks) -> ThroughputReport:
    """Keep `streams` runs in flight; return their total throughput and the latency of each run beside the others.

    Each stream ends after a complete run, at a slightly different time, so the rates of the streams are added.
    """
    protocol = measured.protocol
    sessions = measured.load_streams()
    for session in sessions:
        warm_up(session.run, protocol, clocks)
    streams = [_Stream(session.run, protocol.throughput_s, clocks.wall) for session in sessions]
    gate = threading.Barrier(len(streams))
    threads = [threading.Thread(target=stream.run, args=(gate,)) for stream in streams]
    with gc_disabled():
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for stream in streams:
        if stream.error is not None:
            raise stream.error
    runs_per_s = sum(stream.runs / stream.seconds for stream in streams if stream.seconds > 0)
    wall_ms = spread([time_ms for stream in streams for time_ms in stream.wall_ms])
    return ThroughputReport(sessions[0].batch * runs_per_s, sum(stream.runs for stream in streams), wall_ms)


class _Stream:
    """Runs one session for the given time; `wall_ms` are the times of its runs, `error` is the exception that ended it
    early."""

    def __init__(self, run: Callable[[], None], seconds: float, clock: Callable[[], float]) -> None:
        self.wall_ms: List[float] = []
        self.seconds = 0.0
        self.error: Optional[Exception] = None
        self._run = run
        self._duration_s = seconds
        self._clock = clock

    @property
    def runs(self) -> int:
        return len(self.wall_ms)

    def run(self, gate: threading.Barrier) -> None:
        gate.wait()
        start = before = self._clock()
        try:
            while not self.wall_ms or self.seconds < self._duration_s:
                self._run()
                after = self._clock()
                self.wall_ms.append((after - before) * 1e3)
                self.seconds, before = after - start, after
        except Exception as error:  # noqa: BLE001 - raised again by the thread that waits for this one
            self.error = error


def power(measured: MeasuredModel, clocks: Clocks) -> PowerReport:
    """Stay idle, run the model, stay idle, with the model loaded, while the agent reads the meter.

    Idle power drifts with the temperature; the mean of an idle period before and after cancels a steady drift.
    """
    protocol = measured.protocol
    session = measured.load()
    warm_up(session.run, protocol, clocks)
    idle_before = stay_idle(protocol.idle_s, clocks)
    start = clocks.monotonic()
    runs = run_for(session.run, protocol.power_s, clocks.monotonic)
    load = (start, clocks.monotonic())
    idle_after = stay_idle(protocol.idle_s, clocks)
    return PowerReport(idle_before, load, idle_after, runs * session.batch)
