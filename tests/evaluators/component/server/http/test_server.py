"""Raw HTTP requests to a real agent."""

import hashlib
import json
import os
import socket
import threading
from urllib.parse import urlsplit

import pytest

from vitsearch_agent.wire.protocol import PROTOCOL_VERSION, BlobRef, JobSpec, job_id

SHA256 = hashlib.sha256(b"never uploaded").hexdigest()
SIZE = 1000
UPLOAD = {"Upload-Offset": "0", "Upload-Length": str(SIZE)}


@pytest.fixture
def agent(module_agent):
    """The module's one agent: each test uploads bytes of its own and so has a job of its own."""
    return module_agent


@pytest.fixture
def data():
    return os.urandom(SIZE)


@pytest.fixture
def sha256(data):
    return hashlib.sha256(data).hexdigest()


def error_of(reply):
    return reply[0], reply[1]["error"]["code"]


@pytest.fixture
def job(ask, tiny_protocol, data, sha256):
    """A job whose blob was uploaded: (path, body)."""
    assert ask("PATCH", f"/v1/blobs/{sha256}", data, UPLOAD)[0] == 200
    device_id = ask("GET", "/v1/device")[1]["device_id"]
    spec = JobSpec("measure", (BlobRef("model.onnx", sha256, SIZE),), "noop", {}, tiny_protocol)
    owner = {"study": "s", "trial": None}
    body = {"api": PROTOCOL_VERSION, "device_id": device_id, "owner": owner, "spec": spec.to_json()}
    return f"/v1/jobs/{job_id(spec, device_id)}", body


def test_health_needs_no_token_and_reveals_no_secret(ask):
    status, body, _ = ask("GET", "/v1/health", headers={"Authorization": ""})
    assert status == 200
    assert body == {
        "ok": True,
        "problems": [],
        "worker_alive": True,
        "version": "0.1.0",
        "api_min": PROTOCOL_VERSION,
        "api_max": PROTOCOL_VERSION,
    }


@pytest.mark.parametrize("header", ["", "Bearer wrong", "Basic x", "Bearer \u00e9"])
@pytest.mark.parametrize(("method", "path"), [("GET", "/v1/device"), ("PUT", "/v1/jobs/x"), ("GET", "/nope")])
def test_all_other_endpoints_need_a_token(ask, method, path, header):
    headers = {"Authorization": header.encode("latin-1")}
    assert error_of(ask(method, path, b"{}", headers)) == (401, "unauthorized")


def test_upload_in_two_chunks_with_preflight_and_head(ask, data, sha256):
    status, body, _ = ask("POST", "/v1/uploads", {"sha256": sha256, "size": SIZE})
    assert (status, body) == (201, {"complete": False, "offset": 0, "chunk_max_bytes": 1 << 20})
    assert ask("HEAD", f"/v1/blobs/{sha256}")[0] == 404
    assert ask("PATCH", f"/v1/blobs/{sha256}", data[:400], UPLOAD)[1]["offset"] == 400
    headers = ask("HEAD", f"/v1/blobs/{sha256}")[2]
    assert (headers["Upload-Offset"], headers["Upload-Length"]) == ("400", None)
    wrong = ask("PATCH", f"/v1/blobs/{sha256}", data[:400], UPLOAD)
    assert error_of(wrong) == (409, "transfer_failed")
    assert wrong[1]["error"]["details"]["offset"] == 400
    rest = dict(UPLOAD, **{"Upload-Offset": "400"})
    assert ask("PATCH", f"/v1/blobs/{sha256}", data[400:], rest)[1] == {"complete": True, "offset": 1000}
    assert ask("POST", "/v1/uploads", {"sha256": sha256, "size": SIZE})[0] == 200
    assert ask("HEAD", f"/v1/blobs/{sha256}")[2]["Upload-Length"] == "1000"


def test_a_wrong_digest_is_422_and_removes_the_upload(ask, data, sha256):
    reply = ask("PATCH", f"/v1/blobs/{sha256}", b"x" + data[1:], UPLOAD)
    assert error_of(reply) == (422, "transfer_failed")
    assert ask("HEAD", f"/v1/blobs/{sha256}")[0] == 404


def test_a_too_large_announced_size_is_413_before_the_body(ask):
    assert ask("POST", "/v1/uploads", {"sha256": SHA256, "size": 1 << 40})[0] == 413


def test_a_refusal_while_the_body_is_sent_arrives_as_a_status(ask):
    """An answer before the body was read would reset the connection."""
    assert ask("PATCH", "/v1/blobs/nope", b"x" * (1 << 20), UPLOAD)[0] == 404
    assert error_of(ask("PUT", "/v1/jobs/" + SHA256, b" " * (1 << 20))) == (400, "invalid_request")


@pytest.mark.parametrize(
    "path",
    [
        "/v1/jobs/../../etc/passwd",
        "/v1/blobs/..%2f..%2fdevice.json",
        "/v1/jobs/%2e%2e",
        "/v1/jobs/" + "A" * 64,
        "/v1/blobs/" + "a" * 63,
        "/v1/jobs/" + "a" * 64 + "%0a",
        "/v1//jobs",
        "/",
    ],
)
def test_paths_without_a_valid_id_are_404(ask, path):
    for method in ("GET", "PUT", "PATCH", "DELETE"):
        assert ask(method, path, b"{}", UPLOAD)[0] == 404


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"api": NaN}', b'{"api":1,"api":1}', b"\xff", b"[" * 90_000])
def test_bad_json_is_400(ask, body):
    assert ask("PUT", "/v1/jobs/" + SHA256, body)[0] == 400


def test_too_large_json_is_413(ask):
    assert ask("PUT", "/v1/jobs/" + SHA256, b" " * ((1 << 20) + 1))[0] == 413


def test_putting_a_job_twice_returns_the_same_job(ask, job):
    path, body = job
    first, again = ask("PUT", path, body), ask("PUT", path, body)
    assert (first[0], again[0]) == (201, 200)
    done = ask("GET", path + "?wait=25")[1]
    assert done["state"] == "done"
    assert ask("PUT", path, body)[:2] == (200, done)
    assert ask("DELETE", path)[1] == ask("DELETE", path)[1] == done


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"api": 99}, 400, "protocol_skew"),
        ({"device_id": "other"}, 409, "device_changed"),
        ({"extra": 1}, 400, "invalid_request"),
        ({"owner": {"study": "s"}}, 400, "invalid_request"),
    ],
)
def test_invalid_jobs_are_refused(ask, job, change, status, code):
    path, body = job
    assert error_of(ask("PUT", path, dict(body, **change))) == (status, code)


@pytest.mark.parametrize(
    ("change", "status", "code", "message"),
    [
        ({"repeat": 1}, 409, "job_conflict", "is not the id of this job"),
        ({"kind": "outputs"}, 400, "invalid_request", "an outputs job needs one of none, argmax_uint8"),
        ({"kind": "outputs", "reduction": "none"}, 400, "invalid_request", "with images.npy; got model.onnx"),
        ({"runtime": "nop"}, 400, "invalid_request", "did you mean 'noop'"),
        ({"options": {"plugin": "x.so"}}, 400, "invalid_request", "no such option"),
    ],
)
def test_invalid_specifications_are_refused_with_a_message(ask, job, change, status, code, message):
    path, body = job
    body = dict(body, spec=dict(body["spec"], **change))
    if status == 400 and change.keys() & {"runtime", "options"}:
        path = "/v1/jobs/" + job_id(JobSpec.from_json(body["spec"]), body["device_id"])
    reply = ask("PUT", path, body)
    assert error_of(reply) == (status, code)
    assert message in reply[1]["error"]["message"]


def test_a_wrong_size_does_not_block_the_id_for_a_correct_job(ask, job):
    path, body = job
    manifest = [dict(body["spec"]["manifest"][0], size=1)]
    reply = ask("PUT", path, dict(body, spec=dict(body["spec"], manifest=manifest)))
    assert error_of(reply) == (400, "invalid_request")
    assert f"model.onnx has {SIZE} bytes, not 1" in reply[1]["error"]["message"]
    assert ask("PUT", path, body)[0] == 201


def test_a_job_with_a_missing_blob_is_424_and_names_it(ask, job):
    _, body = job
    missing = "ab" * 32
    manifest = [{"name": "model.onnx", "sha256": missing, "size": 1}]
    spec = JobSpec.from_json(dict(body["spec"], manifest=manifest))
    path = "/v1/jobs/" + job_id(spec, body["device_id"])
    reply = ask("PUT", path, dict(body, spec=spec.to_json()))
    assert error_of(reply) == (424, "artifact_missing")
    assert reply[1]["error"]["retryable"] is True
    assert reply[1]["error"]["details"] == {"missing": [missing]}


def test_concurrent_puts_make_one_job(ask, job):
    path, body = job
    statuses = []
    threads = [threading.Thread(target=lambda: statuses.append(ask("PUT", path, body)[0])) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [200] * 7 + [201]


def open_socket(agent):
    parts = urlsplit(agent.url)
    return socket.create_connection((parts.hostname, parts.port), timeout=60)


def test_chunked_bodies_are_refused(agent):
    with open_socket(agent) as connection:
        request = "PUT /v1/jobs/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        connection.sendall(request.encode())
        assert b"400" in connection.recv(4096).split(b"\r\n")[0]


@pytest.mark.parametrize(("length", "first"), [(1000, b"100 Continue"), (1 << 21, b"413 ")])
def test_expect_100_continue_is_answered_or_refused(agent, length, first, data, sha256):
    """As curl does with files: a body that is refused because of its length is never sent."""
    with open_socket(agent) as connection:
        head = f"PATCH /v1/blobs/{sha256} HTTP/1.1\r\nAuthorization: Bearer {agent.token}\r\n"
        head += f"Upload-Offset: 0\r\nUpload-Length: {length}\r\nContent-Length: {length}\r\n"
        connection.sendall(head.encode() + b"Expect: 100-continue\r\n\r\n")
        assert connection.recv(4096).startswith(b"HTTP/1.1 " + first)
        if length == SIZE:
            connection.sendall(data)
            assert connection.recv(4096).startswith(b"HTTP/1.1 200 OK")
        else:
            assert connection.recv(4096) == b""


@pytest.mark.parametrize(
    "line",
    [
        "Content-Length : 5",
        "no header",
        " \tContent-Length: 5",
        "X: a\rContent-Length: 5",
        "X: a\r\n Content-Length: 5",
        "X: a\0",
        "X: a\x0bb",
    ],
)
def test_a_malformed_header_line_is_refused(agent, line):
    """Otherwise a proxy may take for a body what the agent takes for a second request, or the other way round."""
    with open_socket(agent) as connection:
        request = f"GET /v1/jobs HTTP/1.1\r\n{line}\r\nAuthorization: Bearer {agent.token}\r\n\r\nhello"
        connection.sendall(request.encode())
        answer = connection.recv(4096)
        assert answer.startswith(b"HTTP/1.1 400")
        assert b"Connection: close" in answer


@pytest.mark.parametrize("odd", ["1e999", "-1e400", "[" * 5000 + "]" * 5000, "9" * 100_000])
def test_json_without_a_canonical_form_is_refused(job, ask, odd):
    """As an option, which is not checked before the job's id is computed."""
    path, body = job
    body["spec"]["options"] = {"busy_us": "odd"}
    reply = ask("PUT", path, json.dumps(body).replace('"odd"', odd).encode())
    assert error_of(reply) == (400, "invalid_request")


def test_an_upload_whose_client_disconnects_leaves_nothing(agent, ask, data, sha256):
    with open_socket(agent) as connection:
        head = f"PATCH /v1/blobs/{sha256} HTTP/1.1\r\nAuthorization: Bearer {agent.token}\r\n"
        head += "Upload-Offset: 0\r\nUpload-Length: 1000\r\nContent-Length: 1000\r\n\r\n"
        connection.sendall(head.encode() + data[:10])
    assert ask("HEAD", f"/v1/blobs/{sha256}")[0] == 404


def test_one_connection_serves_many_requests(agent):
    import http.client

    parts = urlsplit(agent.url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=60)
    connection.connect()
    used = connection.sock
    for path in ("/v1/health", "/v1/device", "/nope"):
        connection.request("GET", path, headers={"Authorization": f"Bearer {agent.token}"})
        response = connection.getresponse()
        assert json.loads(response.read())
        assert connection.sock is used
    connection.close()
