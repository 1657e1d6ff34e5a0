"""One HTTP exchange with an agent; every way to get no answer becomes DeviceUnreachable."""

import http.client
import json
import threading
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Tuple, Union
from urllib.parse import urlsplit

from vitsearch_evaluators.canonical import parse_json
from vitsearch_evaluators.errors import (
    DeviceBusy,
    DeviceUnreachable,
    EvaluatorError,
    InvalidRequest,
    NotFound,
    error_from_json,
)

_REPLY_MAX_BYTES = 16 << 20

Address = Union[str, Callable[[], str]]


class Reply(NamedTuple):
    """A successful answer; `headers` in lower case."""

    headers: Dict[str, str]
    body: Any


class Transport:
    """Sends requests from any thread, over connections that are kept for the next request.

    `address` is a URL, or a function that returns one and is asked before each request: an agent
    that was restarted on another port is found again.
    """

    def __init__(self, address: Address, token: Optional[str], timeout_s: float) -> None:
        self._address = address
        self._token = token
        self._timeout_s = timeout_s
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
        """Send one request; raises the agent's error, or DeviceUnreachable."""
        url = self._address() if callable(self._address) else self._address
        content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        where = f"{url}: {method} {path.split('?')[0]}"
        connection, is_used = self._take(url, self._timeout_s + extra_timeout_s)
        try:
            connection.request(method, path, content, self._headers(headers))
            response = connection.getresponse()
            data = response.read(_REPLY_MAX_BYTES)
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            if is_used and isinstance(error, ConnectionError):
                # The agent had closed the idle connection; every request may be sent again.
                return self.request(method, path, body, headers, extra_timeout_s)
            raise DeviceUnreachable(f"{where}: {error or type(error).__name__}") from error
        except BaseException:
            connection.close()  # half an exchange is on the line
            raise
        if response.will_close or not response.isclosed():
            connection.close()
        else:
            self._give_back(url, connection)
        reply_headers = {name.lower(): value for name, value in response.getheaders()}
        if response.status < 300:
            return Reply(reply_headers, _parsed(data, url) if data else None)
        raise _refusal(response.status, data, where)

    def close(self) -> None:
        """Close the idle connections; a later request opens another."""
        with self._lock:
            idle, self._idle = self._idle, []
        for _, connection in idle:
            connection.close()

    def _take(self, url: str, timeout_s: float) -> Tuple[http.client.HTTPConnection, bool]:
        """Return a connection that nobody else uses, and whether it was used before."""
        with self._lock:
            idle = self._idle.pop() if self._idle else None
        if idle is not None and idle[0] == url and idle[1].sock is not None:
            idle[1].sock.settimeout(timeout_s)
            return idle[1], True
        if idle is not None:
            idle[1].close()
        connection = _connect(url)
        connection.timeout = timeout_s
        return connection, False

    def _give_back(self, url: str, connection: http.client.HTTPConnection) -> None:
        with self._lock:
            self._idle.append((url, connection))

    def _headers(self, more: Optional[Mapping[str, str]]) -> Dict[str, str]:
        headers = dict(more or {})
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token}"
        return headers


def _connect(url: str) -> http.client.HTTPConnection:
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path not in ("", "/"):
        raise InvalidRequest(f"a device's address looks like http://board.local:8470, got {url!r}")
    kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
    return kind(parts.hostname, parts.port)


def _parsed(data: bytes, url: str) -> Any:
    try:
        return parse_json(data)
    except ValueError as error:
        raise EvaluatorError("protocol", f"{url} sent what is not JSON: {error}") from error


def _refusal(status: int, data: bytes, where: str) -> EvaluatorError:
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
    return EvaluatorError("http", f"{where}: HTTP {status}")
