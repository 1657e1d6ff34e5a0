"""Many connections at once to an agent of the test's own, which no other test finds crowded."""

import contextlib
import select
import socket
from urllib.parse import urlsplit

import pytest

from vitsearch_agent.config import LimitsConfig

CONNECTIONS_MAX = LimitsConfig().connections


@pytest.fixture
def connections(agent):
    """connections(count): opens so many, which send nothing; all of them are closed after the test."""
    address = urlsplit(agent.url)
    with contextlib.ExitStack() as stack:

        def connect(count):
            pair = (address.hostname, address.port)
            return [stack.enter_context(socket.create_connection(pair, timeout=60)) for _ in range(count)]

        yield connect


def test_silent_clients_do_not_block_others(connections, ask):
    connections(CONNECTIONS_MAX - 1)
    assert ask("GET", "/v1/health")[0] == 200


def test_a_connection_beyond_the_limit_is_refused_until_others_end(connections, ask, until):
    *others, last = connections(CONNECTIONS_MAX + 1)
    assert last.recv(100).startswith(b"HTTP/1.1 503")
    for connection in others:
        connection.close()

    def served():
        try:
            return ask("GET", "/v1/health")[0] == 200
        except (OSError, ValueError):
            return False

    until(served)


def test_a_refused_connection_leaves_the_accepted_ones_open(connections):
    accepted = connections(CONNECTIONS_MAX)
    [refused] = connections(1)
    assert select.select([*accepted, refused], [], [], 60)[0] == [refused]
