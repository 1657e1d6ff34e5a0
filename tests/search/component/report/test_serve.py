"""The page over HTTP: to those with the token alone, read-only, up to date by itself."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import ExitStack, closing, suppress

import pytest

from support import PYTHON_PATH
from support.report_server import TOKEN, server
from support.slow_clients import closed_by_server
from vitsearch.errors import ResourceError, StudyError
from vitsearch.report import bounded_protocol
from vitsearch.report.live import LiveStudy
from vitsearch.report.serve import LOOK_S, serve
from vitsearch.study.database.opening import delete_study


@pytest.fixture(scope="module")
def port(finished):
    with server(f"{finished.folder / 'fake.db'}") as port:
        yield port


def answer(port, path, method="GET", host="127.0.0.1"):
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        connection.request(method, path, headers={"Host": f"{host}:{port}"})
        response = connection.getresponse()
        return response.status, response.read().decode(), response.headers


class Events:
    """The server-sent events of a page."""

    def __init__(self, port):
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        self._connection.request("GET", f"/{TOKEN}/events", headers={"Host": f"127.0.0.1:{port}"})
        self._lines = self._connection.getresponse()

    def next(self):
        """The name and the data of the next event."""
        lines = [self._lines.readline().decode().strip() for _ in range(3)]
        return lines[0].removeprefix("event: "), lines[1].removeprefix("data: ")

    def close(self):
        self._connection.close()


def test_the_page_is_that_of_the_report(port):
    status, text, headers = answer(port, f"/{TOKEN}/")
    assert status == 200
    assert 'data-mode="live"' in text
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cache-Control"] == "no-store"
    assert "default-src 'none'" in headers["Content-Security-Policy"]


def test_the_data_is_that_of_the_page(port, report):
    status, text, headers = answer(port, f"/{TOKEN}/data.json")
    assert (status, headers["Content-Type"]) == (200, "application/json")
    assert json.loads(text)["trials"]["number"] == [trial.number for trial in report.trials]


PATHS = [
    "/",
    "/data.json",
    "/events",
    "/other/",
    "/other/data.json",
    f"/{TOKEN}",
    f"/{TOKEN}x/",
    "/%FF/",
    f"//{TOKEN}/",
]


@pytest.mark.parametrize("path", PATHS)
def test_without_the_token_there_is_nothing(port, path):
    assert answer(port, path)[:2] == (404, "")


def test_the_name_of_another_host_is_refused(port):
    assert answer(port, f"/{TOKEN}/data.json", host="evil.example")[0] == 421


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_nothing_can_be_written(port, method):
    assert answer(port, f"/{TOKEN}/data.json", method)[0] == 405


@pytest.mark.long
def test_a_new_trial_is_seen_also_after_a_restart_of_the_run(make_study):
    study = make_study(trials=1)
    study.run()
    with server(f"{study.folder / 'fake.db'}") as port, closing(Events(port)) as events:
        kind, version = events.next()
        before = len(json.loads(answer(port, f"/{TOKEN}/data.json")[1])["trials"]["number"])
        study.with_space(search__trials=3).run()
        count = len(study.records()) + 1  # and the baseline
        while kind != "version" or len(json.loads(answer(port, f"/{TOKEN}/data.json")[1])["trials"]["number"]) < count:
            kind, _ = events.next()
        assert count > before
        assert LOOK_S <= 1.0  # what a page has to wait for at most, beside the reading; a slow machine proves no more


@pytest.mark.long
def test_a_database_that_is_away_for_a_while_is_a_message(make_study, monkeypatch):
    study = make_study(trials=0)
    study.run()
    with server(f"{study.folder / 'fake.db'}") as port, closing(Events(port)) as events:
        assert events.next()[0] == "version"
        with monkeypatch.context() as broken:
            broken.setattr(LiveStudy, "look", lambda self: 1 / 0)
            assert events.next() == ("problem", '"ZeroDivisionError: division by zero"')
        assert events.next()[0] == "version"


def test_a_port_that_is_taken_is_refused(finished):
    with closing(socket.socket()) as other, closing(LiveStudy(f"{finished.folder / 'fake.db'}")) as live:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        with pytest.raises(ResourceError) as error:
            serve(live, taken, print, print)
    assert str(error.value) == (
        f"port {taken} of 127.0.0.1 cannot be used: Address already in use; "
        "name another one with --port, or 0 for a free one"
    )


@pytest.mark.parametrize("module", ["uvicorn", "starlette.applications"])
def test_missing_libraries_are_named_with_the_line_that_installs_them(finished, monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    with closing(LiveStudy(f"{finished.folder / 'fake.db'}")) as live, pytest.raises(ResourceError) as error:
        serve(live, 0, print, print)
    assert str(error.value) == (
        "vitsearch serve needs starlette and uvicorn; install them with: pip install 'vitsearch[serve]'"
    )


def test_ctrl_c_ends_it_quietly_while_a_page_is_open(finished):
    command = [sys.executable, "-m", "vitsearch", "serve", f"{finished.folder / 'fake.db'}"]
    environment = os.environ | {"PYTHONPATH": PYTHON_PATH}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as run:
        address = run.stdout.readline().split()[1]
        assert run.stdout.readline() == "Ctrl-C ends it; the run goes on.\n"
        with urllib.request.urlopen(f"{address}events", timeout=30) as events:
            assert events.readline() == b"event: version\n"
            run.send_signal(signal.SIGINT)
            assert run.communicate(timeout=30)[0] == ""
    assert run.returncode == 0


HOSTS = [
    "evil.example",
    "127.0.0.1.evil.example",
    "localhost.evil.example",
    "evil.example@127.0.0.1",
    "127.0.0.1 evil.example",
    "0.0.0.0",
    "10.0.0.1",
    "[::1",
    "",
]


@pytest.mark.parametrize("host", HOSTS)
def test_a_site_that_stands_for_this_machine_gets_nothing(port, host):
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        connection.putrequest("GET", f"/{TOKEN}/data.json", skip_host=True)
        connection.putheader("Host", host)
        connection.endheaders()
        response = connection.getresponse()
        assert response.status == 421
        assert b"trials" not in response.read()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LOCALHOST", "[::1]", "localhost:8000"])
def test_names_of_this_machine_are_answered_on_any_port(port, host):
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        connection.request("GET", f"/{TOKEN}/data.json", headers={"Host": host})
        assert connection.getresponse().status == 200


@pytest.mark.long
@pytest.mark.parametrize("trickle", [b"", b"GET /"], ids=["nothing", "bytes"])
def test_half_open_connections_end_and_block_nobody(finished, monkeypatch, trickle):
    """200 clients that send nothing, or a byte now and then."""
    monkeypatch.setattr(bounded_protocol, "HEAD_S", 3.0)
    with server(f"{finished.folder / 'fake.db'}") as port, ExitStack() as closing_all:
        clients = [closing_all.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(200)]
        started = time.monotonic()
        assert answer(port, f"/{TOKEN}/data.json")[0] == 200
        ended = closed_by_server(clients, trickle)
        assert ended == 200
        assert time.monotonic() - started < 60


def test_a_connection_is_bounded_after_an_answer_too(finished, monkeypatch):
    monkeypatch.setattr(bounded_protocol, "HEAD_S", 1.0)
    with server(f"{finished.folder / 'fake.db'}") as port, socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(f"GET /{TOKEN}/data.json HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        assert closed_by_server([client], b"G") == 1


def test_events_outlast_the_bound_of_a_request(finished, monkeypatch):
    monkeypatch.setattr(bounded_protocol, "HEAD_S", 0.2)
    monkeypatch.setattr("vitsearch.report.serve.BEAT_S", 1.0)
    with server(f"{finished.folder / 'fake.db'}") as port, closing(Events(port)) as events:
        assert [events.next()[0] for _ in range(3)] == ["version"] * 3


INVALID = [f"GET / HTTP/1.1\r\nX: {'a' * 10**6}\r\n\r\n", "no request\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"]
INVALID += ["POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nContent-Length: 9\r\n\r\n", "\x16\x03\x01\x02"]
INVALID += ["GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"]


@pytest.mark.long
def test_more_connections_than_files_cost_the_terminal_no_line(finished):
    """And requests that are not valid neither; the page is there again when the connections are closed."""
    limited = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024));"
    program = [sys.executable, "-c", f"{limited} from vitsearch.cli.app import main; main()"]
    command = [*program, "serve", f"{finished.folder / 'fake.db'}", "--port", "0"]
    environment = os.environ | {"PYTHONPATH": PYTHON_PATH, "COLUMNS": "200"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment) as served:
        try:
            port, token = re.search(r":(\d+)/([^/]+)/", served.stdout.readline().decode()).groups()
            for request in INVALID:
                with socket.create_connection(("127.0.0.1", int(port))) as client, suppress(OSError):
                    client.sendall(request.encode("latin-1"))
                    client.recv(1 << 16)
            with ExitStack() as closing_all:
                for _ in range(1200):
                    closing_all.enter_context(socket.create_connection(("127.0.0.1", int(port))))
                time.sleep(1.0)
            assert answer(int(port), f"/{token}/data.json")[0] == 200
        finally:
            served.terminate()
        assert served.stdout.read().decode().splitlines() == ["Ctrl-C ends it; the run goes on."]


@pytest.mark.parametrize("path", ["", "data.json"])
def test_a_study_that_cannot_be_read_is_said_in_a_line(finished, monkeypatch, path):
    with server(f"{finished.folder / 'fake.db'}") as port:
        with monkeypatch.context() as broken:
            broken.setattr(LiveStudy, "look", lambda self: 1 / 0)
            assert answer(port, f"/{TOKEN}/{path}")[:2] == (503, "ZeroDivisionError: division by zero\n")
        assert answer(port, f"/{TOKEN}/{path}")[0] == 200


def delete(study):
    """As `vitsearch studies delete` does."""
    for path in study.folder.glob("fake.db*"):
        path.unlink()


def test_a_study_that_was_deleted_is_said_on_the_page_and_in_the_terminal(make_study):
    study = make_study(trials=1)
    study.run()
    where, notes = f"{study.folder / 'fake.db'}", []
    with server(where, notes.append) as port, closing(Events(port)) as events:
        assert events.next()[0] == "version"
        assert answer(port, f"/{TOKEN}/")[0] == 200
        delete(study)
        gone = f"study '{where}' is gone: it was deleted"
        assert events.next() == ("problem", json.dumps(gone))
        for path in ("", "data.json"):
            status, text, headers = answer(port, f"/{TOKEN}/{path}")
            assert (status, text, headers["Cache-Control"]) == (410, f"{gone}\n", "no-store")
        assert notes == [gone]
        study.run()
        assert events.next()[0] == "version"
        assert answer(port, f"/{TOKEN}/")[0] == 200
    assert notes == [gone]


def test_a_study_that_was_deleted_is_said_in_the_terminal_while_no_page_is_open(make_study, monkeypatch):
    monkeypatch.setattr("vitsearch.report.serve.FIND_S", 0.0)
    study = make_study(trials=0)
    study.run()
    where, noted = f"{study.folder / 'fake.db'}", threading.Event()
    with server(where, lambda text: noted.set()):
        delete(study)
        assert noted.wait(30)


def test_one_study_of_several_that_was_deleted_is_gone(make_study):
    study = make_study(trials=0)
    study.run()
    other = study.with_space(study="other")
    other.run()
    with closing(LiveStudy(f"{study.folder / 'fake.db'}#other")) as live:
        live.look()
        delete_study(study.space.storage, "other")
        with pytest.raises(StudyError, match="other' is gone: it was deleted"):
            live.look()
    with closing(LiveStudy(f"{study.folder / 'fake.db'}#fake")) as live:
        assert live.look()
