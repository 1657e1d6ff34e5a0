import http.server
import socket
import socketserver
import threading

import pytest

from vitsearch_agent.client.transport import Transport
from vitsearch_agent.errors import (
    AgentError,
    DeviceBusy,
    DeviceUnreachable,
    InvalidRequest,
    NotFound,
)


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True


@pytest.fixture
def serve():
    """serve(status, body, close_after_each=False) -> URL of a server that gives the same answer to every request."""
    servers = []

    def start(status, body, close_after_each=False):
        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
                if close_after_each:
                    self.close_connection = True  # without announcing it

            def log_message(self, *arguments):
                pass

        server = Server(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        servers.append((server, thread))
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server, thread in servers:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (200, b"<html>", AgentError),
        (404, b"<html>", NotFound),
        (503, b"", DeviceBusy),
        (500, b"oops", AgentError),
        (429, b'{"error": {"code": "busy", "message": "m"}}', DeviceBusy),
    ],
)
def test_error_answers_become_errors_of_their_class(serve, status, body, kind):
    transport = Transport(serve(status, body), None, 30.0)
    with pytest.raises(kind):
        transport.request("GET", "/v1/device")
    transport.close()


def test_a_refused_connection_is_transient_and_names_the_address():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(DeviceUnreachable, match=url) as caught:
            Transport(url, None, 30.0).request("GET", "/v1/device")
    assert caught.value.transient


def test_a_device_that_does_not_answer_times_out():
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(1)
        transport = Transport(f"http://127.0.0.1:{silent.getsockname()[1]}", None, 0.2)
        with pytest.raises(DeviceUnreachable, match="timed out"):
            transport.request("GET", "/v1/device")


def test_an_idle_connection_that_the_agent_closed_is_replaced(serve):
    transport = Transport(serve(200, b"{}", close_after_each=True), None, 30.0)
    for _ in range(3):
        assert transport.request("GET", "/").body == {}
    transport.close()


def test_the_address_function_is_called_before_each_request(serve):
    addresses = [serve(200, b"1"), serve(200, b"2")]
    transport = Transport(lambda: addresses[0], None, 30.0)
    assert transport.request("GET", "/").body == 1
    del addresses[0]
    assert transport.request("GET", "/").body == 2
    transport.close()


@pytest.mark.parametrize("url", ["board.local:8470", "ftp://board", "http://", "http://board/v1"])
def test_malformed_addresses_are_refused(url):
    with pytest.raises(InvalidRequest, match="http://HOST:PORT"):
        Transport(url, None, 1.0).request("GET", "/")


def test_a_truncated_answer_is_device_unreachable():
    """As when an ssh tunnel ends in the middle of a result: the request is repeated, and the trial does not fail."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)

        def cut():
            connection = listener.accept()[0]
            with connection:
                connection.recv(65536)
                connection.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"api_min": 1')

        thread = threading.Thread(target=cut)
        thread.start()
        transport = Transport(f"http://127.0.0.1:{listener.getsockname()[1]}", None, 30.0)
        with pytest.raises(DeviceUnreachable, match="IncompleteRead"):
            transport.request("GET", "/v1/device")
        thread.join()
        transport.close()


@pytest.fixture
def heard():
    """An HTTP server that answers nothing useful, and the requests that it has got."""
    requests = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def answer(self):
            requests.append((self.requestline, self.headers.get("Authorization")))
            self.send_response(404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_CONNECT = do_PUT = answer

        def log_message(self, *arguments):
            pass

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield server.server_port, requests
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_an_error_and_its_target_gets_nothing(heard, status):
    port, requests = heard

    class Redirecting(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status)
            self.send_header("Location", f"http://127.0.0.1:{port}/v1/device")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *arguments):
            pass

    server = Server(("127.0.0.1", 0), Redirecting)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    transport = Transport(f"http://127.0.0.1:{server.server_port}", "t" * 64, 30.0)
    try:
        with pytest.raises(AgentError, match=f"HTTP {status}"):
            transport.request("GET", "/v1/device")
    finally:
        transport.close()
        server.shutdown()
        server.server_close()
        thread.join()
    assert requests == []


@pytest.mark.parametrize("address", ["http://device.invalid", "https://device.invalid"])
def test_no_proxy_of_the_environment_gets_a_request(heard, monkeypatch, address):
    port, requests = heard
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{port}")
    monkeypatch.delenv("no_proxy", raising=False)
    transport = Transport(address, "t" * 64, 30.0)
    with pytest.raises(DeviceUnreachable):
        transport.request("GET", "/v1/device")
    transport.close()
    assert requests == []


@pytest.mark.parametrize(
    "address",
    [
        "http://user:secret@127.0.0.1:1",
        "http://user@127.0.0.1:1",
        "http://127.0.0.1:1/path",
        "ftp://127.0.0.1:1",
        "//h",
    ],
)
def test_an_address_is_a_scheme_a_host_and_a_port_alone(address):
    transport = Transport(address, "t" * 64, 30.0)
    with pytest.raises(InvalidRequest, match="address has the form"):
        transport.request("GET", "/v1/device")
