"""A real agent on a disk that is really full: it refuses requests, reports why, loses nothing and continues later."""

import json
import os
import signal
import subprocess
import sys

import pytest

from vitsearch_agent.errors import AgentError, StorageFull
from vitsearch_agent.wire.protocol import PROTOCOL_VERSION, BlobRef, JobSpec, job_id

DISK_MB = 12


@pytest.fixture
def disk(tmp_path):
    """A file system of 12 MB where `serve_agent` keeps its state."""
    mount = tmp_path / "served"
    mount.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m,mode=0700", "tmpfs", str(mount)]
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    mounted = subprocess.run(command, stderr=subprocess.PIPE)
    if mounted.returncode:
        pytest.skip(f"cannot mount a small disk on this machine: {mounted.stderr.decode().strip()}")
    limits = {"reserve_mb": 1, "queued_per_owner": 10000}
    (mount / "config.json").write_text(json.dumps({"limits": limits}))
    yield mount
    subprocess.run(["umount", "-l", str(mount)], check=True)


def fill(disk):
    """Fill the disk completely, as another program's log could."""
    with open(str(disk / "foreign"), "ab", buffering=0) as stream:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while stream.write(b"\0" * size):
                    pass
            except OSError:
                continue
    assert os.statvfs(str(disk)).f_bavail == 0


def submit(client, digest, size, protocol, repeat):
    device_id = client.device().device_id
    spec = JobSpec("measure", (BlobRef("model.onnx", digest, size),), "noop", {"busy_us": 20000}, protocol, repeat)
    owner = {"study": "s", "trial": repeat}
    identifier = job_id(spec, device_id)
    body = {"api": PROTOCOL_VERSION, "device_id": device_id, "owner": owner, "spec": spec.to_json()}
    client._transport.request("PUT", f"/v1/jobs/{identifier}", body)
    return identifier


def test_it_refuses_requests_reports_why_and_continues_when_there_is_room(
    disk, serve_agent, blob, tiny_protocol, tmp_path, until
):
    served = serve_agent()
    with served.client() as client:
        digest, size = client.upload(blob), os.path.getsize(blob)
        accepted = [submit(client, digest, size, tiny_protocol, repeat) for repeat in range(8)]
        fill(disk)
        with pytest.raises(StorageFull) as caught:
            submit(client, digest, size, tiny_protocol, 8)
        assert caught.value.transient
        assert caught.value.http_status == 507
        health = client._transport.request("GET", "/v1/health").body
        assert health["worker_alive"]
        assert not health["ok"]
        assert "disk" in " ".join(health["problems"])
        assert client.jobs(), "accepted jobs can be read, and wait"
        (tmp_path / "other").write_bytes(os.urandom(2_000_000))
        with served.client(deadline_s=0.2) as hasty, pytest.raises(AgentError, match="no room") as refused:
            hasty.upload(str(tmp_path / "other"))
        assert refused.value.http_status == 507
        assert client._transport.request("GET", "/v1/health").body["worker_alive"]
        (disk / "foreign").unlink()
        until(lambda: client.jobs() == [], "every accepted job to end")
        assert all(client._transport.request("GET", f"/v1/jobs/{job}").body["state"] == "done" for job in accepted)
        assert client._transport.request("GET", "/v1/health").body["ok"]
        assert client.upload(str(tmp_path / "other"))
        assert client.measure(blob, "noop", {"busy_us": 20}, tiny_protocol).latency_ms.n == 11
    assert served.process.poll() is None


@pytest.mark.long
def test_an_agent_killed_on_a_full_disk_starts_again_and_answers(disk, serve_agent, blob, tiny_protocol, until):
    served = serve_agent()
    with served.client() as client:
        first = client.measure(blob, "noop", {"busy_us": 10}, tiny_protocol)
    os.kill(served.process.pid, signal.SIGKILL)
    served.process.wait()
    fill(disk)
    again = serve_agent()
    with again.client() as client:
        assert client.measure(blob, "noop", {"busy_us": 10}, tiny_protocol) == first
    assert again.process.poll() is None


@pytest.mark.long
def test_models_that_no_job_needs_are_evicted(disk, serve_agent, tiny_protocol, tmp_path):
    served = serve_agent()
    paths = []
    for number in range(6):
        paths.append(tmp_path / f"model-{number}")
        paths[-1].write_bytes(os.urandom(3_000_000))
    with served.client() as client:
        for path in paths:  # 18 MB on a disk of 12 MB
            client.measure(str(path), "noop", {"busy_us": 10}, tiny_protocol)
    kept = sorted(os.listdir(str(disk / "blobs")))
    assert 2 <= len(kept) <= 3
    with served.client() as client:
        assert client.upload(str(paths[-1])) in kept
