import contextlib
import socket
import threading

import pytest

from vitsearch_agent.server.http import rate_limits
from vitsearch_agent.server.http.rate_limits import Connections, RateLimit, RequestReader
from vitsearch_agent.server.http.request_head import HeadTooLong


def test_connections_are_limited_for_each_address_and_for_all():
    connections = Connections(each=2, total=3)
    assert [connections.enter("a") for _ in range(3)] == [True, True, False]
    assert [connections.enter(address) for address in "bc"] == [True, False]
    connections.leave("a")
    assert connections.enter("c")
    assert not connections.enter("a")


def test_requests_are_limited_for_each_address():
    now = [100.0]
    rates = RateLimit(4.0, clock=lambda: now[0])
    assert [rates.wait_s("a") for _ in range(5)] == [0, 0, 0, 0, 0.25]
    assert rates.wait_s("b") == 0
    now[0] += 0.25
    assert [rates.wait_s("a") for _ in range(2)] == [0, 0.25]
    now[0] += 3600
    assert [rates.wait_s("a") > 0 for _ in range(5)] == [False] * 4 + [True]


def test_inactive_addresses_are_forgotten():
    now = [0.0]
    rates = RateLimit(1.0, clock=lambda: now[0])
    for number in range(2000):
        now[0] += 2.0
        rates.wait_s(str(number))
    assert len(rates._buckets) <= rate_limits._FORGET_ABOVE + 1


@pytest.fixture
def connection():
    near, far = socket.socketpair()
    reader = RequestReader(near)
    with contextlib.closing(near), contextlib.closing(far), contextlib.closing(reader):
        yield reader, far


def test_reads_head_and_body_of_a_request(connection):
    reader, far = connection
    far.sendall(b"PUT / HTTP/1.1\r\n\r\nbody")
    assert reader.first_byte() == b"P"
    assert reader.readline() == b"PUT / HTTP/1.1\r\n"
    assert reader.readline() == b"\r\n"
    assert reader.body(4) == b"body"
    far.close()
    assert reader.first_byte() == b""


def test_skip_discards_a_body(connection):
    reader, far = connection
    sender = threading.Thread(target=far.sendall, args=(b"\n" + b"x" * 200_000 + b"GET",))
    sender.start()
    assert (reader.first_byte(), reader.readline()) == (b"\n", b"\n")
    reader.skip(200_000)
    sender.join()
    far.close()
    assert reader.first_byte() == b"G"
    reader.skip(1000)
    assert reader.first_byte() == b""


def test_a_disconnect_in_the_body_gives_a_short_read(connection):
    reader, far = connection
    far.sendall(b"\nbo")
    far.close()
    assert (reader.first_byte(), reader.readline(), reader.body(4)) == (b"\n", b"\n", b"bo")


def test_an_idle_connection_times_out(connection, monkeypatch):
    """The client may be gone without a packet; only the timeout frees its connection."""
    reader, far = connection
    monkeypatch.setattr(rate_limits, "IDLE_S", 0.1)
    far.sendall(b"\n")
    assert (reader.first_byte(), reader.readline()) == (b"\n", b"\n")
    with pytest.raises(socket.timeout):
        reader.first_byte()


@pytest.mark.parametrize("line_bytes", [70, rate_limits.HEAD_MAX_BYTES * 2])
def test_too_long_heads_are_refused(connection, line_bytes):
    reader, far = connection
    head = (b"x" * (line_bytes - 1) + b"\n") * (1 + rate_limits.HEAD_MAX_BYTES // line_bytes)
    sender = threading.Thread(target=far.sendall, args=(head,))
    sender.start()
    reader.first_byte()
    with pytest.raises(HeadTooLong):
        list(iter(reader.readline, b""))
    sender.join()


@pytest.mark.parametrize(("limit", "read"), [("HEAD_S", RequestReader.readline), ("BODY_S", lambda r: r.body(1000))])
def test_slow_bytes_do_not_extend_the_time_limit(connection, monkeypatch, limit, read):
    """The time limit is for the whole head or the whole body, not for each byte."""
    reader, far = connection
    monkeypatch.setattr(rate_limits, limit, 0.3)
    ended = threading.Event()

    def drip():
        while not ended.wait(0.02):
            far.sendall(b"x")

    far.sendall(b"x")
    dripping = threading.Thread(target=drip)
    dripping.start()
    try:
        reader.first_byte()
        with pytest.raises(socket.timeout):
            read(reader)
    finally:
        ended.set()
        dripping.join()
