import time

import pytest

from vitsearch_agent.errors import MeasurementFailed
from vitsearch_agent.measure.child import gpu_memory
from vitsearch_agent.measure.child.measured_model import MeasuredModel
from vitsearch_agent.measure.child.phase_reports import PowerReport, ProcessReport, ThroughputReport
from vitsearch_agent.measure.child.phases import run_phase
from vitsearch_agent.measure.child.process_usage import NO_CUDA, MemoryReading
from vitsearch_agent.measure.child.timed_loop import Clocks
from vitsearch_agent.measure.child.tool_phases import IDLE_NOTE
from vitsearch_agent.runtimes.base import Availability
from vitsearch_agent.runtimes.tools.tool_runtime import LoadWindow, NotProvided, RunCount, ToolRuntime, ToolTimes
from vitsearch_agent.testing import ManualTime

TIMES = ToolTimes([2.0, 2.5], 10.0, None, None, {"gpu": 1}, {"first_inference_ms": "not reported"})


class LatencyAlone(ToolRuntime):
    name = "alone"

    def available(self):
        return Availability(True, None, "1", ())

    def measure(self, path, options, protocol):
        return TIMES


class Held:
    """The memory of a GPU, which was read `times` times."""

    times = 0

    def read(self):
        Held.times += 1
        return MemoryReading(310.0, None)


class OnGpu(LatencyAlone):
    def uses_cuda(self, options):
        return True

    def measure(self, path, options, protocol):
        while Held.times == 0:
            time.sleep(0.001)
        return TIMES


class Everything(LatencyAlone):
    def __init__(self, time):
        self._time = time

    def sustained(self, path, options, protocol):
        return TIMES._replace(wall_ms=[3.0] * 11)

    def throughput(self, path, options, protocol):
        return RunCount(40, 8.0)

    def power_load(self, path, options, protocol):
        start = self._time.clock()
        self._time.sleep(protocol.power_s + 4.0)
        return LoadWindow((start + 3.0, start + 3.0 + protocol.power_s), 100)


def run(runtime, phase, protocol, time):
    measured = MeasuredModel(runtime, "1", "model.onnx", {"threads": 1}, protocol)
    return run_phase(phase, measured, Clocks(time.clock, lambda: 0.0, time.clock, time.sleep))


def test_the_samples_of_a_program_become_a_report(tiny_protocol):
    time = ManualTime()
    report = ProcessReport.from_json(run(LatencyAlone(), "latency", tiny_protocol, time))
    assert (report.wall_ms, report.cpu_ms, report.load_ms) == ((2.0, 2.5), (), 10.0)
    assert report.options == {"threads": 1, "gpu": 1}
    assert report.reasons == dict(TIMES.reasons, gpu_memory_mb=NO_CUDA.reason)
    assert run(Everything(time), "sustained", tiny_protocol, time)["wall_ms"] == (3.0,) * 11


def test_the_memory_of_the_gpu_is_read_while_a_program_runs(tiny_protocol, monkeypatch):
    monkeypatch.setattr(gpu_memory, "GpuMemory", lambda system: Held())
    monkeypatch.setattr(gpu_memory, "_POLL_S", 0.001)
    report = ProcessReport.from_json(run(OnGpu(), "latency", tiny_protocol, ManualTime()))
    assert report.gpu_memory_mb == 310.0
    assert "gpu_memory_mb" not in report.reasons


def test_throughput_counts_images(tiny_protocol):
    time = ManualTime()
    answer = run(Everything(time), "throughput", tiny_protocol._replace(batch=4), time)
    assert ThroughputReport.from_json(answer) == ThroughputReport(32.0, 40, ())


def test_idle_windows_are_before_and_after_the_program_and_have_a_note(tiny_protocol):
    time = ManualTime()
    protocol = tiny_protocol._replace(power_s=10.0, idle_s=2.0, batch=4)
    report = PowerReport.from_json(run(Everything(time), "power", protocol, time))
    zero = report.idle_before[0]
    windows = [tuple(end - zero for end in window) for window in (report.idle_before, report.load, report.idle_after)]
    assert windows == [(0.0, 2.0), (5.0, 15.0), (16.0, 18.0)]
    assert (report.inferences, report.note) == (400, IDLE_NOTE)
    without = run(Everything(time), "power", protocol._replace(idle_s=0.0), time)
    assert without["note"] is None


@pytest.mark.parametrize("phase", ["sustained", "throughput", "power"])
def test_a_phase_that_a_program_lacks_is_not_provided(phase, tiny_protocol):
    with pytest.raises(NotProvided, match="alone "):
        run(LatencyAlone(), phase, tiny_protocol, ManualTime())


def test_unknown_phases_are_refused(tiny_protocol):
    with pytest.raises(MeasurementFailed, match="unknown phase 'nap'"):
        run(LatencyAlone(), "nap", tiny_protocol, ManualTime())
