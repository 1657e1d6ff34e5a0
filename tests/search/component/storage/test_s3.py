"""A store in S3: a real client and a real server, on this machine."""

from __future__ import annotations

import itertools
import shutil
import socket
import urllib.request

import fsspec
import pytest

from support.s3_server import s3_server
from vitsearch.errors import StoreError
from vitsearch.storage import remote_files
from vitsearch.storage.files import StoredFile, name_of, place_of
from vitsearch.storage.remote_files import RemoteStore

DATABASE = "d1" * 16
NUMBERS = itertools.count()


@pytest.fixture(scope="module")
def server():
    with s3_server() as environment:
        yield environment


@pytest.fixture
def bucket(server, tmp_path, monkeypatch):
    """The name of an empty bucket."""
    for name, value in server.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(remote_files, "PAUSES_S", ())
    monkeypatch.setattr(remote_files, "_seen", set())
    fsspec.filesystem("s3").clear_instance_cache()
    name = f"bucket-{next(NUMBERS)}"
    urllib.request.urlopen(urllib.request.Request(f"{server['AWS_ENDPOINT_URL']}/{name}", method="PUT")).close()
    return name


@pytest.fixture
def store(bucket):
    return RemoteStore(f"s3://{bucket}/team/vit")


@pytest.fixture
def pair(tmp_path):
    (tmp_path / "model.xml").write_bytes(b"graph")
    (tmp_path / "model.bin").write_bytes(b"weights" * 1000)
    return tmp_path / "model.xml"


def elsewhere(store):
    shutil.rmtree(store.cache.root, ignore_errors=True)
    remote_files._seen.clear()
    return store


@pytest.mark.long
def test_another_machine_finds_what_was_put(store, pair):
    model, weights = store.put_model(pair), store.put(pair.with_suffix(".bin"))
    assert elsewhere(store).holds(model.sha256)
    assert store.model(model.sha256).with_suffix(".bin").read_bytes() == b"weights" * 1000
    assert store.get(weights).read_bytes() == b"weights" * 1000
    assert not store.holds("ab" * 32)


@pytest.mark.long
def test_files_larger_than_one_part_arrive_whole(store, tmp_path, monkeypatch):
    path = tmp_path / "large"
    path.write_bytes(bytes(range(256)) * (120 * 4096))  # 120 MiB; parts have 50
    name = store.put(path)
    assert name_of(elsewhere(store).get(name)) == name


def test_files_are_listed_and_deleted(store, pair):
    name = store.put(pair)
    store.register(DATABASE, "sqlite:///x.db")
    assert store.unnamed([name]) == []
    assert store.unnamed([]) == [StoredFile(place_of(name), 5)]
    store.delete(StoredFile(place_of(name), 5))
    assert not elsewhere(store).holds(name)
    assert store.users() == {DATABASE: "sqlite:///x.db"}


def test_what_was_just_missing_is_found_when_another_machine_has_put_it(store, pair):
    assert not store.holds(name_of(pair.with_suffix(".bin")))
    other = RemoteStore(store.url)
    other.put(pair.with_suffix(".bin"))
    assert elsewhere(store).holds(name_of(pair.with_suffix(".bin")))


def test_a_damaged_object_is_refused(store, pair):
    name = store.put(pair)
    fsspec.filesystem("s3").pipe_file(f"{store.url}/{place_of(name)}", b"other")
    with pytest.raises(StoreError, match="is damaged"):
        elsewhere(store).get(name)


def test_a_bucket_that_does_not_exist_is_reported_at_once(bucket):
    with pytest.raises(StoreError, match=r"^files s3://no-such-bucket/x cannot be written: .*bucket does not exist"):
        RemoteStore("s3://no-such-bucket/x").prepare()


@pytest.mark.long
def test_a_server_that_is_away_is_reported(store, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    fsspec.filesystem("s3").clear_instance_cache()
    with pytest.raises(StoreError, match=f"files {store.url} cannot be read: .*127.0.0.1:9"):
        store.holds("ab" * 32)


def test_a_machine_without_keys_is_named_at_once(store, monkeypatch, tmp_path):
    monkeypatch.setattr(remote_files, "PAUSES_S", (1e6,))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    fsspec.filesystem("s3").clear_instance_cache()
    message = f"cannot be read: machine {socket.gethostname()} has no keys for them .*the same command resumes"
    with pytest.raises(StoreError, match=message):
        store.holds("ab" * 32)
