"""The HTTP/1.1 server around the `routes`: access, limits on what is read, and the answers to refused requests."""

import json
import logging
import math
import socket
import sqlite3
import time
from socketserver import StreamRequestHandler
from typing import NamedTuple, Optional, Tuple

from vitsearch_agent.base.tokens import TokenFile
from vitsearch_agent.config import LimitsConfig
from vitsearch_agent.errors import (
    AgentError,
    InvalidRequest,
    StorageFull,
    TooManyRequests,
    TransferFailed,
    Unauthorized,
)
from vitsearch_agent.server.api import Api
from vitsearch_agent.server.http import routes
from vitsearch_agent.server.http.listener import Encrypt, Listener
from vitsearch_agent.server.http.rate_limits import IDLE_S, Connections, RateLimit, RequestReader
from vitsearch_agent.server.http.request_head import NO_HEAD, read_head
from vitsearch_agent.server.http.routes import Answer, Call
from vitsearch_agent.wire.protocol import CHUNK_MAX_BYTES

logger = logging.getLogger(__name__)

_DRAIN_MAX_BYTES = 2 * CHUNK_MAX_BYTES
"""How much of a refused request is still read, so that its client gets the answer also if it is a little too large."""
_TLS_HANDSHAKE = b"\x16"
_REASONS = {
    200: "OK",
    201: "Created",
    400: "Bad Request",
    401: "Unauthorized",
    404: "Not Found",
    409: "Conflict",
    413: "Content Too Large",
    422: "Unprocessable Content",
    424: "Failed Dependency",
    429: "Too Many Requests",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    503: "Service Unavailable",
    507: "Insufficient Storage",
}


class Access(NamedTuple):
    """The access rules: valid tokens, encryption (None: no TLS), and limits for clients."""

    tokens: TokenFile
    encrypt: Optional[Encrypt] = None
    limits: LimitsConfig = LimitsConfig()


class AgentServer(Listener):
    """The server; its handlers share the Api, the access rules and the rates."""

    def __init__(self, address: Tuple[str, int], api: Api, access: Access) -> None:
        self.api = api
        self.access = access
        self.rates = RateLimit(access.limits.requests_per_s)
        connections = Connections(access.limits.connections, access.limits.connections_total)
        super().__init__(address, AgentHandler, access.encrypt, connections)


class AgentHandler(StreamRequestHandler):
    """Serves one connection: reads a request completely, calls the Api, writes the reply, and repeats."""

    server: AgentServer
    timeout = IDLE_S
    wbufsize = 1 << 16
    disable_nagle_algorithm = True
    _head = NO_HEAD
    _unread = 0

    def setup(self) -> None:
        super().setup()
        self.rfile.close()
        self._reader = self.rfile = RequestReader(self.connection)  # type: ignore[assignment]

    def handle(self) -> None:
        """Answer requests until the connection ends; it ends without an answer if a request is too slow."""
        try:
            while self._answer_one():
                pass
        except OSError as error:
            logger.debug("%s: %s", self.client_address[0], error)

    def _answer_one(self) -> bool:
        """Answer one request and return whether the connection stays open."""
        first = self._reader.first_byte()
        if first in (b"", _TLS_HANDSHAKE):
            if first:  # any plain text makes a TLS client stop at once
                self.wfile.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
            return False
        try:
            self._head = read_head(self._reader.readline)
        except InvalidRequest as error:
            self._head = NO_HEAD
            self._send(_refusal(error), stays_open=False)
            return False
        self._unread = self._head.length
        answer = self._outcome()
        stays_open = self._drain() and self._head.keeps_open
        self._send(answer, stays_open)
        logger.debug("%s %s %s %d", self.client_address[0], self._head.method, self._head.target, answer.status)
        return stays_open

    def _outcome(self) -> Answer:
        """Return the answer or the refusal of the Api; OSError if the connection failed during the request."""
        request = f"{self._head.method} {self._head.target}"
        try:
            return self._dispatch()
        except AgentError as error:
            if not error.transient and (self._head.method not in ("GET", "HEAD") or isinstance(error, Unauthorized)):
                self.server.api.audit.refused(self.client_address[0], request, error.code)
            return _refusal(error)
        except (ConnectionError, socket.timeout):
            raise
        except (OSError, sqlite3.OperationalError) as error:
            logger.warning("%s: %s", request, error)
            return _refusal(StorageFull(f"storage failed: {error}"))
        except Exception as error:
            logger.exception("%s", request)
            return _refusal(AgentError("internal", f"{type(error).__name__}: see the agent's log"))

    def _dispatch(self) -> Answer:
        self._check_rate()
        if (self._head.method, self._head.path) == ("GET", "/v1/health"):
            return Answer(*self.server.api.health())
        self._authorize()
        return routes.answer(self.server.api, Call(self._head, self._body, self.client_address[0]))

    def _check_rate(self) -> None:
        wait_s = self.server.rates.wait_s(self.client_address[0])
        if wait_s:
            per_s = self.server.access.limits.requests_per_s
            raise TooManyRequests(
                f"too many requests: this agent answers {per_s:g} requests a second for each client",
                {"retry_after_s": wait_s},
            )

    def _authorize(self) -> None:
        scheme, _, token = self._head.headers.get("authorization", "").partition(" ")
        if scheme != "Bearer" or not self.server.access.tokens.admits(token.encode("utf-8", "replace")):
            raise Unauthorized("the token is missing, wrong, or was rotated; expected: Authorization: Bearer TOKEN")

    def _body(self, limit: int) -> bytes:
        if self._unread > limit:
            raise TransferFailed(
                f"the body has {self._unread} bytes; the limit is {limit}",
                {"reason": "too_large", "limit": limit},
            )
        length, self._unread = self._unread, 0
        if length and self._head.expects:
            self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self.wfile.flush()
        body = self._reader.body(length)
        if len(body) < length:
            raise ConnectionError("the client closed the connection in the middle of the body")
        return body

    def _drain(self) -> bool:
        """Discard the unread body; return False if it is too long, so that the connection must be closed.

        An answer while the client is still sending would reset the connection before the client reads it.
        """
        length, self._unread = self._unread, 0
        if length > _DRAIN_MAX_BYTES or (length and self._head.expects):
            return False
        self._reader.skip(length)
        return True

    def _send(self, answer: Answer, stays_open: bool) -> None:
        kind, content = "application/octet-stream", answer.content
        if not isinstance(content, bytes):
            kind, content = "application/json", json.dumps(answer.content).encode()
        headers = {
            "Server": "vitsearch-agent",
            "Date": time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime()),
            "Content-Type": kind,
            "Content-Length": str(len(content)),
        }
        if answer.status in (429, 503) and isinstance(answer.content, dict):
            wait_s = answer.content.get("error", {}).get("details", {}).get("retry_after_s", 1.0)
            headers["Retry-After"] = str(math.ceil(wait_s))
        headers.update(answer.headers)
        if not stays_open:
            headers["Connection"] = "close"
        first = f"HTTP/1.1 {answer.status} {_REASONS[answer.status]}"
        lines = [first, *(f"{name}: {value}" for name, value in headers.items())]
        self.wfile.write("\r\n".join(lines).encode() + b"\r\n\r\n")
        if self._head.method != "HEAD":
            self.wfile.write(content)
        self.wfile.flush()


def _refusal(error: AgentError) -> Answer:
    return Answer(error.http_status, {"error": error.to_json()})
