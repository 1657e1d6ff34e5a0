import glob
import os
import signal

import pytest

from vitsearch_agent.errors import EnvironmentChanged
from vitsearch_agent.measure.child.peaks import COPY_BYTES, GEMM_SIZE, PRECISIONS
from vitsearch_agent.measure.child_process import ChildDied, StopSignal
from vitsearch_agent.measure.job_context import JobContext
from vitsearch_agent.measure.job_folder import JobFolder
from vitsearch_agent.measure.peaks_job import measure_peaks
from vitsearch_agent.wire.protocol import PEAKS, JobSpec

CONTEXT = JobContext("a1" * 32, "device-1", "c3" * 32, 1, 0.5)
SPEC = JobSpec("peaks", (), "onnxruntime", {}, PEAKS._replace(min_s=0.01, threads=2))


@pytest.fixture
def job_folder(tmp_path):
    return JobFolder(str(tmp_path), StopSignal(), kept=str(tmp_path / "kept"))


def test_each_precision_is_measured_with_one_thread_and_with_all(job_folder):
    pytest.importorskip("onnxruntime")
    phases = []
    peaks = measure_peaks(SPEC, CONTEXT, job_folder._replace(on_start=lambda phase, _: phases.append(phase)))
    assert [(rate.precision, rate.threads, rate.size) for rate in peaks.gemm] == [
        (precision, threads, GEMM_SIZE) for precision in PRECISIONS for threads in (1, 2)
    ]
    assert all(rate.gflops.best >= rate.gflops.median > 0 for rate in peaks.gemm)
    assert (peaks.copy_bytes, peaks.options["provider"]) == (COPY_BYTES, "CPUExecutionProvider")
    assert peaks.emulated is False
    assert len(set(phases)) == 7

    again = measure_peaks(
        SPEC, CONTEXT._replace(slowdown=4.0), job_folder._replace(on_start=lambda *_: phases.append("again"))
    )
    assert "again" not in phases, "the answers of an interrupted attempt are used"
    assert again.emulated
    assert again.gemm[0].gflops.best == pytest.approx(peaks.gemm[0].gflops.best / 4)
    assert again.copy_gb_per_s.median == pytest.approx(peaks.copy_gb_per_s.median / 4)


def test_a_precision_that_a_runtime_does_not_support_has_a_reason(job_folder):
    peaks = measure_peaks(SPEC._replace(runtime="noop"), CONTEXT, job_folder)
    assert (peaks.gemm, peaks.runtime_version) == ((), None)
    assert all("noop gives no outputs" in peaks.reasons[precision] for precision in PRECISIONS)
    assert peaks.reasons["runtime_version"] == "the runtime ran no matrix product"
    assert peaks.copy_gb_per_s.best > 0


def test_peaks_of_another_version_of_the_runtime_are_refused(job_folder):
    pytest.importorskip("onnxruntime")
    with pytest.raises(EnvironmentChanged, match="the environment has 0"):
        measure_peaks(SPEC, CONTEXT._replace(runtime_version="0"), job_folder)


def test_a_damaged_answer_is_measured_again(job_folder):
    measure_peaks(SPEC._replace(runtime="noop"), CONTEXT, job_folder)
    (path,) = glob.glob(os.path.join(job_folder.kept, "answer-*-copy-1.json"))
    with open(path, "wb") as stream:
        stream.write(b"\0" * 200)
    assert measure_peaks(SPEC._replace(runtime="noop"), CONTEXT, job_folder).copy_gb_per_s.best > 0


def test_a_child_killed_from_outside_interrupts_the_job(job_folder):
    with pytest.raises(ChildDied):
        measure_peaks(SPEC, CONTEXT, job_folder._replace(on_start=lambda _, child: os.kill(child.pid, signal.SIGKILL)))


def test_peaks_are_measured_once_for_each_environment(client):
    peaks = client.peaks("noop", threads=1)
    assert peaks.environment_id == client.device().environment_id
    assert client.peaks("noop", threads=1) == peaks
    assert client.jobs() == []
