"""Whether the hub answers, asked of real servers on loopback."""

from __future__ import annotations

import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from vitsearch.search.check.weights_hub import FILE, weights_hub


class Hub(BaseHTTPRequestHandler):
    status, paths = 200, []

    def do_HEAD(self):
        self.paths.append(self.path)
        self.send_response(self.status)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def hub():
    server = HTTPServer(("127.0.0.1", 0), type("ThisHub", (Hub,), {"paths": []}))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def at(server):
    return {"HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "no_proxy": "*"}


def test_a_hub_that_answers_is_asked_for_a_file_of_timm(hub):
    hub_part = weights_hub(at(hub))
    assert (hub_part.name, hub_part.works) == ("127.0.0.1", True)
    assert hub.RequestHandlerClass.paths == [f"/{FILE}"]


def test_a_hub_that_refuses_says_so(hub):
    hub.RequestHandlerClass.status = 403
    hub_part = weights_hub(at(hub))
    assert not hub_part.works
    assert hub_part.detail.startswith("answers 403 Forbidden: without weights in the cache, write 'weights: none'")


def test_a_hub_that_does_not_answer_is_waited_for_briefly():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        started = time.monotonic()
        hub_part = weights_hub({"HF_ENDPOINT": f"http://127.0.0.1:{silent.getsockname()[1]}"}, timeout_s=0.2)
    assert not hub_part.works
    assert time.monotonic() - started < 60


def test_an_address_that_is_none_is_a_reason():
    assert not weights_hub({"HF_ENDPOINT": "mirror"}).works
