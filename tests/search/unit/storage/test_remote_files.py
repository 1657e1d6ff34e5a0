"""The guarantees of a store on a server, with servers that fail: fsspec's memory and its local files."""

from __future__ import annotations

import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem

from vitsearch.core.activity import Work, doing
from vitsearch.errors import ResourceError, StoreError
from vitsearch.storage import remote_files
from vitsearch.storage.files import StoredFile, name_of, place_of
from vitsearch.storage.remote_files import RemoteStore, missing

FIRST, SECOND = "1" * 32, "2" * 32
"""The names of two databases."""
GONE = "ab" * 32


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(remote_files, "PAUSES_S", (0.0, 0.0))
    monkeypatch.setattr(remote_files, "_seen", set())


@pytest.fixture(params=["memory", "file"])
def store(request, tmp_path):
    fsspec.filesystem("memory").store.clear()
    return RemoteStore(f"{request.param}://{tmp_path / 'server'}")


@pytest.fixture
def folder_store(tmp_path):
    """A server whose files the test can reach."""
    return RemoteStore(f"file://{tmp_path / 'server'}")


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "weights"
    path.write_bytes(b"weights")
    return path


@pytest.fixture
def pair(tmp_path):
    """A model of two files."""
    (tmp_path / "model.xml").write_bytes(b"graph")
    (tmp_path / "model.bin").write_bytes(b"weights")
    return tmp_path / "model.xml"


def elsewhere(store):
    """As another machine finds it: without a cache, in another process."""
    shutil.rmtree(store.cache.root, ignore_errors=True)
    remote_files._seen.clear()
    return store


def on_server(tmp_path):
    return sorted(path for path in (tmp_path / "server").rglob("*") if path.is_file())


def test_another_machine_gets_the_bytes_that_were_put(store, file):
    name = store.put(file)
    assert name == name_of(file)
    file.unlink()
    assert elsewhere(store).holds(name)
    assert store.get(name).read_bytes() == b"weights"


def test_what_only_this_machine_has_kept_is_not_shared(folder_store, file, tmp_path):
    name = folder_store.put(file)
    assert folder_store.is_shared(name)
    for path in on_server(tmp_path):
        path.unlink()
    remote_files._seen.clear()
    assert folder_store.holds(name)
    assert not folder_store.is_shared(name)


def test_another_machine_gets_a_model_with_all_its_files(store, pair):
    stored = store.put_model(pair)
    assert stored.size_bytes == 12
    assert elsewhere(store).holds(stored.sha256)
    path = store.model(stored.sha256)
    assert (path.suffix, path.read_bytes(), path.with_suffix(".bin").read_bytes()) == (".xml", b"graph", b"weights")


def test_what_is_on_this_machine_is_read_without_the_server(store, file, pair, monkeypatch):
    name, model = store.put(file), store.put_model(pair).sha256
    monkeypatch.setattr(remote_files, "_server", away)
    assert store.get(name).read_bytes() == b"weights"
    assert store.find_model(model) == store.model(model)
    assert store.holds(model)


def away(*_):
    raise OSError("no route to host")


def test_what_is_not_on_this_machine_is_found_only_when_it_is_asked_for(store, pair):
    sha256 = store.put_model(pair).sha256
    assert elsewhere(store).find_model(sha256) is None
    assert store.model(sha256) == store.find_model(sha256)


def test_equal_bytes_are_uploaded_once(folder_store, file, monkeypatch):
    uploads = counted(monkeypatch, "put_file")
    folder_store.put(file)
    elsewhere(folder_store).put(file)
    assert len(uploads) == 1


def counted(monkeypatch, name):
    calls, real = [], getattr(LocalFileSystem, name)

    def call(self, *arguments, **options):
        calls.append(arguments)
        return real(self, *arguments, **options)

    monkeypatch.setattr(LocalFileSystem, name, call)
    return calls


@pytest.mark.parametrize("kind", ["file", "model"])
def test_of_several_tasks_on_a_machine_one_downloads_and_the_others_wait(folder_store, file, pair, monkeypatch, kind):
    name = folder_store.put(file) if kind == "file" else folder_store.put_model(pair).sha256
    real, downloads, together = LocalFileSystem.get_file, [], threading.Barrier(4)

    def slow(self, path, target, *arguments, **options):
        downloads.append(path)
        time.sleep(0.2)
        return real(self, path, target, *arguments, **options)

    def get(_):
        together.wait()
        return (folder_store.get if kind == "file" else folder_store.model)(name)

    monkeypatch.setattr(LocalFileSystem, "get_file", slow)
    elsewhere(folder_store)
    with ThreadPoolExecutor(together.parties) as tasks:
        (copy,) = set(tasks.map(get, range(together.parties)))
    assert name_of(copy) == name
    assert len(downloads) == len(set(downloads)) == (1 if kind == "file" else 2)


def test_what_is_missing_is_reported_with_the_store(store):
    assert not store.holds(GONE)
    with pytest.raises(StoreError, match=rf"file {place_of(GONE)} is not in the store {store.url}: was it deleted"):
        store.get(GONE)
    with pytest.raises(StoreError, match="model abababababab is not in the store .*: was it deleted there"):
        store.model(GONE)


# ---- faults


def half(self, path, target, *_, **__):
    """An upload that dies half way."""
    with open(path, "rb") as source, self.open(target, "wb") as stream:
        stream.write(source.read()[:3])
    raise ConnectionResetError("connection reset by peer")


def test_an_upload_that_dies_half_way_is_not_seen(folder_store, file, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(LocalFileSystem, "put_file", half)
        with pytest.raises(StoreError, match=r"^files file://.* cannot be written: connection reset by peer$"):
            folder_store.put(file)
    assert on_server(tmp_path) == []
    assert not elsewhere(folder_store).holds(name_of(file))
    folder_store.put(file)
    assert elsewhere(folder_store).get(name_of(file)).read_bytes() == b"weights"


def test_what_a_killed_upload_left_is_no_file_of_the_store(folder_store, file, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(LocalFileSystem, "put_file", half)
        patch.setattr(LocalFileSystem, "rm_file", away)
        with pytest.raises(StoreError):
            folder_store.put(file)
    name = name_of(file)
    assert not folder_store.holds(name)
    left = folder_store.unnamed([name])
    assert {(unnamed.place.endswith(".part"), unnamed.bytes) for unnamed in left} == {(True, 3)}
    for unnamed in left:
        folder_store.delete(unnamed)
    assert folder_store.unnamed([]) == []


def test_an_upload_that_lost_bytes_without_a_word_is_tried_again(folder_store, file, monkeypatch):
    real, lost = LocalFileSystem.put_file, []

    def lossy(self, path, target, *arguments, **options):
        real(self, path, target, *arguments, **options)
        if not lost:
            lost.append(target)
            with self.open(target, "wb") as stream:
                stream.write(b"wei")

    monkeypatch.setattr(LocalFileSystem, "put_file", lossy)
    folder_store.put(file)
    assert elsewhere(folder_store).get(name_of(file)).read_bytes() == b"weights"


def test_a_damaged_file_is_refused_and_not_kept(folder_store, file, tmp_path):
    name = folder_store.put(file)
    (path,) = on_server(tmp_path)
    path.write_bytes(b"weigths")
    with pytest.raises(StoreError, match="is damaged: its content is not what its name says. Where"):
        elsewhere(folder_store).get(name)
    assert folder_store.cache.find_file(name) is None
    assert not folder_store.holds(name)  # its stage runs again
    folder_store.put(file)
    assert elsewhere(folder_store).get(name).read_bytes() == b"weights"


def test_a_damaged_copy_in_the_cache_is_downloaded_again(folder_store, file):
    name = folder_store.put(file)
    folder_store.get(name).write_bytes(b"weigths")
    assert folder_store.get(name).read_bytes() == b"weights"


def test_a_download_that_lost_bytes_is_repeated(folder_store, file, monkeypatch):
    name = folder_store.put(file)
    real, lost = LocalFileSystem.get_file, []

    def lossy(self, path, target, *arguments, **options):
        real(self, path, target, *arguments, **options)
        if not lost:
            lost.append(target)
            with open(target, "wb") as stream:
                stream.write(b"wei")

    monkeypatch.setattr(LocalFileSystem, "get_file", lossy)
    assert elsewhere(folder_store).get(name).read_bytes() == b"weights"


def test_a_file_that_vanished_is_missed_and_can_be_put_again(folder_store, file, tmp_path):
    name = folder_store.put(file)
    (path,) = on_server(tmp_path)
    path.unlink()
    shutil.rmtree(folder_store.cache.root)
    with pytest.raises(StoreError, match="was it deleted there"):  # this process has seen it there
        folder_store.get(name)
    assert not folder_store.holds(name)
    folder_store.put(file)
    assert elsewhere(folder_store).holds(name)


def test_a_model_without_its_second_file_is_refused(folder_store, pair, tmp_path):
    sha256 = folder_store.put_model(pair).sha256
    next(path for path in on_server(tmp_path) if path.suffix == ".bin").unlink()
    with pytest.raises(StoreError, match=r"\.bin is not in the store"):
        elsewhere(folder_store).model(sha256)
    assert folder_store.find_model(sha256) is None


def test_a_server_that_is_away_for_a_moment_costs_a_moment(folder_store, file, monkeypatch, caplog):
    caplog.set_level("WARNING")
    real, failed = remote_files._server, []

    def once(url):
        if not failed:
            failed.append(url)
            raise ConnectionError("refused")
        return real(url)

    monkeypatch.setattr(remote_files, "_server", once)
    folder_store.put(file)
    assert caplog.messages == [f"files {folder_store.url} cannot be written: refused; trying again in 0 s"]


def test_what_a_server_refuses_is_not_tried_again(folder_store, file, monkeypatch):
    tries = []

    def refuse(url):
        tries.append(url)
        raise PermissionError("access denied")

    monkeypatch.setattr(remote_files, "_server", refuse)
    with pytest.raises(StoreError, match="cannot be written: access denied"):
        folder_store.put(file)
    assert len(tries) == 1


# ---- keeping order


def test_files_that_no_result_names_are_listed_and_deleted_everywhere(store, file, pair):
    name, model = store.put(file), store.put_model(pair).sha256
    assert store.unnamed([name, model]) == []
    unnamed = store.unnamed([model])
    assert unnamed == [StoredFile(place_of(name), 7)]
    store.delete(unnamed[0])
    store.delete(unnamed[0])
    assert not store.holds(name)
    assert store.holds(model)


def test_databases_that_use_a_store_are_noted_there(store, file):
    store.register(FIRST, "sqlite:///x.db")
    store.register(SECOND, "sqlite:///y.db")
    store.register(FIRST, "sqlite:///z.db")
    assert store.users() == {FIRST: "sqlite:///z.db", SECOND: "sqlite:///y.db"}
    assert store.unnamed([]) == []


def test_a_store_that_cannot_be_written_says_so_at_once(folder_store, monkeypatch):
    monkeypatch.setattr(remote_files, "PAUSES_S", (600.0,))
    monkeypatch.setattr(LocalFileSystem, "pipe_file", away, raising=False)
    with pytest.raises(StoreError, match="cannot be written: no route to host"):
        folder_store.prepare()


def test_two_stores_have_two_caches(tmp_path):
    first, second = RemoteStore("memory://one"), RemoteStore("memory://other")
    assert first.cache != second.cache
    assert tmp_path / "cache" in first.cache.root.parents


@pytest.mark.parametrize(("kind", "extra"), remote_files.EXTRAS.items())
def test_a_missing_extra_is_named_with_its_command(kind, extra, monkeypatch):
    def without(name):
        raise ImportError(name)

    monkeypatch.setattr(fsspec, "get_filesystem_class", without)
    reason = missing(f"{kind}://name/folder")
    assert reason.endswith(f"{kind}:// is not installed; run: pip install 'vitsearch[{extra}]'")
    with pytest.raises(ResourceError) as caught:
        RemoteStore(f"{kind}://name/folder").holds(GONE)
    assert str(caught.value) == reason


@pytest.fixture
def attempts(monkeypatch):
    """What the work is seen to wait for at each attempt to reach the server, which fails."""
    work, seen = Work(), []

    def connect(url):
        seen.append(work.activity.awaits)
        raise ConnectionError('Could not connect to the endpoint URL: "http://files:9000/team/vit/a8/68"')

    monkeypatch.setattr(remote_files, "_server", connect)
    monkeypatch.setattr(remote_files, "PAUSES_S", (0.0, 0.0))
    with doing(work):
        yield seen


def test_the_work_says_that_it_waits_for_the_server_and_why(attempts):
    with pytest.raises(StoreError):
        RemoteStore("s3://team/vit").holds(GONE)
    why = 'waits for files s3://team/vit, 0 s so far: Could not connect to the endpoint URL: "http://files:9000"'
    assert attempts == [None, why, why]


def test_it_is_tried_for_a_minute_however_long_an_attempt_takes(attempts, monkeypatch):
    monkeypatch.setattr(remote_files, "PATIENCE_S", 0.0)
    with pytest.raises(StoreError, match="cannot be read: .*; it was tried for a minute; the same command resumes$"):
        RemoteStore("s3://team/vit").holds(GONE)
    assert len(attempts) == 1
