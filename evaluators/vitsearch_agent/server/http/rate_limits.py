"""Limits for each client: connections, requests per second, and the time to send a request.

A client is an IP address, so all clients behind one ssh tunnel share their limits.
"""

import io
import socket
import threading
import time
from typing import Any, Callable, Dict, NamedTuple

from vitsearch_agent.server.http.request_head import HeadTooLong

HEAD_MAX_BYTES = 16 << 10
HEAD_S = 10.0
"""Time limit (s) for a request's head after its first byte; later the connection is closed."""
BODY_S = 60.0
IDLE_S = 60.0
"""Time (s) for which a connection may be idle between requests; then it is closed, in case the client is gone."""

_FORGET_ABOVE = 256
_PIECE_BYTES = 1 << 16


class Connections:
    """Counts open connections: at most `each` for one address and `total` for all. Thread-safe."""

    def __init__(self, each: int, total: int) -> None:
        self._each = each
        self._total = total
        self._open: Dict[str, int] = {}
        self._lock = threading.Lock()

    def enter(self, address: str) -> bool:
        """Count one more connection and return True, or return False if there are too many."""
        with self._lock:
            of_address = self._open.get(address, 0)
            if of_address >= self._each or sum(self._open.values()) >= self._total:
                return False
            self._open[address] = of_address + 1
            return True

    def leave(self, address: str) -> None:
        with self._lock:
            self._open[address] -= 1
            if not self._open[address]:
                del self._open[address]


class _Bucket(NamedTuple):
    tokens: float
    at: float


class RateLimit:
    """A token bucket for each address, which holds the requests of one second. Thread-safe."""

    def __init__(self, per_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_s = per_s
        self._clock = clock
        self._buckets: Dict[str, _Bucket] = {}
        self._lock = threading.Lock()

    def wait_s(self, address: str) -> float:
        """Count one request; return 0 if it is allowed, else the seconds until the next one is."""
        with self._lock:
            now = self._clock()
            if len(self._buckets) > _FORGET_ABOVE:
                self._forget_full(now)
            tokens = self._filled(self._buckets.get(address, _Bucket(self._per_s, now)), now)
            if tokens < 1.0:
                self._buckets[address] = _Bucket(tokens, now)
                return (1.0 - tokens) / self._per_s
            self._buckets[address] = _Bucket(tokens - 1.0, now)
            return 0.0

    def _filled(self, bucket: _Bucket, now: float) -> float:
        return min(self._per_s, bucket.tokens + (now - bucket.at) * self._per_s)

    def _forget_full(self, now: float) -> None:
        full = [address for address, bucket in self._buckets.items() if self._filled(bucket, now) >= self._per_s]
        for address in full:
            del self._buckets[address]


class _DeadlineSocket(io.RawIOBase):
    """A socket with one deadline for many reads, so that a client cannot hold it with a byte per minute."""

    def __init__(self, connection: socket.socket) -> None:
        super().__init__()
        self._connection = connection
        self.deadline = 0.0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left_s = self.deadline - time.monotonic()
        if left_s <= 0:
            raise socket.timeout("the request did not arrive in time")
        self._connection.settimeout(left_s)
        try:
            return self._connection.recv_into(buffer)
        except socket.timeout:
            raise
        except OSError as error:  # includes the errors of TLS
            raise ConnectionError(f"the connection failed: {error}") from error
        finally:
            self._connection.settimeout(IDLE_S)


class RequestReader:
    """Reads requests from a connection: `first_byte` before each request, then `readline` for its head, then `body`.

    Raises socket.timeout if data comes too slowly, ConnectionError if the connection fails, HeadTooLong for a head of
    more than HEAD_MAX_BYTES.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._raw = _DeadlineSocket(connection)
        self._buffered = io.BufferedReader(self._raw, _PIECE_BYTES)
        self._wait_s = HEAD_S  # a client connects to send a request
        self._head_left = 0

    def first_byte(self) -> bytes:
        """Wait for a request and return its first byte without consuming it; empty if the client closed."""
        self._raw.deadline = time.monotonic() + self._wait_s
        first = self._buffered.peek(1)[:1]
        self._raw.deadline = time.monotonic() + HEAD_S
        self._head_left, self._wait_s = HEAD_MAX_BYTES, IDLE_S
        return first

    def readline(self) -> bytes:
        """Return one line of the head."""
        line = self._buffered.readline(self._head_left + 1)
        self._head_left -= len(line)
        if self._head_left < 0:
            raise HeadTooLong(f"the request head has more than {HEAD_MAX_BYTES} bytes")
        return line

    def body(self, length: int) -> bytes:
        """Return `length` bytes, fewer only if the client closed the connection."""
        self._raw.deadline = time.monotonic() + BODY_S
        return self._buffered.read(length)

    def skip(self, length: int) -> None:
        """Read and discard `length` bytes."""
        self._raw.deadline = time.monotonic() + BODY_S
        while length > 0:
            piece = len(self._buffered.read1(min(length, _PIECE_BYTES)))
            if not piece:
                return
            length -= piece

    def close(self) -> None:
        self._buffered.close()
