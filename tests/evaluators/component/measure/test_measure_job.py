import contextlib
import os

import pytest

from support.marks import long
from vitsearch_agent.base import processes
from vitsearch_agent.base.system import System
from vitsearch_agent.conditions.emulation import DeviceTree
from vitsearch_agent.errors import EnvironmentChanged
from vitsearch_agent.measure.child_process import StopSignal
from vitsearch_agent.measure.job_context import JobContext
from vitsearch_agent.measure.job_folder import JobFolder
from vitsearch_agent.measure.measure_job import PowerRecorder, measure_job, wall_limit_s
from vitsearch_agent.measure.warm_parents import WarmParents
from vitsearch_agent.wire.measurement import Temperature
from vitsearch_agent.wire.protocol import BlobRef, JobSpec, Power

CONTEXT = JobContext("a1" * 32, "device-1", "c3" * 32, 2, 0.5)


@pytest.fixture
def job_folder(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"x")
    return JobFolder(str(tmp_path), StopSignal(), kept=str(tmp_path / "kept"))


@pytest.fixture
def spec(tiny_protocol):
    manifest = (BlobRef("model.onnx", "b2" * 32, 1),)
    return JobSpec("measure", manifest, "noop", {"busy_us": 10}, tiny_protocol._replace(processes=2, max_processes=2))


def test_each_process_is_another_and_the_result_has_the_job_context(spec, job_folder, tmp_path):
    pids = []
    measurement = measure_job(spec, CONTEXT, job_folder._replace(on_start=lambda phase, child: pids.append(child.pid)))
    assert len(set(pids)) == 2
    assert os.getpid() not in pids
    assert measurement.latency_ms.n == 22
    assert measurement.between_process_rel_spread is not None
    assert (measurement.job_id, measurement.attempts, measurement.queue_s) == ("a1" * 32, 2, 0.5)
    assert measurement.emulated is False


def test_a_process_with_another_version_of_the_runtime_is_the_last(spec, job_folder):
    pids = []
    with pytest.raises(EnvironmentChanged, match="ran noop 1, the environment has 0"):
        measure_job(
            spec,
            CONTEXT._replace(runtime_version="0"),
            job_folder._replace(on_start=lambda phase, child: pids.append(child.pid)),
        )
    assert len(pids) == 1


@pytest.mark.parametrize(("attempts", "count"), [(1, 1), (2, 0)])
def test_processes_after_the_first_have_a_parent_in_the_first_attempt(spec, job_folder, attempts, count):
    processes.adopt_orphans()
    with contextlib.closing(WarmParents()) as parents:
        measurement = measure_job(spec, CONTEXT._replace(attempts=attempts), job_folder._replace(parents=parents))
        assert len(parents) == count
    assert measurement.load_ms is not None
    assert measurement.latency_ms.n == 22


def test_answers_of_an_interrupted_attempt_are_used_in_the_same_environment(spec, job_folder, tmp_path):
    pids = []
    measure_job(spec, CONTEXT, job_folder)
    measure_job(spec, CONTEXT, job_folder._replace(on_start=lambda phase, child: pids.append(child.pid)))
    assert pids == []
    updated = CONTEXT._replace(environment_id="d4" * 32)
    measure_job(spec, updated, job_folder._replace(on_start=lambda phase, child: pids.append(child.pid)))
    assert len(pids) == 2


@pytest.fixture
def phased(spec):
    phases = {"throughput_s": 0.05, "streams": 2, "soak_s": 0.1, "power_s": 0.1, "idle_s": 0.05}
    return spec._replace(protocol=spec.protocol._replace(**phases))


class FakeRecorder(PowerRecorder):
    """Records its calls instead of reading a meter."""

    def __init__(self, reason=None):
        self.calls = []
        self.reason = reason

    def unavailable_reason(self):
        return self.reason

    def start(self):
        self.calls.append("start")

    def stop(self):
        self.calls.append("stop")

    def power(self, report):
        self.calls.append(report)
        return Power(4.5, 2.0, 9.0, 5.0, "ina3221", "module", False, 20.0, 200, None), None


def test_each_phase_is_a_process_of_its_own(phased, job_folder, tmp_path):
    ran, recorder = [], FakeRecorder()
    measurement = measure_job(phased, CONTEXT, job_folder._replace(on_start=lambda *event: ran.append(event)), recorder)
    pids = [child.pid for _, child in ran]
    assert [phase for phase, _ in ran] == ["latency", "latency", "sustained", "throughput", "power"]
    assert len(set(pids)) == 5
    assert measurement.latency_ms.n == 22
    assert measurement.sustained.n == 11
    assert measurement.throughput_ips != pytest.approx(1e3 / measurement.latency_ms.mean, rel=1e-9)
    assert measurement.concurrent.n >= 11
    assert measurement.power.energy_mj == 9.0
    assert {"sustained", "concurrent", "power"}.isdisjoint(measurement.reasons)
    start, stop, report = recorder.calls
    assert (start, stop) == ("start", "stop")
    assert report.idle_before[0] < report.idle_before[1] <= report.load[0] < report.load[1] <= report.idle_after[0]
    assert report.inferences >= 1


def test_finished_phases_of_an_interrupted_attempt_are_not_repeated(phased, job_folder, tmp_path):
    pids = []
    first = measure_job(phased, CONTEXT, job_folder, recorder=FakeRecorder())
    for path in (tmp_path / "kept").iterdir():
        if path.name.endswith(("-throughput.json", "-power-read.json")):
            path.unlink()
    recorder = FakeRecorder()
    again = measure_job(
        phased, CONTEXT, job_folder._replace(on_start=lambda phase, child: pids.append(child.pid)), recorder
    )
    assert len(pids) == 2
    assert len(recorder.calls) == 3, "windows without the samples of the meter are useless"
    assert (again.sustained, again.power) == (first.sustained, first.power)


@pytest.mark.parametrize(
    ("recorder", "reason"),
    [(None, "no power meter"), (FakeRecorder("the logger does not run"), "the logger does not run")],
)
def test_without_a_meter_the_power_phase_is_skipped_with_a_reason(phased, job_folder, tmp_path, recorder, reason):
    pids = []
    only = phased._replace(
        protocol=phased.protocol._replace(throughput_s=0.0, soak_s=0.0, processes=1, max_processes=1)
    )
    measurement = measure_job(
        only, CONTEXT, job_folder._replace(on_start=lambda _, child: pids.append(child.pid)), recorder
    )
    assert (measurement.power, measurement.reasons["power"]) == (None, reason)
    assert len(pids) == 1


class LatencyOnly(JobFolder):
    """The children of a program that provides only the latency."""

    def run(self, phase, job, limit_s, parent=None):
        return super().run(phase, job, limit_s) if phase == "latency" else {"not_provided": f"no {phase} phase"}


def test_a_phase_that_is_not_provided_has_a_reason_and_does_not_fail_the_job(phased, job_folder):
    recorder = FakeRecorder()
    measurement = measure_job(phased, CONTEXT, LatencyOnly(*job_folder), recorder)
    assert measurement.latency_ms.n == 22
    assert (measurement.sustained, measurement.throughput_ips, measurement.power) == (None, None, None)
    assert measurement.concurrent is None
    reasons = [measurement.reasons[key] for key in ("sustained", "throughput_ips", "concurrent", "power")]
    assert reasons == ["no sustained phase", "no throughput phase", "no throughput phase", "no power phase"]
    assert recorder.calls == ["start", "stop"]


def test_the_time_limit_of_a_process_includes_the_duration_of_its_phase(phased):
    limits = [wall_limit_s(name, phased.protocol) for name in ("latency", "sustained", "throughput", "power")]
    assert [limit - phased.protocol.timeout_s for limit in limits] == pytest.approx([0.0, 0.1, 0.05, 0.2])


@pytest.mark.parametrize("damaged", [b"\0" * 300, b"[]", b'{"answer": {"report": {}}}'])
@pytest.mark.parametrize("name", ["1", *long("power-read")])
def test_a_damaged_file_is_measured_again(spec, job_folder, tmp_path, name, damaged):
    """A power cut can damage more files of an SD card than the last one written."""
    powered = spec._replace(protocol=spec.protocol._replace(power_s=0.05, idle_s=0.02))
    pids = []
    measure_job(powered, CONTEXT, job_folder, FakeRecorder())
    (tmp_path / "kept" / f"answer-{CONTEXT.environment_id[:16]}-{name}.json").write_bytes(damaged)
    counting = job_folder._replace(on_start=lambda phase, child: pids.append(child.pid))
    assert measure_job(powered, CONTEXT, counting, FakeRecorder()).power.source == "ina3221"
    assert len(pids) == 1


def test_results_of_an_emulated_device_are_slower_and_marked(spec, job_folder, tmp_path):
    real = measure_job(spec, CONTEXT, job_folder)
    emulated = measure_job(spec, CONTEXT._replace(slowdown=8.0), job_folder)
    assert (real.emulated, emulated.emulated) == (False, True)
    assert emulated.latency_ms.p50 == pytest.approx(8 * real.latency_ms.p50)


def test_the_result_has_the_observations_of_the_device(spec, job_folder, tmp_path):
    tree = DeviceTree(str(tmp_path / "tree"))
    tree.zone(0, "cpu-thermal", 48300)
    tree.over_current(27390)
    measurement = measure_job(spec, CONTEXT, job_folder, system=System(tree.root))
    assert measurement.temperature == Temperature("cpu-thermal", 48.3, 48.3, 48.3)
    assert "throttling" not in measurement.reasons
    assert measurement.swap_mb is None
    assert "/proc/vmstat" in measurement.reasons["swap_mb"]
