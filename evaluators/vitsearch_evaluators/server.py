"""HTTP/1.1 for the endpoints of `api`: routes, token, sizes, timeouts. No TLS: see the README."""

import contextlib
import hmac
import json
import logging
import re
import socket
import sqlite3
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from socketserver import ThreadingMixIn
from typing import Any, Callable, Dict, Optional, Tuple
from urllib.parse import parse_qs, urlsplit

from vitsearch_evaluators.api import Api, Reply, checked_id
from vitsearch_evaluators.canonical import parse_json
from vitsearch_evaluators.errors import (
    EvaluatorError,
    InvalidRequest,
    NotFound,
    TransferFailed,
    Unauthorized,
)
from vitsearch_evaluators.protocol import CHUNK_MAX_BYTES, JSON_MAX_BYTES

logger = logging.getLogger(__name__)

CONNECTIONS_MAX = 16
_IDLE_TIMEOUT_S = 60
_BUSY_REPLY = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class AgentServer(ThreadingMixIn, HTTPServer):
    """One thread for each connection, at most CONNECTIONS_MAX of them."""

    daemon_threads = True
    request_queue_size = 32

    def __init__(self, address: Tuple[str, int], api: Api, token: Optional[str]) -> None:
        self.api = api
        self.token = token
        self._slots = threading.BoundedSemaphore(CONNECTIONS_MAX)
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        super().__init__(address, AgentHandler)

    def server_bind(self) -> None:
        # HTTPServer would look up the host's name, which takes seconds where DNS is away.
        super(HTTPServer, self).server_bind()
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._slots.acquire(blocking=False):
            with contextlib.suppress(OSError):
                request.sendall(_BUSY_REPLY)
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # no thread can be started
            self._slots.release()
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._slots.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        logger.debug("connection from %s broke", client_address, exc_info=True)


class AgentHandler(BaseHTTPRequestHandler):
    """Reads a request in full, asks the Api, writes one JSON reply."""

    server: AgentServer
    protocol_version = "HTTP/1.1"
    server_version = "vitsearch-agent"
    sys_version = ""
    timeout = _IDLE_TIMEOUT_S
    wbufsize = 1 << 16
    disable_nagle_algorithm = True
    _unread = 0

    def do_GET(self) -> None:
        self._answer()

    do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        logger.debug("%s " + format, self.address_string(), *args)

    def _answer(self) -> None:
        headers: Dict[str, str] = {}
        try:
            status, reply = self._dispatch(headers)
        except EvaluatorError as error:
            status, reply = error.http_status, {"error": error.to_json()}
        except (ConnectionError, socket.timeout):
            self.close_connection = True
            return
        except (OSError, sqlite3.OperationalError) as error:
            full = TransferFailed(f"storage failed: {error}", {"reason": "no_space"})
            logger.warning("%s %s: %s", self.command, self.path, error)
            status, reply = full.http_status, {"error": full.to_json()}
        except Exception as error:
            logger.exception("%s %s", self.command, self.path)
            internal = EvaluatorError("internal", f"{type(error).__name__}: {error}")
            status, reply = 500, {"error": internal.to_json()}
        self._drain()
        self._send(status, reply, headers)

    def _dispatch(self, headers: Dict[str, str]) -> Reply:
        self._unread = self._content_length()
        url = urlsplit(self.path)
        if (self.command, url.path) == ("GET", "/v1/health"):
            return self.server.api.health()
        self._authorize()
        for method, pattern, endpoint in _ROUTES:
            match = pattern.match(url.path)
            if match and method == self.command:
                return endpoint(self, match.groupdict().get("id", ""), url.query, headers)
        raise NotFound(f"no endpoint {self.command} {url.path[:200]}")

    def _authorize(self) -> None:
        if self.server.token is None:
            return
        expected = f"Bearer {self.server.token}".encode()
        given = self.headers.get("Authorization", "").encode("utf-8", "replace")
        if not hmac.compare_digest(expected, given):
            raise Unauthorized("this agent needs its token: Authorization: Bearer TOKEN")

    def _device(self, _id: str, _query: str, _headers: Dict[str, str]) -> Reply:
        return self.server.api.device()

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
        return self.server.api.append(sha256, offset, total, self._body(CHUNK_MAX_BYTES))

    def _put_job(self, identifier: str, _query: str, _headers: Dict[str, str]) -> Reply:
        return self.server.api.put_job(identifier, self._json())

    def _get_job(self, identifier: str, query: str, _headers: Dict[str, str]) -> Reply:
        return self.server.api.get_job(identifier, parse_qs(query).get("wait", ["0"])[0])

    def _cancel_job(self, identifier: str, _query: str, _headers: Dict[str, str]) -> Reply:
        return self.server.api.cancel_job(identifier)

    def _jobs(self, _id: str, _query: str, _headers: Dict[str, str]) -> Reply:
        return self.server.api.jobs()

    def _content_length(self) -> int:
        if "Transfer-Encoding" in self.headers:
            self.close_connection = True
            raise InvalidRequest("send a Content-Length, not a Transfer-Encoding")
        value = self.headers.get("Content-Length", "0")
        if not value.isdigit():
            self.close_connection = True
            raise InvalidRequest(f"Content-Length: expected a number, got {value[:80]!r}")
        return int(value)

    def _number(self, header: str) -> int:
        value = self.headers.get(header, "")
        if not (value.isdigit() and len(value) < 16):
            raise InvalidRequest(f"{header}: expected a number of bytes, got {value[:80]!r}")
        return int(value)

    def _body(self, limit: int) -> bytes:
        if self._unread > limit:
            raise TransferFailed(
                f"the body has {self._unread} bytes, at most {limit} are taken",
                {"reason": "too_large", "limit": limit},
            )
        length, self._unread = self._unread, 0
        body = self.rfile.read(length)
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
                self.rfile.read(self._unread)
            except (ConnectionError, socket.timeout):
                self.close_connection = True
        self._unread = 0

    def _send(self, status: int, reply: Dict[str, Any], headers: Dict[str, str]) -> None:
        content = json.dumps(reply).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        if status in (429, 503):
            self.send_header("Retry-After", "1")
        if self.close_connection:
            self.send_header("Connection", "close")
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
        self.wfile.flush()


_Endpoint = Callable[[AgentHandler, str, str, Dict[str, str]], Reply]


def _route(method: str, path: str, endpoint: _Endpoint) -> Tuple[str, Any, _Endpoint]:
    return method, re.compile(path + r"\Z"), endpoint


_ROUTES = (
    _route("GET", "/v1/device", AgentHandler._device),
    _route("POST", "/v1/uploads", AgentHandler._prepare_upload),
    _route("HEAD", "/v1/blobs/(?P<id>[^/]+)", AgentHandler._head_blob),
    _route("PATCH", "/v1/blobs/(?P<id>[^/]+)", AgentHandler._patch_blob),
    _route("PUT", "/v1/jobs/(?P<id>[^/]+)", AgentHandler._put_job),
    _route("GET", "/v1/jobs/(?P<id>[^/]+)", AgentHandler._get_job),
    _route("DELETE", "/v1/jobs/(?P<id>[^/]+)", AgentHandler._cancel_job),
    _route("GET", "/v1/jobs", AgentHandler._jobs),
)
