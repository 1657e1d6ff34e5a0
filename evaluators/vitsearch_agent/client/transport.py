"""HTTP requests to an agent; every fault without an answer becomes DeviceUnreachable."""

import http.client
import json
import ssl
import threading
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Tuple, Union
from urllib.parse import urlsplit

from vitsearch_agent.base import tls
from vitsearch_agent.base.canonical_json import parse_json
from vitsearch_agent.base.tokens import checked_token
from vitsearch_agent.errors import (
    AgentError,
    DeviceBusy,
    DeviceUnreachable,
    InvalidRequest,
    NotFound,
    UntrustedDevice,
    error_from_json,
)

_REPLY_MAX_BYTES = 16 << 20
_NO_TLS_THERE = frozenset(["WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "UNKNOWN_PROTOCOL", "HTTP_REQUEST"])

Address = Union[str, Callable[[], str]]


class Reply(NamedTuple):
    """A successful answer; `headers` have lower-case names; `body` is parsed JSON, or bytes for other content."""

    headers: Dict[str, str]
    body: Any


class Transport:
    """Sends requests over connections that are kept open. Thread-safe.

    `address` is a URL, or a function that returns the URL and is called before each request, so that an agent on
    another port is found after a restart. `fingerprint` pins the certificate of an https address; without it, an
    authority that this machine trusts must have signed the certificate.
    """

    def __init__(
        self, address: Address, token: Optional[str], timeout_s: float, fingerprint: Optional[str] = None
    ) -> None:
        self._address = address
        self._token = None if token is None else checked_token(token, "the token of the device")
        self._timeout_s = timeout_s
        self._fingerprint = None if fingerprint is None else tls.checked_fingerprint(fingerprint)
        self._lock = threading.Lock()
        self._idle: List[Tuple[str, http.client.HTTPConnection]] = []

    def request(
        self,
        method: str,
        path: str,
        body: Union[None, bytes, Mapping[str, Any]] = None,
        headers: Optional[Mapping[str, str]] = None,
        extra_timeout_s: float = 0.0,
    ) -> Reply:
        """Send one request; raise the agent's error, or DeviceUnreachable."""
        url = self._address() if callable(self._address) else self._address
        content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        where = f"{url}: {method} {path.split('?')[0]}"
        connection, is_used = self._take(url, self._timeout_s + extra_timeout_s)
        try:
            connection.request(method, path, content, self._headers(headers))
            response = connection.getresponse()
            data = response.read(_REPLY_MAX_BYTES)
            if response.length and len(data) < _REPLY_MAX_BYTES:
                # `read` with a size does not report a truncated body.
                raise http.client.IncompleteRead(data, response.length)
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            if is_used and isinstance(error, (ConnectionError, ssl.SSLEOFError)):
                # The agent had closed the idle connection, and every request may be repeated.
                return self.request(method, path, body, headers, extra_timeout_s)
            raise _no_answer(error, url, where) from error
        except BaseException:
            connection.close()  # the connection is in the middle of an exchange
            raise
        if response.will_close or not response.isclosed():
            connection.close()
        else:
            self._give_back(url, connection)
        reply_headers = {name.lower(): value for name, value in response.getheaders()}
        if response.status < 300:
            if reply_headers.get("content-type") == "application/octet-stream":
                return Reply(reply_headers, data)
            return Reply(reply_headers, _parsed(data, url) if data else None)
        raise _refusal(response.status, data, where)

    def close(self) -> None:
        """Close the idle connections; a later request opens a new one."""
        with self._lock:
            idle, self._idle = self._idle, []
        for _, connection in idle:
            connection.close()

    def _take(self, url: str, timeout_s: float) -> Tuple[http.client.HTTPConnection, bool]:
        """Return a connection for exclusive use, and whether it was used before."""
        with self._lock:
            idle = self._idle.pop() if self._idle else None
        if idle is not None and idle[0] == url and idle[1].sock is not None:
            idle[1].sock.settimeout(timeout_s)
            return idle[1], True
        if idle is not None:
            idle[1].close()
        return _connect(url, timeout_s, self._fingerprint), False

    def _give_back(self, url: str, connection: http.client.HTTPConnection) -> None:
        with self._lock:
            self._idle.append((url, connection))

    def _headers(self, more: Optional[Mapping[str, str]]) -> Dict[str, str]:
        headers = dict(more or {})
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token}"
        return headers


class _PinnedConnection(http.client.HTTPSConnection):
    """A connection that compares the certificate's fingerprint before it sends anything."""

    def __init__(self, host: str, port: Optional[int], timeout_s: float, fingerprint: str) -> None:
        super().__init__(host, port, timeout=timeout_s, context=tls.pinning_context())
        self._fingerprint = fingerprint

    def connect(self) -> None:
        super().connect()
        fingerprint = tls.fingerprint_of(self.sock.getpeercert(binary_form=True) or b"")
        if fingerprint != self._fingerprint:
            self.close()
            raise UntrustedDevice(
                f"{self.host}:{self.port} has the certificate {fingerprint}, but {self._fingerprint} is pinned: "
                "another machine answers there, or its agent made a new certificate. Nothing was sent to it",
                {"actual": fingerprint, "pinned": self._fingerprint},
            )


def peer_fingerprint(url: str, timeout_s: float) -> str:
    """Return the fingerprint of the certificate at an https address. It proves nothing until a person compares it."""
    connection = _connect(url, timeout_s, "")
    try:
        connection.connect()
    except UntrustedDevice as error:
        return str(error.details["actual"])
    except OSError as error:
        raise _no_answer(error, url, url) from error
    finally:
        connection.close()
    raise InvalidRequest(f"{url} is not encrypted and has no fingerprint")


def _connect(url: str, timeout_s: float, fingerprint: Optional[str]) -> http.client.HTTPConnection:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or parts.scheme not in ("http", "https") or parts.path not in ("", "/") or parts.username is not None:
        raise InvalidRequest(f"a device's address has the form http://HOST:PORT or https://HOST:PORT, got {url!r}")
    if parts.scheme == "https":
        if fingerprint is not None:
            return _PinnedConnection(host, port, timeout_s, fingerprint)
        return http.client.HTTPSConnection(host, port, timeout=timeout_s)
    if fingerprint:
        raise InvalidRequest(f"{url}: a fingerprint needs an https:// address")
    return http.client.HTTPConnection(host, port, timeout=timeout_s)


def _no_answer(error: Exception, url: str, where: str) -> AgentError:
    reason = getattr(error, "reason", None)
    if reason == "CERTIFICATE_VERIFY_FAILED":
        return UntrustedDevice(
            f"{url}: no authority that this machine trusts signed the certificate; pin its fingerprint"
        )
    if reason in _NO_TLS_THERE:
        return InvalidRequest(f"{url} does not use TLS: its address begins with http://")
    return DeviceUnreachable(f"{where}: {str(error) or type(error).__name__}")


def _parsed(data: bytes, url: str) -> Any:
    try:
        return parse_json(data)
    except ValueError as error:
        raise AgentError("protocol", f"{url}: the answer is not JSON: {error}") from error


def _refusal(status: int, data: bytes, where: str) -> AgentError:
    try:
        body = parse_json(data) if data else {}
    except ValueError:
        body = {}
    if isinstance(body, dict) and "error" in body:
        return error_from_json(body["error"])
    if status in (429, 502, 503, 504):
        return DeviceBusy(f"{where}: HTTP {status}")
    if status == 404:
        return NotFound(f"{where}: HTTP 404; is this the address of a vitsearch-agent?")
    return AgentError("http", f"{where}: HTTP {status}")
