"""The guarantees of an artifact store, tested on FileStore."""

from __future__ import annotations

import hashlib
import os
import shutil

import pytest

from vitsearch.errors import StoreError
from vitsearch.storage.files import FileStore, ScratchFiles


@pytest.fixture
def store(tmp_path) -> FileStore:
    return FileStore(tmp_path / "store")


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"weights")
    return path


def files_of(store):
    return [path for path in store.root.rglob("*") if path.is_file()]


def test_get_returns_the_bytes_that_put_stored(store, file):
    name = store.put(file)
    assert name == hashlib.sha256(b"weights").hexdigest()
    assert store.get(name).read_bytes() == b"weights"
    assert store.holds(name)


def test_put_stores_equal_bytes_once(store, file, tmp_path):
    copy = tmp_path / "copy"
    copy.write_bytes(b"weights")
    assert store.put(file) == store.put(copy)
    assert len(files_of(store)) == 1


def test_the_original_can_be_deleted_after_put(store, file):
    name = store.put(file)
    file.unlink()
    assert store.get(name).read_bytes() == b"weights"


def test_a_missing_file_is_reported_with_the_store(store):
    with pytest.raises(StoreError, match="artifact abababababab is not in the store .*store: was the folder moved"):
        store.get("ab" * 32)
    assert not store.holds("ab" * 32)


@pytest.mark.parametrize("kind", ["file", "model"])
def test_a_file_with_other_bytes_than_its_name_says_is_none_and_is_replaced(store, file, kind):
    put, get = (store.put, store.get) if kind == "file" else (lambda path: store.put_model(path).sha256, store.model)
    name = put(file)
    assert get(name).read_bytes() == b"weights"
    get(name).write_bytes(b"weigths")
    assert not store.holds(name)
    with pytest.raises(StoreError, match=f"{name[:12]} is damaged: .* the next 'vitsearch run' makes it again"):
        get(name)
    assert put(file) == name
    assert get(name).read_bytes() == b"weights"


def test_a_file_is_read_once_to_compare_it(store, file, monkeypatch):
    name = store.put(file)
    store.get(name)
    monkeypatch.setattr("vitsearch.storage.files.name_of", lambda path: pytest.fail(f"{path} was read again"))
    assert store.holds(name)
    store.get(name)


@pytest.mark.parametrize("step", ["copyfileobj", "replace"])
def test_a_failed_put_leaves_no_file(store, file, monkeypatch, step):
    def crash(*_paths):
        raise OSError("no space left on device")

    monkeypatch.setattr(shutil if step == "copyfileobj" else os, step, crash)
    with pytest.raises(OSError, match="no space"):
        store.put(file)
    assert files_of(store) == []


def test_an_incomplete_file_is_not_found(store, file):
    name = hashlib.sha256(b"weights").hexdigest()
    folder = store.root / name[:2]
    folder.mkdir(parents=True)
    (folder / f"{name[2:]}-x.part").write_bytes(b"wei")
    assert not store.holds(name)
    assert store.get(store.put(file)).read_bytes() == b"weights"


def test_the_last_user_deletes_a_scratch_file(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"graph")
    store = FileStore(tmp_path / "scratch")
    scratch, sha256 = ScratchFiles(store), store.put_model(tmp_path / "model.onnx").sha256
    with scratch.using(sha256):
        with scratch.using(sha256):
            pass
        assert store.holds(sha256)
    assert not store.holds(sha256)


def test_a_scratch_file_stays_when_its_use_fails(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"graph")
    store = FileStore(tmp_path / "scratch")
    scratch, sha256 = ScratchFiles(store), store.put_model(tmp_path / "model.onnx").sha256
    with pytest.raises(KeyError), scratch.using(sha256):
        raise KeyError
    assert store.holds(sha256)


@pytest.fixture
def pair(tmp_path):
    """A model of two files."""
    (tmp_path / "model.xml").write_bytes(b"graph")
    (tmp_path / "model.bin").write_bytes(b"weights")
    return tmp_path / "model.xml"


def test_a_model_of_one_file_keeps_its_digest_and_its_suffix(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"graph")
    store = FileStore(tmp_path / "store")
    stored = store.put_model(tmp_path / "model.onnx")
    assert (stored.sha256, stored.size_bytes) == (hashlib.sha256(b"graph").hexdigest(), 5)
    assert store.model(stored.sha256).suffix == ".onnx"


def test_the_files_of_a_model_stay_together(pair, tmp_path):
    store = FileStore(tmp_path / "store")
    stored = store.put_model(pair)
    path = store.model(stored.sha256)
    assert (path.read_bytes(), path.with_suffix(".bin").read_bytes()) == (b"graph", b"weights")
    assert stored.size_bytes == 12


def test_models_that_share_one_file_are_two(pair, tmp_path):
    store = FileStore(tmp_path / "store")
    first = store.put_model(pair)
    pair.with_suffix(".bin").write_bytes(b"others")
    second = store.put_model(pair)
    assert first.sha256 != second.sha256
    assert store.model(second.sha256).with_suffix(".bin").read_bytes() == b"others"


def test_all_files_of_a_model_are_dropped(pair, tmp_path):
    store = FileStore(tmp_path / "store")
    sha256 = store.put_model(pair).sha256
    store.drop_model(sha256)
    assert not store.holds(sha256)
    assert [path for path in (tmp_path / "store").rglob("*") if path.is_file()] == []


def test_a_model_that_is_gone_is_named(tmp_path):
    with pytest.raises(StoreError, match="model abababababab is not in the store"):
        FileStore(tmp_path).model("ab" * 32)
