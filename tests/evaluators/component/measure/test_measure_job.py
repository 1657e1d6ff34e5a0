import os

import pytest

from vitsearch_evaluators.base.system import System
from vitsearch_evaluators.conditions.emulation import DeviceTree
from vitsearch_evaluators.conditions.job_context import JobContext
from vitsearch_evaluators.errors import MeasurementFailed
from vitsearch_evaluators.measure.child_process import StopSignal
from vitsearch_evaluators.measure.job_folder import JobFolder
from vitsearch_evaluators.measure.measure_job import PowerRecorder, measure_job, wall_limit_s
from vitsearch_evaluators.wire.measurement import Temperature
from vitsearch_evaluators.wire.protocol import BlobRef, JobSpec, Power

CONTEXT = JobContext("a1" * 32, "device-1", "c3" * 32, 2, 0.5)


@pytest.fixture
def job_folder(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"x")
    return JobFolder(str(tmp_path), StopSignal())


@pytest.fixture
def spec(tiny_protocol):
    manifest = (BlobRef("model.onnx", "b2" * 32, 1),)
    return JobSpec("measure", manifest, "noop", {"busy_us": 10}, tiny_protocol._replace(processes=2))


def test_each_process_is_fresh_and_the_conditions_are_told(spec, job_folder, tmp_path):
    pids = []
    found = measure_job(spec, CONTEXT, job_folder._replace(on_start=lambda phase, child: pids.append(child.pid)))
    assert len(set(pids)) == 2
    assert os.getpid() not in pids
    assert found.latency_ms.n == 22
    assert found.between_process_rel_spread is not None
    assert (found.job_id, found.attempts, found.queue_s) == ("a1" * 32, 2, 0.5)
    assert found.emulated is False


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


class Notebook(PowerRecorder):
    """A recorder that keeps what it is told instead of reading a meter."""

    def __init__(self, absent=None):
        self.told = []
        self.why_absent = absent

    def unavailable_reason(self):
        return self.why_absent

    def start(self):
        self.told.append("start")

    def stop(self):
        self.told.append("stop")

    def power(self, report):
        self.told.append(report)
        return Power(4.5, 2.0, 9.0, 5.0, "ina3221", "module", False, 20.0, 200, None), None


def test_each_phase_is_a_process_of_its_own(phased, job_folder, tmp_path):
    ran, recorder = [], Notebook()
    found = measure_job(phased, CONTEXT, job_folder._replace(on_start=lambda *one: ran.append(one)), recorder)
    pids = [child.pid for _, child in ran]
    assert [phase for phase, _ in ran] == ["latency", "latency", "sustained", "throughput", "power"]
    assert len(set(pids)) == 5
    assert found.latency_ms.n == 22
    assert found.sustained.n == 11
    assert found.throughput_ips != pytest.approx(1e3 / found.latency_ms.mean, rel=1e-9)
    assert found.power.energy_mj == 9.0
    assert {"sustained", "power"}.isdisjoint(found.reasons)
    start, stop, report = recorder.told
    assert (start, stop) == ("start", "stop")
    assert report.idle_before[0] < report.idle_before[1] <= report.load[0] < report.load[1] <= report.idle_after[0]
    assert report.inferences >= 1


def test_phases_that_an_interrupted_attempt_finished_are_not_run_again(phased, job_folder, tmp_path):
    pids = []
    first = measure_job(phased, CONTEXT, job_folder, recorder=Notebook())
    for name in os.listdir(str(tmp_path)):
        if name.endswith(("-throughput.json", "-power-read.json")):
            os.remove(str(tmp_path / name))
    recorder = Notebook()
    again = measure_job(
        phased, CONTEXT, job_folder._replace(on_start=lambda phase, child: pids.append(child.pid)), recorder
    )
    assert len(pids) == 2
    assert len(recorder.told) == 3, "windows without the looks at the meter are worth nothing"
    assert (again.sustained, again.power) == (first.sustained, first.power)


@pytest.mark.parametrize(
    ("recorder", "reason"), [(None, "no power meter"), (Notebook("the logger does not run"), "the logger does not run")]
)
def test_without_a_meter_the_power_phase_is_a_reason_and_not_run(phased, job_folder, tmp_path, recorder, reason):
    pids = []
    only = phased._replace(protocol=phased.protocol._replace(throughput_s=0.0, soak_s=0.0, processes=1))
    found = measure_job(only, CONTEXT, job_folder._replace(on_start=lambda _, child: pids.append(child.pid)), recorder)
    assert (found.power, found.reasons["power"]) == (None, reason)
    assert len(pids) == 1


class Reticent(JobFolder):
    """Where the program that runs the model tells nothing but the latency."""

    def run(self, phase, job, limit_s):
        return super().run(phase, job, limit_s) if phase == "latency" else {"not_provided": f"it tells no {phase}"}


def test_what_a_program_cannot_tell_is_a_reason_and_the_job_stands(phased, job_folder):
    recorder = Notebook()
    found = measure_job(phased, CONTEXT, Reticent(*job_folder), recorder)
    assert found.latency_ms.n == 22
    assert (found.sustained, found.throughput_ips, found.power) == (None, None, None)
    told = {key: found.reasons[key] for key in ("sustained", "throughput_ips", "power")}
    assert told == {
        "sustained": "it tells no sustained", "throughput_ips": "it tells no throughput", "power": "it tells no power"
    }  # fmt: skip
    assert recorder.told == ["start", "stop"]


def test_a_process_may_take_the_time_of_its_phase_beyond_the_limit(phased):
    limits = [wall_limit_s(name, phased.protocol) for name in ("latency", "sustained", "throughput", "power")]
    assert [limit - phased.protocol.max_s for limit in limits] == pytest.approx([0.0, 0.1, 0.05, 0.2])


def test_samples_that_make_no_sense_are_a_protocol_failure(spec, job_folder, tmp_path):
    measure_job(spec, CONTEXT, job_folder)
    name = f"answer-{CONTEXT.environment_id[:16]}-0.json"
    (tmp_path / name).write_text('{"report": {"wall_ms": [1.0]}}')
    with pytest.raises(MeasurementFailed, match="missing") as caught:
        measure_job(spec, CONTEXT, job_folder)
    assert caught.value.kind == "protocol"


def test_an_answer_without_what_was_seen_meanwhile_is_taken_again(spec, job_folder, tmp_path):
    pids = []
    measure_job(spec, CONTEXT, job_folder)
    os.remove(str(tmp_path / f"answer-{CONTEXT.environment_id[:16]}-1-seen.json"))
    measure_job(spec, CONTEXT, job_folder._replace(on_start=lambda phase, child: pids.append(child.pid)))
    assert len(pids) == 1


@pytest.mark.parametrize("spoilt", [b"\0" * 300, b"[]"])
@pytest.mark.parametrize("name", ["1", "1-seen", "power-read"])
def test_what_the_disk_has_spoilt_is_measured_again(spec, job_folder, tmp_path, name, spoilt):
    """Power that goes costs an SD card more than what was written last."""
    powered = spec._replace(protocol=spec.protocol._replace(power_s=0.05, idle_s=0.02))
    pids = []
    measure_job(powered, CONTEXT, job_folder, Notebook())
    (tmp_path / f"answer-{CONTEXT.environment_id[:16]}-{name}.json").write_bytes(spoilt)
    counting = job_folder._replace(on_start=lambda phase, child: pids.append(child.pid))
    assert measure_job(powered, CONTEXT, counting, Notebook()).power.source == "ina3221"
    assert len(pids) == 1


def test_an_emulated_device_is_slower_and_says_so(spec, job_folder, tmp_path):
    real = measure_job(spec, CONTEXT, job_folder)
    emulated = measure_job(spec, CONTEXT._replace(slowdown=8.0), job_folder)
    assert (real.emulated, emulated.emulated) == (False, True)
    assert emulated.latency_ms.p50 == pytest.approx(8 * real.latency_ms.p50)


def test_what_the_device_went_through_is_told(spec, job_folder, tmp_path):
    tree = DeviceTree(str(tmp_path / "tree"))
    tree.zone(0, "cpu-thermal", 48300)
    tree.over_current(27390)
    found = measure_job(spec, CONTEXT, job_folder, system=System(tree.root))
    assert found.temperature == Temperature("cpu-thermal", 48.3, 48.3, 48.3)
    assert "throttling" not in found.reasons
    assert found.swap_mb is None
    assert "/proc/vmstat" in found.reasons["swap_mb"]
