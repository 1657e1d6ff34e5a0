"""Access to real agents with real TLS: clients that are silent, slow, wrong or too many."""

import http.client
import json
import os
import shutil
import socket
import stat
import threading
from contextlib import ExitStack, closing
from urllib.parse import urlsplit

import pytest

from vitsearch_agent import DeviceClient
from vitsearch_agent.base import tls, tokens
from vitsearch_agent.base.system import System
from vitsearch_agent.client import remote_job, transfer
from vitsearch_agent.client.retry import Backoff
from vitsearch_agent.client.transport import Transport, peer_fingerprint
from vitsearch_agent.errors import (
    DeviceBusy,
    DeviceUnreachable,
    InvalidRequest,
    ProtocolSkew,
    Unauthorized,
    UntrustedDevice,
)
from vitsearch_agent.wire.protocol import PROTOCOL_VERSION, PROTOCOL_VERSION_MIN

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl command here")

TIMEOUT_S = 60.0


@pytest.fixture
def served(serve_agent):
    return serve_agent("--tls")


def open_line(agent):
    return closing(socket.create_connection(("127.0.0.1", agent.port), timeout=TIMEOUT_S))


def listening():
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    return listener


@needs_openssl
def test_a_measurement_over_tls_and_the_files_on_the_disk(served, blob, tiny_protocol):
    with served.client() as client:
        assert client.measure(blob, "noop", {}, tiny_protocol).latency_ms.n == 11
    assert served.fingerprint == peer_fingerprint(served.url, TIMEOUT_S)
    for name in (tokens.FILE_NAME, tls.FILE_NAME):
        assert stat.S_IMODE(os.stat(os.path.join(served.state, name)).st_mode) == 0o600
    assert served.token not in served.logged
    assert f"vitsearch devices add {served.url} --fingerprint {served.fingerprint}" in served.logged


@needs_openssl
def test_silent_and_slow_clients_do_not_block_others(served):
    """Each connection does its handshake in its own thread (one silent client once blocked all others)."""
    with served.client() as client:
        client.device()  # the agent has started in full
    with ExitStack() as closing_all:
        silent = [closing_all.enter_context(open_line(served)) for _ in range(6)]
        slow = closing_all.enter_context(open_line(served))
        slow.sendall(b"\x16\x03\x01")
        with served.client() as client:
            assert client.device().queued == 0
        for line in silent:
            line.settimeout(0.0)
            with pytest.raises(BlockingIOError):
                line.recv(1)


@needs_openssl
@pytest.mark.long
def test_a_client_without_a_handshake_is_disconnected(served):
    with open_line(served) as line:
        assert line.recv(1) == b""


@needs_openssl
def test_another_certificate_is_a_final_error_with_both_fingerprints(served, blob):
    pinned = "sha256:" + "ab" * 32
    with served.client(fingerprint=pinned) as client, pytest.raises(UntrustedDevice) as caught:
        client.upload(blob)
    assert pinned in str(caught.value)
    assert served.fingerprint in str(caught.value)


@needs_openssl
def test_nothing_is_sent_to_a_machine_with_another_certificate(tmp_path):
    """A machine in the middle sees neither token nor model."""
    context = tls.server_context(tls.own_certificate(str(tmp_path), System()))
    received = []
    with listening() as listener:

        def eavesdrop():
            raw, _ = listener.accept()
            with context.wrap_socket(raw, server_side=True) as line:
                try:
                    received.append(line.recv(100))
                except OSError as error:
                    received.append(error)

        thread = threading.Thread(target=eavesdrop)
        thread.start()
        url = f"https://127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(UntrustedDevice):
            Transport(url, "t" * 64, TIMEOUT_S, "sha256:" + "ab" * 32).request("GET", "/v1/device")
        thread.join()
    assert received[0] == b"" or isinstance(received[0], OSError)


@needs_openssl
def test_without_a_fingerprint_an_authority_must_have_signed(served):
    with served.client(fingerprint=None) as client, pytest.raises(UntrustedDevice, match="pin its fingerprint"):
        client.device()


@needs_openssl
def test_a_wrong_scheme_is_explained(served, module_agent):
    pin = served.fingerprint
    wrong = {
        "its address begins with https://": (served.url.replace("https", "http"), None),
        "its address begins with http://": (module_agent.url.replace("http", "https"), pin),
        "a fingerprint needs an https": (module_agent.url, pin),
    }
    for message, (url, fingerprint) in wrong.items():
        client = DeviceClient(url, served.token, fingerprint=fingerprint)
        with client, pytest.raises(InvalidRequest, match=message):
            client.device()


@needs_openssl
def test_a_given_certificate_is_used(served, tmp_path, serve_agent):
    (tmp_path / "mine").mkdir()
    mine = tls.own_certificate(str(tmp_path / "mine"), System())
    served.close()
    again = serve_agent("--tls-cert", mine.cert, "--tls-key", mine.key)
    assert again.fingerprint == mine.fingerprint
    with again.client() as client:
        assert client.device().queued == 0


@needs_openssl
def test_a_network_gets_plain_text_only_on_request(serve_agent):
    encrypted = serve_agent("--host", "0.0.0.0")
    with encrypted.client() as client:
        assert client.device().queued == 0
    encrypted.close()
    plain = serve_agent("--host", "0.0.0.0", "--insecure-plaintext")
    assert plain.fingerprint is None
    assert "unencrypted" in plain.logged
    with plain.client() as client:
        assert client.device().queued == 0
    with plain.client(token="t" * 64) as client, pytest.raises(Unauthorized):
        client.device()


def test_a_token_rotated_during_a_run_is_a_final_error(serve_agent, blob, tiny_protocol, monkeypatch):
    """Exactly one request is refused; the client does not retry."""
    served = serve_agent()
    answers = []
    with served.client(deadline_s=3600.0, backoff=Backoff(3600.0, 3600.0)) as client:
        request = client._transport.request

        def watched(method, path, *arguments, **more):
            if method == "PUT" and path.startswith("/v1/jobs"):
                tokens.rotate(served.token_file, keep_old=False)
            try:
                reply = request(method, path, *arguments, **more)
            except Unauthorized:
                answers.append(401)
                raise
            answers.append(200)
            return reply

        monkeypatch.setattr(client._transport, "request", watched)
        with pytest.raises(Unauthorized, match="was rotated"):
            client.measure(blob, "noop", {}, tiny_protocol)
    assert answers.count(401) == 1
    assert answers[-1] == 401
    with served.client() as client:
        assert client.measure(blob, "noop", {}, tiny_protocol).latency_ms.n == 11


OTHER_VERSION = """
import sys
from vitsearch_agent.server import api
from vitsearch_agent.cli import app
api.PROTOCOL_VERSION_MIN = api.PROTOCOL_VERSION = int(sys.argv[1])
sys.exit(app.main(sys.argv[2:]))
"""


@pytest.mark.parametrize("version", [0, 99])
def test_an_agent_of_another_version_is_a_final_error_with_both_versions(serve_agent, blob, version, tmp_path):
    """An agent that is older than the client, and one that is newer."""
    script = tmp_path / "other.py"
    script.write_text(OTHER_VERSION)
    served = serve_agent(program=[str(script), str(version)])
    with served.client() as client, pytest.raises(ProtocolSkew) as caught:
        client.measure(blob, "noop")
    assert caught.value.details == {"client": [PROTOCOL_VERSION_MIN, PROTOCOL_VERSION], "agent": [version, version]}
    assert f"supports protocol {PROTOCOL_VERSION_MIN} to {PROTOCOL_VERSION}" in str(caught.value)
    assert f"{version} to {version}" in str(caught.value)
    path = "/v1/jobs/" + "a" * 64
    with served.client() as client, pytest.raises(ProtocolSkew, match=f"this agent {version} to {version}"):
        client._transport.request("PUT", path, {"api": PROTOCOL_VERSION})


def test_a_client_over_the_rate_limit_waits_and_succeeds(serve_agent):
    served = serve_agent(config={"limits": {"requests_per_s": 5}})
    transport = Transport(served.url, served.token, TIMEOUT_S)

    def ask_until_refused():
        while True:
            transport.request("GET", "/v1/health")

    with closing(transport), pytest.raises(DeviceBusy, match="5 requests a second") as caught:
        ask_until_refused()
    assert 0 < caught.value.details["retry_after_s"] <= 0.2
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=TIMEOUT_S)
    statuses = set()
    while 429 not in statuses:
        connection.request("GET", "/v1/health")
        response = connection.getresponse()
        response.read()
        statuses.add(response.status)
    assert response.headers["Retry-After"] == "1"
    connection.close()


def test_uploads_succeed_with_a_low_rate_limit(serve_agent, tmp_path, monkeypatch):
    monkeypatch.setattr(transfer, "_CHUNK_FIRST_BYTES", 1000)
    monkeypatch.setattr(transfer, "CHUNK_MAX_BYTES", 1000)
    served = serve_agent(config={"limits": {"requests_per_s": 20}})
    path = tmp_path / "file"
    path.write_bytes(bytes(30_000))
    with served.client() as client:
        assert client.upload(str(path))


def test_a_flood_from_one_address_does_not_block_others(serve_agent):
    """127.0.0.1 sends too much; 127.0.0.2 is another client of the same agent."""
    served = serve_agent("--host", "0.0.0.0", "--insecure-plaintext", config={"limits": {"connections": 4}})
    with ExitStack() as closing_all:
        crowd = [closing_all.enter_context(open_line(served)) for _ in range(12)]
        assert crowd[-1].recv(100).startswith(b"HTTP/1.1 503")
        with pytest.raises((DeviceBusy, DeviceUnreachable)):
            Transport(served.url, served.token, TIMEOUT_S).request("GET", "/v1/health")
        other = http.client.HTTPConnection("127.0.0.1", served.port, timeout=TIMEOUT_S, source_address=("127.0.0.2", 0))
        other.request("GET", "/v1/health")
        assert other.getresponse().read().startswith(b'{"ok"')
        other.close()


@pytest.mark.parametrize(
    ("request_text", "status"),
    [
        (b"GET /v1/health HTTP/1.1\r\n" + b"X: y\r\n" * 4000 + b"\r\n", b"431"),
        (b"GET /v1/health HTTP/9.9\r\n\r\n", b"400"),
        (b"BREW /v1/health HTTP/1.1\r\n\r\n", b"401"),
        (b"nonsense\r\n\r\n", b"400"),
        (b"PUT /v1/jobs/x HTTP/1.1\r\nContent-Length: \xb2\r\n\r\n", b"400"),
        (b"PUT /v1/jobs/x HTTP/1.1\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n", b"400"),
        (b"PUT /v1/jobs/x HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", b"400"),
        (b"GET http://[ HTTP/1.1\r\n\r\n", b"401"),
    ],
)
def test_malformed_requests_get_a_json_error(module_agent, request_text, status):
    with socket.create_connection(("127.0.0.1", urlsplit(module_agent.url).port), timeout=TIMEOUT_S) as line:
        line.sendall(request_text)
        answer = b""
        while b"}}" not in answer:
            data = line.recv(1 << 16)
            assert data, answer
            answer += data
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.split(b"\r\n")[0].split()[1] == status
    assert body.startswith(b'{"error": {"code": ')


class Blackhole:
    """A proxy that stops forwarding after a number of bytes and closes nothing: a half-open connection."""

    def __init__(self, port, swallow_after):
        self._port, self._left = port, swallow_after
        self._listener = listening()
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._sockets = [self._listener]
        self.lines = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            self.lines += 1
            far = socket.create_connection(("127.0.0.1", self._port))
            self._sockets += [near, far]
            threading.Thread(target=self._pass_on, args=(near, far, False), daemon=True).start()
            threading.Thread(target=self._pass_on, args=(far, near, True), daemon=True).start()

    def _pass_on(self, source, target, counted):
        try:
            while True:
                data = source.recv(1 << 16)
                if counted and self._left is not None:
                    self._left -= len(data)
                    if self._left < 0:
                        self._left = None
                        return  # only this line is dead; the next one works
                if not data:
                    target.shutdown(socket.SHUT_WR)
                    return
                target.sendall(data)
        except OSError:
            pass

    def close(self):
        for each in self._sockets:
            each.close()


def test_a_half_open_connection_is_detected_and_nothing_is_measured_twice(
    serve_agent, blob, tiny_protocol, monkeypatch
):
    """The other end is gone without a packet: only the read timeout, which each answer renews, detects it."""
    served = serve_agent()
    monkeypatch.setattr(remote_job, "_POLL_S", 0.5)
    with served.client() as client:
        reply_bytes = len(json.dumps(client.device().to_json()))
    with closing(Blackhole(served.port, reply_bytes + 1500)) as proxy:
        settings = {"timeout_s": 1.0, "deadline_s": TIMEOUT_S, "backoff": Backoff(0.01, 0.1)}
        with DeviceClient(proxy.url, served.token, **settings) as client:
            measurement = client.measure(blob, "noop", {}, tiny_protocol)
        assert proxy.lines > 1
    assert measurement.attempts == 1
