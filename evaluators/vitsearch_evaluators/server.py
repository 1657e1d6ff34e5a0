"""HTTP/1.1 for the endpoints of `api`: routes, tokens, sizes, timeouts, rates."""

import json
import logging
import math
import re
import socket
import sqlite3
import time
from socketserver import StreamRequestHandler
from typing import Any, Callable, Dict, NamedTuple, Optional, Tuple, Union

from vitsearch_evaluators.api import Api, Reply, checked_id
from vitsearch_evaluators.canonical import parse_json
from vitsearch_evaluators.config import LimitsConfig
from vitsearch_evaluators.errors import (
    DeviceBusy,
    EvaluatorError,
    InvalidRequest,
    NotFound,
    StorageFull,
    TransferFailed,
    Unauthorized,
)
from vitsearch_evaluators.head import NO_HEAD, read_head
from vitsearch_evaluators.listener import Encrypt, Listener
from vitsearch_evaluators.protocol import CHUNK_MAX_BYTES, JSON_MAX_BYTES
from vitsearch_evaluators.tokens import TokenFile
from vitsearch_evaluators.traffic import IDLE_S, Connections, RateLimit, RequestReader

logger = logging.getLogger(__name__)

Answer = Tuple[int, Union[bytes, Dict[str, Any]]]

_TLS_HANDSHAKE = b"\x16"
_DIGITS = re.compile(r"[0-9]{1,15}\Z")
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


class Door(NamedTuple):
    """Who may come in, how, and how often. `encrypt` None answers in the clear."""

    tokens: TokenFile
    encrypt: Optional[Encrypt] = None
    limits: LimitsConfig = LimitsConfig()


class AgentServer(Listener):
    """What the handlers of all connections share."""

    def __init__(self, address: Tuple[str, int], api: Api, door: Door) -> None:
        self.api = api
        self.door = door
        self.rates = RateLimit(door.limits.requests_per_s)
        connections = Connections(door.limits.connections, door.limits.connections_total)
        super().__init__(address, AgentHandler, door.encrypt, connections)


class AgentHandler(StreamRequestHandler):
    """Serves one connection: reads a request in full, asks the Api, writes one reply, and again."""

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
        """Answer requests as they come; what does not arrive in time ends the connection without an answer."""
        try:
            while self._answer_one():
                pass
        except OSError as error:
            logger.debug("%s: %s", self.client_address[0], error)

    def _answer_one(self) -> bool:
        """Return whether the connection goes on."""
        first = self._reader.first_byte()
        if first in (b"", _TLS_HANDSHAKE):
            if first:  # any text tells a TLS client at once that there is none
                self.wfile.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
            return False
        try:
            self._head = read_head(self._reader.readline)
        except InvalidRequest as error:
            self._head = NO_HEAD
            self._send(error.http_status, {"error": error.to_json()}, {"Connection": "close"})
            return False
        self._unread = self._head.length
        headers: Dict[str, str] = {}
        status, reply = self._outcome(headers)
        goes_on = self._drain() and self._head.keeps_open
        if not goes_on:
            headers["Connection"] = "close"
        self._send(status, reply, headers)
        logger.debug("%s %s %s %d", self.client_address[0], self._head.method, self._head.target, status)
        return goes_on

    def _outcome(self, headers: Dict[str, str]) -> Answer:
        """Return what the Api answers or refuses; OSError when the line broke in the middle of the request."""
        asked = f"{self._head.method} {self._head.target}"
        try:
            return self._dispatch(headers)
        except EvaluatorError as error:
            if not error.transient and (self._head.method not in ("GET", "HEAD") or isinstance(error, Unauthorized)):
                self.server.api.audit.refused(self.client_address[0], asked, error.code)
            return error.http_status, {"error": error.to_json()}
        except (ConnectionError, socket.timeout):
            raise
        except (OSError, sqlite3.OperationalError) as error:
            full = StorageFull(f"storage failed: {error}")
            logger.warning("%s: %s", asked, error)
            return full.http_status, {"error": full.to_json()}
        except Exception as error:
            logger.exception("%s", asked)
            internal = EvaluatorError("internal", f"{type(error).__name__}: see the agent's log")
            return internal.http_status, {"error": internal.to_json()}

    def _dispatch(self, headers: Dict[str, str]) -> Answer:
        self._slow_down()
        asked = self._head
        if (asked.method, asked.path) == ("GET", "/v1/health"):
            return self.server.api.health()
        self._authorize()
        for method, pattern, endpoint in _ROUTES:
            match = pattern.match(asked.path)
            if match and method == asked.method:
                return endpoint(self, match.groupdict().get("id", ""), headers)
        raise NotFound(f"no endpoint {asked.method} {asked.path[:200]}")

    def _slow_down(self) -> None:
        wait_s = self.server.rates.wait_s(self.client_address[0])
        if wait_s:
            per_s = self.server.door.limits.requests_per_s
            busy = DeviceBusy(f"this agent answers {per_s:g} requests a second", {"retry_after_s": wait_s})
            busy.http_status = 429
            raise busy

    def _authorize(self) -> None:
        scheme, _, given = self._header("Authorization").partition(" ")
        if scheme != "Bearer" or not self.server.door.tokens.admits(given.encode("utf-8", "replace")):
            raise Unauthorized("the token is missing, wrong, or was rotated: Authorization: Bearer TOKEN")

    def _device(self, _id: str, _headers: Dict[str, str]) -> Reply:
        return self.server.api.device()

    def _conditions(self, _id: str, _headers: Dict[str, str]) -> Reply:
        return self.server.api.conditions()

    def _prepare_upload(self, _id: str, _headers: Dict[str, str]) -> Reply:
        return self.server.api.prepare_upload(self._json())

    def _head_blob(self, sha256: str, headers: Dict[str, str]) -> Reply:
        progress = self.server.api.blob(sha256)
        headers["Upload-Offset"] = str(progress.offset)
        if progress.complete:
            headers["Upload-Length"] = str(progress.offset)
        return 200, {}

    def _patch_blob(self, sha256: str, _headers: Dict[str, str]) -> Reply:
        checked_id(sha256)
        offset = self._number("Upload-Offset")
        total = self._number("Upload-Length")
        return self.server.api.append(sha256, offset, total, self._body(CHUNK_MAX_BYTES), self.client_address[0])

    def _put_job(self, identifier: str, _headers: Dict[str, str]) -> Reply:
        return self.server.api.put_job(identifier, self._json(), self.client_address[0])

    def _get_job(self, identifier: str, _headers: Dict[str, str]) -> Reply:
        return self.server.api.get_job(identifier, self._asked("wait"))

    def _events(self, identifier: str, _headers: Dict[str, str]) -> Reply:
        return self.server.api.events(identifier, self._asked("after"), self._asked("wait"))

    def _cancel_job(self, identifier: str, _headers: Dict[str, str]) -> Reply:
        return self.server.api.cancel_job(identifier, self.client_address[0])

    def _logits(self, identifier: str, headers: Dict[str, str]) -> Answer:
        piece, size = self.server.api.logits(identifier, self._asked("offset"))
        headers["Upload-Length"] = str(size)
        return 200, piece

    def _jobs(self, _id: str, _headers: Dict[str, str]) -> Reply:
        return self.server.api.jobs()

    def _asked(self, name: str) -> str:
        return self._head.query.get(name, "0")

    def _header(self, name: str) -> str:
        return self._head.headers.get(name.lower(), "")

    def _number(self, header: str) -> int:
        value = self._header(header)
        if not _DIGITS.match(value):
            raise InvalidRequest(f"{header}: expected a number of bytes, got {value[:80]!r}")
        return int(value)

    def _body(self, limit: int) -> bytes:
        if self._unread > limit:
            raise TransferFailed(
                f"the body has {self._unread} bytes, at most {limit} are taken",
                {"reason": "too_large", "limit": limit},
            )
        length, self._unread = self._unread, 0
        if length and self._head.expects:
            self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self.wfile.flush()
        body = self._reader.body(length)
        if len(body) < length:
            raise ConnectionError("the client went away in the middle of its body")
        return body

    def _json(self) -> Any:
        try:
            return parse_json(self._body(JSON_MAX_BYTES))
        except ValueError as error:
            raise InvalidRequest(f"the body is not JSON: {error}") from error

    def _drain(self) -> bool:
        """Read what was not asked for; False when the next request cannot be found behind it.

        Answering while the client still sends resets the connection, and it never sees why.
        """
        length, self._unread = self._unread, 0
        if length > CHUNK_MAX_BYTES or (length and self._head.expects):
            return False
        self._reader.skip(length)
        return True

    def _send(self, status: int, reply: Union[bytes, Dict[str, Any]], headers: Dict[str, str]) -> None:
        kind, content = "application/octet-stream", reply
        if not isinstance(content, bytes):
            kind, content = "application/json", json.dumps(reply).encode()
        written = {
            "Server": "vitsearch-agent",
            "Date": time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime()),
            "Content-Type": kind,
            "Content-Length": str(len(content)),
        }
        if status in (429, 503) and isinstance(reply, dict):
            wait_s = reply.get("error", {}).get("details", {}).get("retry_after_s", 1.0)
            written["Retry-After"] = str(math.ceil(wait_s))
        written.update(headers)
        lines = [f"HTTP/1.1 {status} {_REASONS[status]}", *(f"{name}: {value}" for name, value in written.items())]
        self.wfile.write("\r\n".join(lines).encode() + b"\r\n\r\n")
        if self._head.method != "HEAD":
            self.wfile.write(content)
        self.wfile.flush()


_Endpoint = Callable[[AgentHandler, str, Dict[str, str]], Answer]


def _route(method: str, path: str, endpoint: _Endpoint) -> Tuple[str, Any, _Endpoint]:
    return method, re.compile(path + r"\Z"), endpoint


_ROUTES = (
    _route("GET", "/v1/device", AgentHandler._device),
    _route("GET", "/v1/conditions", AgentHandler._conditions),
    _route("POST", "/v1/uploads", AgentHandler._prepare_upload),
    _route("HEAD", "/v1/blobs/(?P<id>[^/]+)", AgentHandler._head_blob),
    _route("PATCH", "/v1/blobs/(?P<id>[^/]+)", AgentHandler._patch_blob),
    _route("PUT", "/v1/jobs/(?P<id>[^/]+)", AgentHandler._put_job),
    _route("GET", "/v1/jobs/(?P<id>[^/]+)", AgentHandler._get_job),
    _route("GET", "/v1/jobs/(?P<id>[^/]+)/events", AgentHandler._events),
    _route("GET", "/v1/jobs/(?P<id>[^/]+)/logits", AgentHandler._logits),
    _route("DELETE", "/v1/jobs/(?P<id>[^/]+)", AgentHandler._cancel_job),
    _route("GET", "/v1/jobs", AgentHandler._jobs),
)
