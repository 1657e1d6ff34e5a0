import os

import pytest

from vitsearch_evaluators.child import StopSignal
from vitsearch_evaluators.errors import MeasurementFailed
from vitsearch_evaluators.execute import Conditions, execute, probe_runtime
from vitsearch_evaluators.protocol import BlobRef, JobSpec

CONDITIONS = Conditions("a1" * 32, "device-1", "c3" * 32, 2, 0.5)


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"x")
    return str(path)


@pytest.fixture
def spec(tiny_protocol):
    manifest = (BlobRef("model.onnx", "b2" * 32, 1),)
    return JobSpec("measure", manifest, "noop", {"busy_us": 10}, tiny_protocol._replace(processes=2))


def test_each_process_is_fresh_and_the_conditions_are_told(spec, model, tmp_path):
    pids = []
    stop = StopSignal()
    found = execute(spec, model, str(tmp_path), CONDITIONS, stop, lambda child: pids.append(child.pid))
    assert len(set(pids)) == 2
    assert os.getpid() not in pids
    assert found.latency_ms.n == 22
    assert found.between_process_rel_spread is not None
    assert (found.job_id, found.attempts, found.queue_s) == ("a1" * 32, 2, 0.5)
    assert found.emulated is False


def test_answers_of_an_interrupted_attempt_are_used_in_the_same_environment(spec, model, tmp_path):
    pids = []
    stop = StopSignal()
    execute(spec, model, str(tmp_path), CONDITIONS, stop)
    execute(spec, model, str(tmp_path), CONDITIONS, stop, lambda child: pids.append(child.pid))
    assert pids == []
    updated = CONDITIONS._replace(environment_id="d4" * 32)
    execute(spec, model, str(tmp_path), updated, stop, lambda child: pids.append(child.pid))
    assert len(pids) == 2


def test_samples_that_make_no_sense_are_a_protocol_failure(spec, model, tmp_path):
    name = f"answer-{CONDITIONS.environment_id[:16]}-0.json"
    (tmp_path / name).write_text('{"report": {"wall_ms": [1.0]}}')
    with pytest.raises(MeasurementFailed, match="missing") as caught:
        execute(spec, model, str(tmp_path), CONDITIONS, StopSignal())
    assert caught.value.kind == "protocol"


def test_probe(tmp_path):
    assert probe_runtime("noop", str(tmp_path), StopSignal()).available
    unknown = probe_runtime("nope", str(tmp_path), StopSignal())
    assert not unknown.available
    assert "unknown" in unknown.reason
