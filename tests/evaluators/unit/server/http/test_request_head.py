import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitsearch_agent.errors import InvalidRequest
from vitsearch_agent.server.http.request_head import read_head

NAMES = st.from_regex(r"[A-Za-z][A-Za-z0-9-]{0,20}", fullmatch=True)
VALUES = st.text(st.characters(min_codepoint=0x21, max_codepoint=0xFF, blacklist_characters="\x7f"), max_size=30)


def read(head):
    return read_head(io.BytesIO(head).readline)


def with_headers(*lines):
    return b"\r\n".join((b"PUT /v1/jobs/x HTTP/1.1", *lines, b"", b""))


def test_reads_a_head():
    head = read(b"GET /v1/jobs/ab?wait=20&after=3 HTTP/1.1\r\nHost: board\r\nContent-LENGTH:  7 \r\n\r\nrest")
    assert (head.method, head.path, head.query) == ("GET", "/v1/jobs/ab", {"wait": "20", "after": "3"})
    assert head.headers == {"host": "board", "content-length": "7"}
    assert head.length == 7
    assert head.keeps_open
    assert not head.expects


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("http://board:8470/v1/health", "/v1/health"),
        ("HTTPS://board/v1/health", "/v1/health"),
        ("/v1http://board/health", "/v1http://board/health"),
    ],
)
def test_an_absolute_target_is_recognised_only_at_its_start(target, path):
    assert read(f"GET {target} HTTP/1.1\r\n\r\n".encode()).path == path


@given(st.dictionaries(NAMES.map(str.lower), VALUES.filter(lambda value: value == value.strip()), max_size=8))
def test_headers_are_read_unchanged(headers):
    headers = {name: value for name, value in headers.items() if name not in ("content-length", "transfer-encoding")}
    lines = [f"{name}: {value}".encode("latin-1") for name, value in headers.items()]
    assert read(with_headers(*lines)).headers == headers


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_read_or_refused(content):
    try:
        head = read(content)
    except (InvalidRequest, ConnectionError):
        return
    assert head.path is not None


@pytest.mark.parametrize(
    "head",
    [
        b"\r\n",
        b"GET /\r\n\r\n",
        b"GET  / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/2.0\r\n\r\n",
        b"GET / HTTP/1.1 \r\n\r\n",
        b"G(T / HTTP/1.1\r\n\r\n",
        b"GET /a b HTTP/1.1\r\n\r\n",
        with_headers(b"no header"),
        with_headers(b"Content-Length : 5"),
        with_headers(b"Host: a", b" Content-Length: 5"),
        with_headers(b": 5"),
        with_headers(b"X: a\rContent-Length: 5"),
        with_headers(b"X: \0"),
        with_headers(b"Content-Length: +5"),
        with_headers(b"Content-Length: 5", b"Content-Length: 6"),
        with_headers(b"Content-Length: 5, 5"),
        with_headers(b"Content-Length: " + b"9" * 16),
        with_headers(b"Content-Length: 5", b"Transfer-Encoding: chunked"),
    ],
)
def test_ambiguous_heads_are_refused(head):
    with pytest.raises(InvalidRequest):
        read(head)


@pytest.mark.parametrize("head", [b"", b"GET / HTTP/1.1", b"GET / HTTP/1.1\r\nHost: a\r\n"])
def test_a_disconnect_in_the_head_is_a_connection_error(head):
    with pytest.raises(ConnectionError):
        read(head)


@pytest.mark.parametrize(
    ("version", "connection", "keeps_open"),
    [
        (b"1.1", b"", True),
        (b"1.1", b"keep-alive, Close", False),
        (b"1.0", b"keep-alive", False),
    ],
)
def test_version_and_connection_header_decide_whether_it_stays_open(version, connection, keeps_open):
    head = read(b"GET / HTTP/" + version + b"\r\nConnection: " + connection + b"\r\n\r\n")
    assert head.keeps_open is keeps_open


def test_the_address_of_an_absolute_target_is_removed():
    assert read(b"GET HTTP://board:8000/v1/device?a=1 HTTP/1.1\r\n\r\n").path == "/v1/device"


def test_repeated_headers_are_joined_with_a_comma():
    assert read(with_headers(b"Upload-Offset: 1", b"upload-offset: 2")).headers == {"upload-offset": "1, 2"}
