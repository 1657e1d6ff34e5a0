"""What is promised of every artifact store, on the one that we have."""

from __future__ import annotations

import hashlib
import os
import shutil

import pytest

from vitsearch.errors import StoreError
from vitsearch.storage.files import FileStore, Loans


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


def test_what_was_put_can_be_got_byte_for_byte(store, file):
    name = store.put(file)
    assert name == hashlib.sha256(b"weights").hexdigest()
    assert store.get(name).read_bytes() == b"weights"
    assert store.holds(name)


def test_the_same_bytes_are_kept_once(store, file, tmp_path):
    copy = tmp_path / "copy"
    copy.write_bytes(b"weights")
    assert store.put(file) == store.put(copy)
    assert len(files_of(store)) == 1


def test_the_original_may_go(store, file):
    name = store.put(file)
    file.unlink()
    assert store.get(name).read_bytes() == b"weights"


def test_what_is_missing_is_told_with_where(store):
    with pytest.raises(StoreError, match="artifact abababababab is not in the store .*store: was the folder moved"):
        store.get("ab" * 32)
    assert not store.holds("ab" * 32)


@pytest.mark.parametrize("step", ["copyfile", "replace"])
def test_a_crash_leaves_no_half_file(store, file, monkeypatch, step):
    def crash(*_paths):
        raise OSError("no space left on device")

    monkeypatch.setattr(shutil if step == "copyfile" else os, step, crash)
    with pytest.raises(OSError, match="no space"):
        store.put(file)
    assert files_of(store) == []


def test_a_file_that_is_half_there_is_not_found(store, file):
    name = hashlib.sha256(b"weights").hexdigest()
    folder = store.root / name[:2]
    folder.mkdir(parents=True)
    (folder / ".partial-x").write_bytes(b"wei")
    assert not store.holds(name)
    assert store.get(store.put(file)).read_bytes() == b"weights"


def test_a_lent_file_is_dropped_by_the_last_that_returns_it(tmp_path):
    (tmp_path / "model").write_bytes(b"graph")
    store = FileStore(tmp_path / "scratch")
    loans, sha256 = Loans(store), store.put(tmp_path / "model")
    with loans.lent(sha256):
        with loans.lent(sha256):
            pass
        assert store.holds(sha256)
    assert not store.holds(sha256)


def test_a_lent_file_stays_when_its_use_fails(tmp_path):
    (tmp_path / "model").write_bytes(b"graph")
    store = FileStore(tmp_path / "scratch")
    loans, sha256 = Loans(store), store.put(tmp_path / "model")
    with pytest.raises(KeyError), loans.lent(sha256):
        raise KeyError
    assert store.holds(sha256)
