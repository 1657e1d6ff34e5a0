"""A strict reader of the head of an HTTP/1.1 request (RFC 9112).

The standard library's reader imports modules for mail, TLS and HTML, which is 4 of the 30 MB that an idle agent may
have, and accepts heads that a proxy may understand differently.
"""

import re
from typing import Callable, Dict, NamedTuple

from vitsearch_agent.errors import InvalidRequest

_REQUEST = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+) ([\x21-\x7e\x80-\xff]+) HTTP/1\.([0-9])\Z")
_ORIGIN = re.compile(r"\Ahttps?://[^/?]*", re.IGNORECASE)
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*\Z")
_LENGTH = re.compile(r"[0-9]{1,15}\Z")


class HeadTooLong(InvalidRequest):
    """The head is larger than allowed."""

    http_status = 431


class Head(NamedTuple):
    """The parsed head. `headers` have lower-case names; repeated headers are joined with a comma, so a repeated
    Content-Length is rejected.

    `length` is the size of the body in bytes. With `expects` the client waits for "100 Continue" before it sends it.
    """

    method: str
    target: str
    path: str
    query: Dict[str, str]
    headers: Dict[str, str]
    length: int
    keeps_open: bool

    @property
    def expects(self) -> bool:
        return self.headers.get("expect", "").lower() == "100-continue"


NO_HEAD = Head("", "", "", {}, {}, 0, False)


def read_head(readline: Callable[[], bytes]) -> Head:
    """Read a head up to its empty line.

    Raises InvalidRequest, after which the start of the next request is unknown, and ConnectionError if the client
    closed the connection in the middle.
    """
    first = _REQUEST.match(_line(readline))
    if first is None:
        raise InvalidRequest("malformed request: expected a first line `METHOD /PATH HTTP/1.1`")
    headers = _headers(readline)
    method, target, minor = first.groups()
    path, _, query = _ORIGIN.sub("", target, 1).partition("?")
    parameters = dict(pair.partition("=")[::2] for pair in query.split("&"))
    options = [option.strip().lower() for option in headers.get("connection", "").split(",")]
    return Head(method, target, path, parameters, headers, _length(headers), minor != "0" and "close" not in options)


def _headers(readline: Callable[[], bytes]) -> Dict[str, str]:
    headers: Dict[str, str] = {}
    while True:
        line = _line(readline)
        if not line:
            return headers
        name, colon, value = line.partition(":")
        value = value.strip(" \t")
        # A proxy may read such a line differently, and hide another request in it from us.
        if not colon or not _NAME.match(name) or not _VALUE.match(value):
            raise InvalidRequest("malformed header line in the request head")
        name = name.lower()
        headers[name] = f"{headers[name]}, {value}" if name in headers else value


def _length(headers: Dict[str, str]) -> int:
    if "transfer-encoding" in headers:
        raise InvalidRequest("Transfer-Encoding is not supported: send a Content-Length")
    text = headers.get("content-length", "0")
    if not _LENGTH.match(text):
        raise InvalidRequest(f"Content-Length: expected one number, got {text[:80]!r}")
    return int(text)


def _line(readline: Callable[[], bytes]) -> str:
    line = readline()
    if not line.endswith(b"\n"):
        raise ConnectionError("the client closed the connection in the request head")
    return line[: -2 if line.endswith(b"\r\n") else -1].decode("latin-1")
