"""A store over SFTP: a real client and a real server, on this machine."""

from __future__ import annotations

import asyncio
import shutil
import threading
from functools import partial

import pytest

from vitsearch.errors import StoreError
from vitsearch.storage import remote_files
from vitsearch.storage.remote_files import RemoteStore

SECONDS = 30

DATABASE = "d1" * 16


class SftpServer:
    """Serves a folder to one key, in a thread."""

    def __init__(self, root, key, host_key) -> None:
        import asyncssh

        self._options = {
            "server_host_keys": [host_key],
            "authorized_client_keys": asyncssh.import_authorized_keys(key.export_public_key().decode()),
            "sftp_factory": partial(asyncssh.SFTPServer, chroot=str(root)),
        }
        self._loop, self._ready = asyncio.new_event_loop(), threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._ready.wait(SECONDS)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:  # ends what is left at the end
            runner.run(self._listen())

    async def _listen(self) -> None:
        import asyncssh

        connections = []

        class Noting(asyncssh.SSHServer):
            def connection_made(self, connection) -> None:
                connections.append(connection)

        self._end = asyncio.Event()
        server = await asyncssh.listen("127.0.0.1", 0, server_factory=Noting, **self._options)
        self.port = server.get_port()
        self._ready.set()
        await self._end.wait()
        server.close()
        for connection in connections:
            connection.abort()
            await connection.wait_closed()
        await server.wait_closed()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(SECONDS)


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home folder with a key and no known host."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    monkeypatch.setattr(remote_files, "PAUSES_S", ())
    monkeypatch.setattr(remote_files, "_seen", set())
    (tmp_path / ".ssh").mkdir(mode=0o700)
    return tmp_path


@pytest.fixture
def server(home):
    import asyncssh

    key, host_key = asyncssh.generate_private_key("ssh-ed25519"), asyncssh.generate_private_key("ssh-ed25519")
    key.write_private_key(home / ".ssh" / "id_ed25519")
    (home / "server").mkdir()
    running = SftpServer(home / "server", key, host_key)
    line = f"[127.0.0.1]:{running.port} {host_key.export_public_key().decode()}"
    (home / ".ssh" / "known_hosts").write_text(line)
    yield running
    for client in list(remote_files._sftp()._cache.values()):
        client.client.close()
    remote_files._sftp().clear_instance_cache()
    running.close()


@pytest.fixture
def store(server):
    return RemoteStore(f"sftp://me@127.0.0.1:{server.port}/team/vit")


@pytest.fixture
def model(home):
    (home / "model.onnx").write_bytes(b"graph" * 1000)
    return home / "model.onnx"


def test_another_machine_finds_what_was_put(store, model, home):
    sha256 = store.put_model(model).sha256
    shutil.rmtree(store.cache.root)
    remote_files._seen.clear()
    assert store.holds(sha256)
    assert store.model(sha256).read_bytes() == b"graph" * 1000
    assert [path.suffix for path in (home / "server").rglob("*") if path.is_file()] == [".onnx"]


def test_a_connection_that_the_server_has_closed_is_made_again(store, model):
    sha256 = store.put_model(model).sha256
    for client in remote_files._sftp()._cache.values():
        client.client.close()
    remote_files._seen.clear()
    shutil.rmtree(store.cache.root)
    assert store.model(sha256).read_bytes() == b"graph" * 1000


def test_files_are_listed_and_deleted(store, model):
    store.register(DATABASE, "sqlite:///x.db")
    store.put_model(model)
    (unnamed,) = store.unnamed([])
    store.delete(unnamed)
    assert store.unnamed([]) == []
    assert store.users() == {DATABASE: "sqlite:///x.db"}


def test_a_host_that_is_not_known_is_refused(store, home):
    (home / ".ssh" / "known_hosts").write_text("")
    with pytest.raises(StoreError, match="cannot be written: Server .* not found in known_hosts"):
        store.prepare()
