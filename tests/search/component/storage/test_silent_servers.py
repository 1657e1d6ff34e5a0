"""Servers of files that accept and do not answer: an attempt ends in time, for S3 and SFTP, for reads and uploads."""

from __future__ import annotations

import socket
import time

import fsspec
import pytest

from vitsearch.errors import StoreError
from vitsearch.storage import remote_files
from vitsearch.storage.remote_files import RemoteStore

BOUND_S = 60.0
"""Far more than any attempt takes here, and far less than it took: no figure, only an end."""


@pytest.fixture
def silent(tmp_path, monkeypatch):
    """The address of a server that takes connections, and nothing else."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    monkeypatch.setattr(remote_files, "PAUSES_S", (0.1,) * 100)
    monkeypatch.setattr(remote_files, "PATIENCE_S", 1.0)
    monkeypatch.setattr(remote_files, "SILENT_S", 0.5)
    monkeypatch.setattr(remote_files, "_seen", set())
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        port = server.getsockname()[1]
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "test")
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        fsspec.filesystem("s3").clear_instance_cache()
        yield f"127.0.0.1:{port}"
        fsspec.filesystem("s3").clear_instance_cache()


@pytest.mark.parametrize("kind", ["s3", "sftp"])
@pytest.mark.parametrize("done", ["read", "written"])
def test_a_server_that_does_not_answer_costs_its_minute(silent, kind, done, tmp_path):
    (tmp_path / "weights").write_bytes(b"weights")
    store = RemoteStore("s3://bucket/vit" if kind == "s3" else f"sftp://me@{silent}/vit")
    began = time.monotonic()
    with pytest.raises(StoreError, match=r"it was tried for a minute; the same command resumes$"):
        store.get("ab" * 32) if done == "read" else store.put(tmp_path / "weights")
    assert time.monotonic() - began < BOUND_S


def test_a_server_that_takes_nothing_of_a_large_file_ends_the_upload(silent, tmp_path, monkeypatch):
    """The server does not read: what is sent fills the buffers of both ends and waits."""
    (tmp_path / "large").write_bytes(bytes(40 * 2**20))
    monkeypatch.setattr(remote_files, "_size", lambda server, path: None)
    began = time.monotonic()
    with pytest.raises(StoreError, match="the same command resumes"):
        RemoteStore("s3://bucket/vit").put(tmp_path / "large")
    assert time.monotonic() - began < BOUND_S
