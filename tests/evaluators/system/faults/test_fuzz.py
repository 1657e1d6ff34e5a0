"""Ten thousand invalid requests to a real agent: it refuses each, its state does not change, and it still measures.

The requests are mutations of valid ones (methods, paths, headers, JSON values at any depth, bodies that are not JSON)
and bytes that are not requests at all. Several go over one connection without waiting for answers.
"""

import json
import os
import re
import socket
import time
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.invalid_requests import BLOB, ValidRequests, broken, requests
from vitsearch_agent.client.embedded_agent import EmbeddedAgent
from vitsearch_agent.wire.measure_protocol import ONE_PROCESS

TIMEOUT_S = 120.0
BATCH, BATCHES, BROKEN = 25, 440, 1000
LEAST_ANSWERS = 10_000
LIMITS = {
    "requests_per_s": 100_000,
    "connections": 64,
    "max_blob_mb": 2,
    "quota_mb": 8,
    "queued_per_owner": 4,
}


class Target:
    """A running agent, the valid requests to it, and how often it answered with each status."""

    def __init__(self, agent, device_id):
        self.agent = agent
        self.port = urlsplit(agent.url).port
        self.valid = ValidRequests(agent.token, device_id)
        self.answers = {}

    def exchange(self, sent):
        """Send bytes over a new connection and return the answer; empty if the agent resets it."""
        received = bytearray()
        with socket.create_connection(("127.0.0.1", self.port), timeout=TIMEOUT_S) as connection:
            try:
                connection.sendall(sent)
                connection.shutdown(socket.SHUT_WR)
                while True:
                    piece = connection.recv(1 << 16)
                    if not piece:
                        break
                    received += piece
            except (ConnectionError, BrokenPipeError):
                pass
        return bytes(received)

    def check(self, received):
        """Check that every status is an expected one and that no answer reveals internals of the agent."""
        statuses = [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", received)]
        for status in statuses:
            assert status < 500 or status in (503, 507), received[-2000:]
            self.answers[status] = self.answers.get(status, 0) + 1
        assert b"Traceback" not in received
        assert b'File "' not in received
        assert b"internal" not in received
        return len(statuses)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


@pytest.fixture(scope="module")
def target(home):
    with pytest.MonkeyPatch.context() as patch:
        for name in ("cwd", "home", "tmp", "state"):
            (home / name).mkdir()
        (home / "state" / "config.json").write_text(json.dumps({"limits": LIMITS}))
        patch.chdir(home / "cwd")
        patch.setenv("HOME", str(home / "home"))
        patch.setenv("TMPDIR", str(home / "tmp"))
        with EmbeddedAgent(str(home / "state")) as agent:
            with agent.client("before") as client:
                (home / "blob").write_bytes(BLOB)
                client.upload(str(home / "blob"))
                (home / "blob").unlink()
                device_id = client.device().device_id
            yield Target(agent, device_id)


@pytest.mark.long
def test_invalid_requests_are_refused_and_change_nothing(target, home, fuzz):
    """One test for all: the state of the agent afterwards is checked as well as its answers."""

    @fuzz(BATCHES)
    @given(st.lists(requests(target.valid), min_size=BATCH, max_size=BATCH))
    def pipelined(batch):
        target.check(target.exchange(b"".join(batch)))

    @fuzz(BROKEN)
    @given(broken(target.valid))
    def single(sent):
        target.check(target.exchange(sent))

    pid = target.agent.pid
    before_s = spent_s(pid)
    pipelined()
    single()
    print(f"{target.answers}: {spent_s(pid) - before_s:.0f} s of CPU time on both sides")
    assert sum(target.answers.values()) >= LEAST_ANSWERS
    assert target.agent.pid == pid
    assert target.agent.restart_if_dead() is False
    still_measures(target, home)
    nothing_was_written_elsewhere(home)
    log = (home / "state" / "agent.log").read_text(errors="replace")
    assert "Traceback" not in log, log[-3000:]


def spent_s(pid):
    """Return the CPU seconds of this process and of the agent, including the agent's reaped children."""
    with open(f"/proc/{pid}/stat") as stream:
        fields = stream.read().rpartition(")")[2].split()
    return time.process_time() + sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def still_measures(target, home):
    path = home / "afterwards"
    path.write_bytes(BLOB + b"!")
    protocol = ONE_PROCESS._replace(
        id="after", warmup_min_runs=1, warmup_min_s=0.0, min_runs=11, min_s=0.0, timeout_s=TIMEOUT_S
    )
    with target.agent.client("after") as client:
        for job in client.jobs():
            client.cancel(job.id)
        assert client.measure(str(path), "noop", {"busy_us": 1}, protocol).latency_ms.n == 11
    path.unlink()


def nothing_was_written_elsewhere(home):
    assert sorted(os.listdir(str(home))) == ["cwd", "home", "state", "tmp"]
    for name in ("cwd", "home", "tmp"):
        assert os.listdir(str(home / name)) == []
    digest = re.compile(r"[0-9a-f]{64}\Z")
    for folder in ("blobs", "partial", "work"):
        strange = [name for name in os.listdir(str(home / "state" / folder)) if not digest.match(name)]
        assert [
            name
            for name in strange
            if folder != "work"
            or not name.startswith(("runtime-", "restrictions.json", "canary", "job.json", "output.log"))
        ] == []
    expected = re.compile(
        r"(jobs\.sqlite.*|audit\.jsonl.*|[a-z]+\.json(\.part)?|token|lock|starting|agent\.log|blobs|partial|work|cache)\Z"
    )
    assert [name for name in os.listdir(str(home / "state")) if not expected.match(name)] == []
