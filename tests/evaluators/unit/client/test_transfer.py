"""Outputs come in parts, over a connection that breaks, and several calls make one file."""

import hashlib
import os

import pytest

from vitsearch_agent.base.npy import header_of
from vitsearch_agent.client.retry import Backoff, RetryPolicy
from vitsearch_agent.client.transfer import Transfer
from vitsearch_agent.errors import AgentError, DeviceUnreachable, TransferFailed
from vitsearch_agent.wire.protocol import OutputsResult, Part

CONTENTS = (b"the first part.", b"the second one.", b"rest")
CHUNK = 4


def result(contents=CONTENTS):
    parts = tuple(Part(hashlib.sha256(content).hexdigest(), len(content)) for content in contents)
    n = sum(map(len, contents))
    where = ("a1" * 32, "b2" * 32, "c3" * 32, "device", "e5" * 32, "onnxruntime", "1", "argmax_uint8", {}, 1, None)
    return OutputsResult(*where, n, (), "|u1", 0, parts, 1, 0.0, 1.0, 1.0, False, "2026-11-25T12:00:00Z")


class Device:
    """Sends the parts in chunks. `answers` may change each: it gets the part, the offset and the chunk."""

    def __init__(self, answers=lambda part, offset, chunk: chunk):
        self.answers = answers
        self.requests = []

    def request(self, method, url):
        path, _, query = url.partition("?")
        part, offset = (int(pair.partition("=")[2]) for pair in query.split("&"))
        self.requests.append((part, offset))
        body = self.answers(part, offset, CONTENTS[part][offset : offset + CHUNK])
        return type("Reply", (), {"body": body})


@pytest.fixture
def fetch(tmp_path):
    """fetch(device) -> the content of the file after its header."""

    def fetch(device, deadline_s=60.0):
        path = str(tmp_path / "outputs.npy")
        Transfer(device).fetch("/outputs", result(), path, RetryPolicy(Backoff(0.0, 0.0), deadline_s, None))
        with open(path, "rb") as stream:
            content = stream.read()
        header = header_of("|u1", (34,))
        assert content.startswith(header)
        assert os.listdir(str(tmp_path)) == ["outputs.npy"]
        return content[len(header) :]

    return fetch


def test_the_parts_become_one_array(fetch):
    assert fetch(Device()) == b"".join(CONTENTS)


def test_a_lost_connection_continues_at_the_offset(fetch):
    lost = [(1, 8), (1, 8), (2, 0)]

    def answers(part, offset, chunk):
        if (part, offset) in lost:
            lost.remove((part, offset))
            raise DeviceUnreachable("no answer")
        return chunk

    device = Device(answers)
    assert fetch(device) == b"".join(CONTENTS)
    assert [request for request in device.requests if request[0] == 1] == [
        (1, 0),
        (1, 4),
        (1, 8),
        (1, 8),
        (1, 8),
        (1, 12),
    ]


def unreachable_at(last):
    def answers(part, offset, chunk):
        if part == last:
            raise DeviceUnreachable("no answer")
        return chunk

    return Device(answers)


def test_another_call_continues_after_the_last_whole_part(fetch, tmp_path):
    for last in (1, 2):
        with pytest.raises(DeviceUnreachable):
            fetch(unreachable_at(last), deadline_s=-1.0)
        assert not (tmp_path / "outputs.npy").exists()
    device = Device()
    assert fetch(device) == b"".join(CONTENTS)
    assert device.requests == [(2, 0)]


@pytest.mark.parametrize(
    ("unfinished", "first"),
    [
        (header_of("|u1", (34,)) + CONTENTS[0] + b"the second", 1),
        (header_of("|u1", (34,)) + b"another.......", 0),
        (header_of("|u1", (34,)) + CONTENTS[0] + CONTENTS[1] + b"more than there is", 2),
        (header_of("|u1", (35,)) + CONTENTS[0], 0),
        (header_of("|u1", (34,)) + b"".join(CONTENTS) + b"more", 3),
        (b"", 0),
    ],
)
def test_what_is_not_a_whole_part_is_fetched_again(fetch, tmp_path, unfinished, first):
    (tmp_path / "outputs.npy.part").write_bytes(unfinished)
    device = Device()
    assert fetch(device) == b"".join(CONTENTS)
    assert device.requests[:1] == [(first, 0)][: first < 3]


def test_a_link_in_the_place_of_the_unfinished_file_is_not_followed(fetch, tmp_path, tmp_path_factory):
    other = tmp_path_factory.mktemp("other") / "file"
    other.write_bytes(b"of somebody else")
    (tmp_path / "outputs.npy.part").symlink_to(other)
    assert fetch(Device()) == b"".join(CONTENTS)
    assert other.read_bytes() == b"of somebody else"


def test_a_part_that_arrives_damaged_is_asked_for_once_more(fetch):
    damaged = [(1, 4)]

    def answers(part, offset, chunk):
        if (part, offset) in damaged:
            damaged.remove((part, offset))
            return b"xxxx"
        return chunk

    device = Device(answers)
    assert fetch(device) == b"".join(CONTENTS)
    assert device.requests.count((1, 0)) == 2


@pytest.mark.parametrize(
    ("chunk", "error", "message"),
    [
        (b"xxxx", TransferFailed, "has the digest"),
        (b"", AgentError, "sent nothing from"),
        ({}, AgentError, "sent"),
    ],
)
def test_a_device_that_sends_something_else_is_refused(fetch, chunk, error, message):
    with pytest.raises(error, match=message):
        fetch(Device(lambda part, offset, right: chunk))
