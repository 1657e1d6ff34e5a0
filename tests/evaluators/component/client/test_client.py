import os
import shutil
import signal
import threading

import pytest

from support.artifact_files import added_row
from vitsearch_agent import DeviceClient
from vitsearch_agent.base.onnx_writer import Value, model, node
from vitsearch_agent.client import remote_job, transfer
from vitsearch_agent.client.client import Backoff, RequestOptions
from vitsearch_agent.client.transport import Reply
from vitsearch_agent.errors import (
    DeviceChanged,
    DeviceUnreachable,
    EnvironmentChanged,
    InvalidRequest,
    JobCancelled,
    MeasurementFailed,
    NotFound,
    ProtocolSkew,
    TransferFailed,
    Unauthorized,
)
from vitsearch_agent.wire.protocol import CONFIRM, job_id


def test_a_measurement_over_http(client, blob, tiny_protocol):
    measurement = client.measure(blob, "noop", {"busy_us": 50}, tiny_protocol, request=RequestOptions(trial=3))
    assert measurement.latency_ms.n == 11
    assert measurement.cpu_ms.min >= 0.05
    assert measurement.device_id == client.device().device_id
    assert measurement.environment_id == client.device().environment_id
    assert measurement.power is None
    assert measurement.reasons["power"]


def test_equal_requests_are_measured_once(agent, client, blob, tiny_protocol):
    first = client.measure(blob, "noop", {}, tiny_protocol)
    with agent.client("another study") as other:
        assert other.measure(first.artifact, "noop", {}, tiny_protocol) == first
    again = client.measure(blob, "noop", {}, tiny_protocol, repeat=1)
    assert again.job_id != first.job_id


@pytest.mark.long
def test_the_shapes_of_a_job_are_those_of_its_result(client, tmp_path, tiny_protocol):
    pytest.importorskip("onnxruntime")
    path = tmp_path / "open.onnx"
    path.write_bytes(added_row(("batch", "width")))
    with pytest.raises(MeasurementFailed, match="give, for example, --shape x=1,224"):
        client.measure(str(path), protocol=tiny_protocol)
    measurements = [client.measure(str(path), protocol=tiny_protocol._replace(shapes={"x": (n, 8)})) for n in (1, 2)]
    assert [(measurement.batch, measurement.shapes) for measurement in measurements] == [
        (1, {"x": (1, 8)}),
        (2, {"x": (2, 8)}),
    ]
    assert measurements[0].job_id != measurements[1].job_id


def test_a_refusal_at_run_time_reaches_the_client_as_the_runtimes_sentence(client, tmp_path, tiny_protocol):
    pytest.importorskip("onnxruntime")
    path = tmp_path / "open.onnx"
    path.write_bytes(added_row(("batch", "width")))
    with pytest.raises(MeasurementFailed, match="onnxruntime refuses to run the model: .*broadcast") as caught:
        client.measure(str(path), protocol=tiny_protocol._replace(shapes={"x": (1, 5)}))
    assert caught.value.kind == "incompatible_artifact"


def test_real_onnxruntime(client, tiny_onnx):
    pytest.importorskip("onnxruntime")
    protocol = CONFIRM._replace(id="test-2", processes=2, max_processes=2, min_runs=70, min_s=0.0)
    measurement = client.measure(tiny_onnx(), "onnxruntime", protocol=protocol)
    assert measurement.latency_ms.n >= 140
    assert measurement.latency_ms.p95 is not None
    assert measurement.paired.reference == CONFIRM.reference
    assert measurement.paired.times.processes >= 2
    assert measurement.cpu_ms.p50 > 0
    assert measurement.peak_memory_mb > 0
    assert measurement.runtime_baseline_mb > 10
    assert measurement.between_process_rel_spread is not None
    assert measurement.options["provider"] == "CPUExecutionProvider"
    assert client.measure(tiny_onnx(), "onnxruntime", protocol=protocol) == measurement


@pytest.fixture
def sent(client, monkeypatch):
    """The requests that the client sends: (method, path)."""
    requests, request = [], client._transport.request

    def watched(method, path, *arguments, **more):
        requests.append((method, path))
        return request(method, path, *arguments, **more)

    monkeypatch.setattr(client._transport, "request", watched)
    return requests


def test_a_file_that_is_not_a_model_is_refused_before_it_is_sent(client, sent, blob, tiny_protocol):
    pytest.importorskip("onnxruntime")
    with pytest.raises(MeasurementFailed, match="not an ONNX file") as caught:
        client.measure(blob, "onnxruntime", {}, tiny_protocol)
    assert caught.value.kind == "incompatible_artifact"
    assert {path for _, path in sent} == {"/v1/device"}


def test_a_model_that_is_too_new_is_refused_before_it_is_sent(client, sent, tmp_path, tiny_protocol):
    pytest.importorskip("onnxruntime")
    info = next(runtime for runtime in client.device().runtimes if runtime.name == "onnxruntime")
    path = write_model(tmp_path, opset=info.max_opset + 1)
    with pytest.raises(MeasurementFailed, match=f"opset {info.max_opset + 1}; .* reads up to {info.max_opset}"):
        client.measure(path, "onnxruntime", {}, tiny_protocol)
    assert {path for _, path in sent} == {"/v1/device"}


@pytest.mark.parametrize(
    ("less", "kind", "message"),
    [
        ({"max_blob_bytes": 1000}, "incompatible_artifact", "900000 bytes; the device accepts files of up to 1000"),
        ({"memory_mb": 0}, "out_of_memory", "the model alone has 1 MB; the device has 0 MB"),
    ],
)
def test_a_model_that_is_too_large_is_refused_before_it_is_sent(client, sent, blob, tiny_protocol, less, kind, message):
    client._info = client.device()._replace(**less)
    with pytest.raises(MeasurementFailed, match=message) as caught:
        client.measure(blob, "noop", {}, tiny_protocol)
    assert caught.value.kind == kind
    assert {path for _, path in sent} == {"/v1/device"}


@pytest.mark.long
def test_an_old_description_of_the_device_is_refreshed_before_a_refusal(client, tiny_onnx, tiny_protocol):
    pytest.importorskip("onnxruntime")
    info = client.device()
    older = [runtime._replace(max_opset=5, version="0.9") for runtime in info.runtimes]
    client._info = info._replace(runtimes=tuple(older))
    assert client.measure(tiny_onnx(), "onnxruntime", {}, tiny_protocol).latency_ms.n == 11


def test_the_agent_checks_a_model_that_the_client_does_not_have(agent, client, sent, tmp_path, tiny_protocol):
    pytest.importorskip("onnxruntime")
    path = write_model(tmp_path, ir_version=999)
    digest = client.upload(path)
    with agent.client("another study") as other, pytest.raises(MeasurementFailed, match="IR version 999") as caught:
        other.measure(digest, "onnxruntime", {}, tiny_protocol)
    assert caught.value.kind == "incompatible_artifact"
    assert client.jobs() == []


def test_a_model_that_only_the_runtime_refuses_is_a_final_failure(client, tmp_path, tiny_protocol):
    pytest.importorskip("onnxruntime")
    path = write_model(tmp_path, operator="NoSuchOperator")
    for _ in range(2):
        with pytest.raises(MeasurementFailed, match="rejects the model") as caught:
            client.measure(path, "onnxruntime", {}, tiny_protocol)
        assert caught.value.kind == "incompatible_artifact"


def test_both_files_of_an_openvino_model_are_one_artifact(client, tmp_path, tiny_protocol):
    (tmp_path / "model.xml").write_bytes(b"<net/>")
    with pytest.raises(InvalidRequest, match="needs .*model.bin, which does not exist"):
        client.measure(str(tmp_path / "model.xml"), "noop", {}, tiny_protocol)
    (tmp_path / "model.bin").write_bytes(b"weights")
    measurement = client.measure(str(tmp_path / "model.xml"), "noop", {"busy_us": 1}, tiny_protocol)
    (tmp_path / "model.bin").write_bytes(b"weighty")
    other = client.measure(str(tmp_path / "model.xml"), "noop", {"busy_us": 1}, tiny_protocol)
    assert measurement.artifact != other.artifact


def write_model(folder, opset=13, ir_version=7, operator="Identity"):
    ends = Value("x", "float32", (1,)), Value("y", "float32", (1,))
    path = folder / "written.onnx"
    path.write_bytes(model([node(operator, ["x"], "y")], ends[:1], ends[1:], opset, ir_version))
    return str(path)


def test_upload_continues_after_the_agent_was_killed(agent, client, tmp_path, monkeypatch):
    path = tmp_path / "large"
    path.write_bytes(os.urandom(900_000))
    monkeypatch.setattr(transfer, "_CHUNK_FIRST_BYTES", 100_000)
    monkeypatch.setattr(transfer, "CHUNK_MAX_BYTES", 100_000)
    offsets = []
    request = client._transport.request

    def watched(method, url, body=None, headers=None, **more):
        if method == "PATCH":
            offsets.append(int(headers["Upload-Offset"]))
            if len(offsets) == 4:
                os.kill(agent.pid, signal.SIGKILL)
                agent._process.wait()
        return request(method, url, body, headers, **more)

    monkeypatch.setattr(client._transport, "request", watched)
    sha256 = client.upload(str(path))
    assert offsets == list(range(0, 900_000, 100_000)), "no byte is sent twice"
    assert client.upload(str(path)) == sha256


def test_a_chunk_whose_answer_was_lost_is_not_sent_again(client, blob, monkeypatch):
    request = client._transport.request
    offsets = []

    def lossy(method, url, body=None, headers=None, **more):
        reply = request(method, url, body, headers, **more)
        if method == "PATCH":
            offsets.append(int(headers["Upload-Offset"]))
            if len(offsets) == 1:
                raise DeviceUnreachable("the answer was lost")
        return reply

    monkeypatch.setattr(client._transport, "request", lossy)
    client.upload(blob)
    assert offsets[:2] == [0, 256 << 10]


def test_a_damaged_upload_is_sent_once_more(client, blob, monkeypatch):
    request = client._transport.request
    damaged = []

    def damage(times):
        def send(method, url, body=None, headers=None, **more):
            if method == "PATCH" and headers["Upload-Offset"] == "0" and len(damaged) < times:
                damaged.append(url)
                body = b"?" + body[1:]
            return request(method, url, body, headers, **more)

        return send

    monkeypatch.setattr(client._transport, "request", damage(2))
    with pytest.raises(TransferFailed) as caught:
        client.upload(blob)
    assert caught.value.reason == "digest_mismatch"
    damaged.clear()
    monkeypatch.setattr(client._transport, "request", damage(1))
    assert client.upload(blob)


def test_an_agent_that_lost_queue_and_models_gets_both_again(agent, client, blob, tiny_protocol, tmp_path):
    first = client.measure(blob, "noop", {}, tiny_protocol)
    agent.stop()
    for name in ("jobs.sqlite", "jobs.sqlite-wal", "jobs.sqlite-shm"):
        if (tmp_path / "state" / name).exists():
            (tmp_path / "state" / name).unlink()
    shutil.rmtree(str(tmp_path / "state" / "blobs"))
    again = client.measure(blob, "noop", {}, tiny_protocol)
    assert again.job_id == first.job_id
    assert again.started_at >= first.started_at


def test_another_device_at_the_address_is_device_changed(agent, client, blob, tiny_protocol, tmp_path):
    client.device()
    agent.stop()
    (tmp_path / "state" / "device.json").unlink()
    with pytest.raises(DeviceChanged):
        client.measure(blob, "noop", {}, tiny_protocol)
    assert client.measure(blob, "noop", {}, tiny_protocol).latency_ms.n == 11


def test_a_wrong_token_is_a_final_error(agent, blob, tiny_protocol):
    with DeviceClient(agent.url, "wrong" * 8) as client, pytest.raises(Unauthorized):
        client.measure(blob, "noop", {}, tiny_protocol)


def test_an_unknown_digest_is_a_final_error(client, tiny_protocol):
    with pytest.raises(NotFound, match="does not have"):
        client.measure("ab" * 32, "noop", {}, tiny_protocol)


def test_a_device_that_does_not_answer_is_given_up_at_the_deadline(blob, tiny_protocol):
    client = DeviceClient("http://127.0.0.1:9", deadline_s=0.2, backoff=Backoff(0.01, 0.05))
    with pytest.raises(DeviceUnreachable, match="gave up after"):
        client.measure(blob, "noop", {}, tiny_protocol)


def test_waiting_can_be_cancelled(blob, tiny_protocol):
    cancel = threading.Event()
    cancel.set()
    client = DeviceClient("http://127.0.0.1:9", backoff=Backoff(600.0, 600.0))
    with pytest.raises(JobCancelled):
        client.measure(blob, "noop", {}, tiny_protocol, request=RequestOptions(cancel=cancel))


@pytest.mark.parametrize("versions", [{"api_min": 6, "api_max": 7}, {}, {"api_min": "1", "api_max": 2}])
def test_an_error_names_both_versions_if_no_version_is_shared(versions):
    client = DeviceClient("http://board")
    body = dict(versions, agent_version="9.0")
    client._transport.request = lambda *arguments, **more: Reply({}, body)
    with pytest.raises(ProtocolSkew, match=r"supports protocol 5 to 5, the agent \(version 9.0\)"):
        client.device()


def test_a_result_of_another_environment_is_refused(client, blob, tiny_protocol, monkeypatch):
    """The job was queued for our environment, and another client had it measured in a later one."""
    measurement = client.measure(blob, "noop", {}, tiny_protocol)
    request = client._transport.request

    def unpinned(method, path, body=None, *arguments, **more):
        if method == "PUT":
            body = dict(body, environment_id=None)
        return request(method, path, body, *arguments, **more)

    monkeypatch.setattr(client._transport, "request", unpinned)
    with pytest.raises(EnvironmentChanged) as caught:
        client.measure(blob, "noop", {}, tiny_protocol, request=RequestOptions(environment_id="ab" * 32))
    assert caught.value.details == {"wanted": "ab" * 32, "actual": measurement.environment_id}


def test_a_result_of_another_job_is_refused(client, blob, tiny_protocol, monkeypatch):
    client.measure(blob, "noop", {}, tiny_protocol)
    monkeypatch.setattr(remote_job, "job_id", lambda spec, device: job_id(spec, device + "?"))
    request = client._transport.request

    def answer_for_another(method, path, *arguments, **more):
        if method == "PUT":
            body = dict(arguments[0])
            from vitsearch_agent.wire.protocol import JobSpec

            path = "/v1/jobs/" + job_id(JobSpec.from_json(body["spec"]), body["device_id"])
        return request(method, path, *arguments, **more)

    monkeypatch.setattr(client._transport, "request", answer_for_another)
    with pytest.raises(MeasurementFailed, match="belongs to another job") as caught:
        client.measure(blob, "noop", {}, tiny_protocol)
    assert caught.value.kind == "protocol"


@pytest.mark.parametrize(
    ("now", "took_s", "then"),
    [
        (256 << 10, 0.1, 512 << 10),
        (1 << 20, 0.1, 1 << 20),
        (256 << 10, 1.0, 256 << 10),
        (256 << 10, 5.0, 128 << 10),
        (16 << 10, 50.0, 16 << 10),
    ],
)
def test_chunk_size_adapts_to_the_speed_of_the_link(now, took_s, then):
    assert transfer.next_chunk_bytes(now, took_s) == then
