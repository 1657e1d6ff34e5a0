"""The head of an HTTP/1.1 request (RFC 9112), read to the letter.

The standard library's own reader takes every mail, TLS and HTML module in, 4 of the 30 MB that an idle
agent may have, and lets pass what two readers of one connection may understand in two ways.
"""

import re
from typing import Callable, Dict, NamedTuple

from vitsearch_evaluators.errors import InvalidRequest

_REQUEST = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+) ([\x21-\x7e\x80-\xff]+) HTTP/1\.([0-9])\Z")
_ORIGIN = re.compile(r"\Ahttps?://[^/?]*", re.IGNORECASE)
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*\Z")
_LENGTH = re.compile(r"[0-9]{1,15}\Z")


class HeadTooLong(InvalidRequest):
    http_status = 431


class Head(NamedTuple):
    """`headers` by their names in lower case; what was sent twice is joined by a comma, and so no number any more.

    `length`: bytes of the body. `expects`: the client waits for a word before it sends them.
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
    """Read up to the empty line.

    Raises InvalidRequest, after which nobody knows where the next request begins, and ConnectionError when
    the client left in the middle.
    """
    first = _REQUEST.match(_line(readline))
    if first is None:
        raise InvalidRequest("this is no request: its first line is not `METHOD /PATH HTTP/1.1`")
    headers = _headers(readline)
    method, target, minor = first.groups()
    path, _, query = _ORIGIN.sub("", target, 1).partition("?")
    asked = dict(pair.partition("=")[::2] for pair in query.split("&"))
    options = [option.strip().lower() for option in headers.get("connection", "").split(",")]
    return Head(method, target, path, asked, headers, _length(headers), minor != "0" and "close" not in options)


def _headers(readline: Callable[[], bytes]) -> Dict[str, str]:
    headers: Dict[str, str] = {}
    while True:
        line = _line(readline)
        if not line:
            return headers
        name, colon, value = line.partition(":")
        value = value.strip(" \t")
        # Such a line may hide one behind it from us and not from a proxy, or the other way round.
        if not colon or not _NAME.match(name) or not _VALUE.match(value):
            raise InvalidRequest("a line of the head is no header")
        name = name.lower()
        headers[name] = f"{headers[name]}, {value}" if name in headers else value


def _length(headers: Dict[str, str]) -> int:
    if "transfer-encoding" in headers:
        raise InvalidRequest("send a Content-Length, not a Transfer-Encoding")
    text = headers.get("content-length", "0")
    if not _LENGTH.match(text):
        raise InvalidRequest(f"Content-Length: expected one number, got {text[:80]!r}")
    return int(text)


def _line(readline: Callable[[], bytes]) -> str:
    line = readline()
    if not line.endswith(b"\n"):
        raise ConnectionError("the client went away in the head of its request")
    return line[: -2 if line.endswith(b"\r\n") else -1].decode("latin-1")
