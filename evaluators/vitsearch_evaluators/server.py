"""HTTP/1.1 for the endpoints of `api`: routes, tokens, sizes, timeouts, rates."""

import json
import logging
import math
import re
import socket
import sqlite3
import ssl
from http.client import LineTooLong
from http.server import BaseHTTPRequestHandler
from typing import Any, Callable, Dict, NamedTuple, Optional, Tuple, Union
from urllib.parse import SplitResult, parse_qs, urlsplit

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
from vitsearch_evaluators.listener import Listener
from vitsearch_evaluators.protocol import CHUNK_MAX_BYTES, JSON_MAX_BYTES
from vitsearch_evaluators.tokens import TokenFile
from vitsearch_evaluators.traffic import IDLE_S, Connections, RateLimit, RequestReader

logger = logging.getLogger(__name__)

Answer = Tuple[int, Union[bytes, Dict[str, Any]]]

_TLS_HANDSHAKE = b"\x16"
_DIGITS = re.compile(r"[0-9]{1,15}\Z")


class Door(NamedTuple):
    """Who may come in, how, and how often. `tls` None answers without encryption."""

    tokens: TokenFile
    tls: Optional[ssl.SSLContext] = None
    limits: LimitsConfig = LimitsConfig()


class AgentServer(Listener):
    """What the handlers of all connections share."""

    def __init__(self, address: Tuple[str, int], api: Api, door: Door) -> None:
        self.api = api
        self.door = door
        self.rates = RateLimit(door.limits.requests_per_s)
        connections = Connections(door.limits.connections, door.limits.connections_total)
        super().__init__(address, AgentHandler, door.tls, connections)


class AgentHandler(BaseHTTPRequestHandler):
    """Reads a request in full, asks the Api, writes one JSON reply."""

    server: AgentServer
    protocol_version = "HTTP/1.1"
    default_request_version = "HTTP/1.0"  # what is no request is answered with a status line too
    server_version = "vitsearch-agent"
    sys_version = ""
    timeout = IDLE_S
    wbufsize = 1 << 16
    disable_nagle_algorithm = True
    _unread = 0

    def setup(self) -> None:
        super().setup()
        self.rfile.close()
        self._reader = self.rfile = RequestReader(self.connection)  # type: ignore[assignment]

    def handle_one_request(self) -> None:
        """Answer one request; what does not arrive in time ends the connection without an answer."""
        try:
            first = self._reader.first_byte()
            if first in (b"", _TLS_HANDSHAKE):
                self.close_connection = True
                if first:  # any text tells a TLS client at once that there is none
                    self.wfile.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
                return
            self.raw_requestline = self._reader.readline()
            if self.parse_request():  # else it was answered by send_error
                self._answer()
        except (OSError, LineTooLong) as error:
            logger.debug("%s: %s", self.address_string(), error)
            self.close_connection = True

    def handle_expect_100(self) -> bool:
        going_on = super().handle_expect_100()
        self.wfile.flush()
        return going_on

    def send_error(self, code: int, message: Optional[str] = None, explain: Optional[str] = None) -> None:
        """What the base class finds wrong with a request, as JSON like every other refusal."""
        self.close_connection = True
        error = InvalidRequest(message or "this is no request that the agent understands")
        self._send(code if code < 500 else error.http_status, {"error": error.to_json()}, {})

    def do_GET(self) -> None:
        self._answer()

    do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        logger.debug("%s " + format, self.address_string(), *args)

    def _answer(self) -> None:
        headers: Dict[str, str] = {}
        reply: Union[bytes, Dict[str, Any]]
        try:
            status, reply = self._dispatch(headers)
        except EvaluatorError as error:
            status, reply = error.http_status, {"error": error.to_json()}
            if not error.transient and (self.command not in ("GET", "HEAD") or isinstance(error, Unauthorized)):
                self.server.api.audit.refused(self.client_address[0], f"{self.command} {self.path}", error.code)
        except (ConnectionError, socket.timeout, ssl.SSLError):
            self.close_connection = True
            return
        except (OSError, sqlite3.OperationalError) as error:
            full = StorageFull(f"storage failed: {error}")
            logger.warning("%s %s: %s", self.command, self.path, error)
            status, reply = full.http_status, {"error": full.to_json()}
        except Exception as error:
            logger.exception("%s %s", self.command, self.path)
            internal = EvaluatorError("internal", f"{type(error).__name__}: see the agent's log")
            status, reply = 500, {"error": internal.to_json()}
        self._drain()
        self._send(status, reply, headers)

    def _dispatch(self, headers: Dict[str, str]) -> Answer:
        self._unread = self._content_length()
        self._slow_down()
        url = _split(self.path)
        if (self.command, url.path) == ("GET", "/v1/health"):
            return self.server.api.health()
        self._authorize()
        for method, pattern, endpoint in _ROUTES:
            match = pattern.match(url.path)
            if match and method == self.command:
                return endpoint(self, match.groupdict().get("id", ""), url.query, headers)
        raise NotFound(f"no endpoint {self.command} {url.path[:200]}")

    def _slow_down(self) -> None:
        wait_s = self.server.rates.wait_s(self.client_address[0])
        if wait_s:
            per_s = self.server.door.limits.requests_per_s
            busy = DeviceBusy(f"this agent answers {per_s:g} requests a second", {"retry_after_s": wait_s})
            busy.http_status = 429
            raise busy

    def _authorize(self) -> None:
        scheme, _, given = self.headers.get("Authorization", "").partition(" ")
        if scheme != "Bearer" or not self.server.door.tokens.admits(given.encode("utf-8", "replace")):
            raise Unauthorized("the token is missing, wrong, or was rotated: Authorization: Bearer TOKEN")

    def _device(self, _id: str, _query: str, _headers: Dict[str, str]) -> Reply:
        return self.server.api.device()

    def _conditions(self, _id: str, _query: str, _headers: Dict[str, str]) -> Reply:
        return self.server.api.conditions()

    def _prepare_upload(self, _id: str, _query: str, _headers: Dict[str, str]) -> Reply:
        return self.server.api.prepare_upload(self._json())

    def _head_blob(self, sha256: str, _query: str, headers: Dict[str, str]) -> Reply:
        progress = self.server.api.blob(sha256)
        headers["Upload-Offset"] = str(progress.offset)
        if progress.complete:
            headers["Upload-Length"] = str(progress.offset)
        return 200, {}

    def _patch_blob(self, sha256: str, _query: str, _headers: Dict[str, str]) -> Reply:
        checked_id(sha256)
        offset = self._number("Upload-Offset")
        total = self._number("Upload-Length")
        return self.server.api.append(sha256, offset, total, self._body(CHUNK_MAX_BYTES), self.client_address[0])

    def _put_job(self, identifier: str, _query: str, _headers: Dict[str, str]) -> Reply:
        return self.server.api.put_job(identifier, self._json(), self.client_address[0])

    def _get_job(self, identifier: str, query: str, _headers: Dict[str, str]) -> Reply:
        return self.server.api.get_job(identifier, _asked(query, "wait"))

    def _events(self, identifier: str, query: str, _headers: Dict[str, str]) -> Reply:
        return self.server.api.events(identifier, _asked(query, "after"), _asked(query, "wait"))

    def _cancel_job(self, identifier: str, _query: str, _headers: Dict[str, str]) -> Reply:
        return self.server.api.cancel_job(identifier, self.client_address[0])

    def _logits(self, identifier: str, query: str, headers: Dict[str, str]) -> Answer:
        piece, size = self.server.api.logits(identifier, _asked(query, "offset"))
        headers["Upload-Length"] = str(size)
        return 200, piece

    def _jobs(self, _id: str, _query: str, _headers: Dict[str, str]) -> Reply:
        return self.server.api.jobs()

    def _content_length(self) -> int:
        # A line that is no header hides those behind it, as does a name with a space behind it: what we take
        # for the next request would be this one's body to whoever stands between.
        if self._reader.is_ambiguous or self.headers.defects or any(name != name.strip() for name in self.headers):
            self.close_connection = True
            raise InvalidRequest("a line of the head is no header")
        if "Transfer-Encoding" in self.headers:
            self.close_connection = True
            raise InvalidRequest("send a Content-Length, not a Transfer-Encoding")
        values = self.headers.get_all("Content-Length", ["0"])
        if len(values) != 1 or not _DIGITS.match(values[0]):
            self.close_connection = True
            raise InvalidRequest(f"Content-Length: expected one number, got {', '.join(values)[:80]!r}")
        return int(values[0])

    def _number(self, header: str) -> int:
        value = self.headers.get(header, "")
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
        body = self._reader.body(length)
        if len(body) < length:
            raise ConnectionError("the client went away in the middle of its body")
        return body

    def _json(self) -> Any:
        try:
            return parse_json(self._body(JSON_MAX_BYTES))
        except ValueError as error:
            raise InvalidRequest(f"the body is not JSON: {error}") from error

    def _drain(self) -> None:
        # Answering while the client still sends resets the connection, and it never sees why.
        if self._unread > CHUNK_MAX_BYTES:
            self.close_connection = True
        elif self._unread:
            try:
                self._reader.skip(self._unread)
            except (ConnectionError, socket.timeout, ssl.SSLError):
                self.close_connection = True
        self._unread = 0

    def _send(self, status: int, reply: Union[bytes, Dict[str, Any]], headers: Dict[str, str]) -> None:
        kind, content = "application/octet-stream", reply
        if not isinstance(content, bytes):
            kind, content = "application/json", json.dumps(reply).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        if status in (429, 503) and isinstance(reply, dict):
            wait_s = reply.get("error", {}).get("details", {}).get("retry_after_s", 1.0)
            self.send_header("Retry-After", str(math.ceil(wait_s)))
        if self.close_connection:
            self.send_header("Connection", "close")
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
        self.wfile.flush()


def _split(path: str) -> SplitResult:
    try:
        return urlsplit(path)
    except ValueError as error:  # "//[" opens an IPv6 address
        raise NotFound("no such endpoint") from error


def _asked(query: str, name: str) -> str:
    return parse_qs(query).get(name, ["0"])[0]


_Endpoint = Callable[[AgentHandler, str, str, Dict[str, str]], Answer]


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
