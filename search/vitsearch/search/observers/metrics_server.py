"""The HTTP server of `--metrics`: one answer for each connection, which has to be asked for soon.

A client that sends nothing, or a byte now and then, is cut off after some seconds and keeps nobody waiting.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from socketserver import StreamRequestHandler
from typing import Any

from vitsearch.search.observers.host_names import MISDIRECTED, HostNames
from vitsearch_agent.errors import InvalidRequest
from vitsearch_agent.server.http.listener import Listener
from vitsearch_agent.server.http.rate_limits import IDLE_S, Connections, RequestReader
from vitsearch_agent.server.http.request_head import Head, read_head

CONNECTIONS = 1000
"""At most this many at the same time; further ones are refused at once."""
Reply = tuple[str, list[tuple[str, str]], bytes]
"""Status, headers and body."""
WsgiApp = Callable[[dict[str, Any], Callable[[str, list[tuple[str, str]]], object]], Iterable[bytes]]


class MetricsServer(Listener):
    """Serves a WSGI application, that of prometheus_client, to those who call the server by a name of its own."""

    def __init__(self, address: tuple[str, int], app: WsgiApp, names: HostNames) -> None:
        self._app = app
        self._names = names
        super().__init__(address, _RequestHandler, None, Connections(CONNECTIONS, CONNECTIONS))

    def reply(self, head: Head) -> Reply:
        host = head.headers.get("host", "")
        if host not in self._names:
            text = MISDIRECTED.format(host=host[:80])
            return "421 Misdirected Request", [("Content-Type", "text/plain; charset=utf-8")], text.encode()
        path, _, query = head.target.partition("?")
        environ = {"REQUEST_METHOD": head.method, "PATH_INFO": path, "QUERY_STRING": query}
        environ |= {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in head.headers.items()}
        started: list[tuple[str, list[tuple[str, str]]]] = []
        try:
            body = b"".join(self._app(environ, lambda status, headers: started.append((status, headers))))
        except TypeError:  # prometheus_client compares the version in `Accept` with numbers
            return "400 Bad Request", [("Content-Type", "text/plain; charset=utf-8")], b"the header Accept is not valid"
        ((status, headers),) = started
        return status, headers, body


class _RequestHandler(StreamRequestHandler):
    """Reads the head of one request and answers it; what follows it is not read."""

    server: MetricsServer
    timeout = IDLE_S
    wbufsize = -1

    def setup(self) -> None:
        super().setup()
        self.rfile.close()
        self._reader = self.rfile = RequestReader(self.connection)  # type: ignore[assignment]

    def handle(self) -> None:
        with suppress(OSError):  # the client has gone, or was too slow
            if not self._reader.first_byte():
                return
            try:
                self._send(self.server.reply(read_head(self._reader.readline)))
            except InvalidRequest as error:
                self._send(("400 Bad Request", [("Content-Type", "text/plain; charset=utf-8")], str(error).encode()))

    def _send(self, reply: Reply) -> None:
        status, headers, body = reply
        headers = [*headers, ("Content-Length", str(len(body))), ("Connection", "close")]
        lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in headers)]
        self.wfile.write("\r\n".join(lines).encode("latin-1", "replace") + b"\r\n\r\n" + body)
        self.wfile.flush()
