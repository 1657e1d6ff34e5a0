"""The database says where its files are."""

from __future__ import annotations

import pytest

from vitsearch.errors import StoreError, StudyError
from vitsearch.storage.files import FileStore
from vitsearch.storage.ledger import Ledger
from vitsearch.storage.remote_files import RemoteStore
from vitsearch.storage.stores import VARIABLE, adopt_store, other_users, store_of

URL = "s3://team/vit"


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    """The files of a database on a server go below the working folder."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def database(storage):
    ledger = Ledger.open(storage)
    yield ledger
    ledger.close()


@pytest.fixture
def beside(database):
    return FileStore(database.files / "artifacts")


def test_a_database_that_was_never_run_has_its_files_beside_it(database, beside):
    assert store_of(database) == beside


def test_without_a_place_files_go_beside_the_database(database, beside):
    assert adopt_store(database, None, {}) == store_of(database) == beside


def test_a_place_that_was_asked_for_is_remembered(ledger, tmp_path):
    adopted = adopt_store(ledger, str(tmp_path / "team"), {})
    assert adopted == store_of(ledger) == FileStore(tmp_path / "team")
    assert adopt_store(ledger, None, {}) == adopted
    assert adopt_store(ledger, f"file://{tmp_path / 'team'}/", {}) == adopted


def test_the_variable_names_the_place_of_a_new_database(ledger, tmp_path):
    environ = {VARIABLE: str(tmp_path / "team")}
    assert adopt_store(ledger, None, environ) == FileStore(tmp_path / "team")
    assert adopt_store(ledger, None, {}) == FileStore(tmp_path / "team")


def test_a_space_file_says_more_than_the_variable(ledger, tmp_path):
    environ = {VARIABLE: str(tmp_path / "mine")}
    assert adopt_store(ledger, str(tmp_path / "team"), environ) == FileStore(tmp_path / "team")


def test_the_variable_moves_no_files_of_an_old_database(database, beside, tmp_path):
    adopt_store(database, None, {})
    assert adopt_store(database, None, {VARIABLE: str(tmp_path / "team")}) == beside


def test_another_place_is_refused_with_both_and_a_way_out(database, beside, tmp_path):
    adopt_store(database, None, {})
    with pytest.raises(StudyError) as caught:
        adopt_store(database, "s3://team/vit", {})
    assert f"are in {beside.root}, not in s3://team/vit: leave 'files' out, or copy" in str(caught.value)
    assert f"vitsearch db copy {database.shown} OTHER --files s3://team/vit" in str(caught.value)


@pytest.mark.parametrize(
    ("place", "problem"),
    [
        ("ftp://host/x", "'ftp://host/x' is not a place for files; allowed: a folder, s3://..., gs://..., sftp://..."),
        ("sftp://me:secret@host/x", "a key or password does not belong in an address"),
    ],
)
def test_a_variable_that_names_no_place_is_refused(database, place, problem):
    with pytest.raises(StudyError) as caught:
        adopt_store(database, None, {VARIABLE: place})
    assert str(caught.value).startswith(f"{VARIABLE}: {problem}")
    assert "secret" not in str(caught.value)
    assert database.inventory.files_place() is None


def test_a_place_that_cannot_be_written_is_reported_and_not_remembered(ledger, tmp_path):
    (tmp_path / "team").write_text("a file")
    with pytest.raises(StoreError, match=r"files .*team cannot be written: (Not a directory|File exists)"):
        adopt_store(ledger, str(tmp_path / "team"), {})
    assert adopt_store(ledger, str(tmp_path / "other"), {}) == FileStore(tmp_path / "other")


def test_databases_that_share_a_place_know_each_other(tmp_path):
    place = str(tmp_path / "team")
    first, second, alone = (Ledger.open(f"sqlite:///{tmp_path / name}") for name in ("one.db", "two.db", "alone.db"))
    for ledger in (first, second):
        adopt_store(ledger, place, {})
    adopt_store(alone, None, {})
    assert other_users(first) == [f"sqlite:///{tmp_path / 'two.db'}"]
    assert other_users(second) == [f"sqlite:///{tmp_path / 'one.db'}"]
    assert other_users(alone) == []
    for ledger in (first, second, alone):
        ledger.close()


def test_two_drivers_that_begin_at_once_agree(storage):
    first, second = Ledger.open(storage), Ledger.open(storage)
    assert first.inventory.adopt_files_place("") == second.inventory.adopt_files_place("/other")
    first.close()
    second.close()


def test_a_url_is_a_store_on_a_server(ledger, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    ledger.inventory.adopt_files_place(URL)
    assert store_of(ledger) == RemoteStore(URL)
