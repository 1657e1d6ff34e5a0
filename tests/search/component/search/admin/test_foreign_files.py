"""What is not ours is left alone by `studies clean` and `studies delete`, whatever a database says."""

from __future__ import annotations

import os
import shutil

import pytest
from sqlalchemy import create_engine, text

from support.seals import reseal
from vitsearch.errors import StoreError, StudyError
from vitsearch.search.admin.housekeeping import Freed, clean, delete, plan_deletion
from vitsearch.search.study_folders import StudyFolders
from vitsearch.storage.files import FileStore
from vitsearch.storage.ledger import Ledger, TrainingRow
from vitsearch.storage.ownership_notes import NOTE
from vitsearch.storage.stage_cost import StageCost
from vitsearch.storage.stores import adopt_store, writable_store
from vitsearch.study.study import Study

DIGEST = "ab" * 32
HOSTILE = ["../victim", "../../../victim", "..", "", ".", "/etc", "a/b", "a\n", "A", "x" * 65, "%2e%2e", "-rf"]


@pytest.fixture
def stored(space, tmp_path):
    """A study with its files at the place `share`, where others have files too; the path of its database."""
    with StudyFolders.of(space).running(print):
        Study.open(space).close()
    share(tmp_path)
    ledger = Ledger.open(space.storage)
    store = adopt_store(ledger, str(tmp_path / "share"), {})
    (tmp_path / "unnamed").write_text("unnamed")
    store.put(tmp_path / "unnamed")
    ledger.close()
    return tmp_path / "fake.db"


def share(folder):
    """Files of others, some with names that are almost ours."""
    for place in (
        "ml/model.bin",
        "v1/notes.md",
        "eu/customers/2026.parquet",
        f"ab/{DIGEST}",  # not in the folder of its first two
        f"ab/{'cd' * 31}.txt",
        f"ab/{'CD' * 31}",
        f"ab/{'cd' * 30}",
        f"cd/notes-{'x' * 8}.part",
        "databases/README",
        "README.txt",
    ):
        path = folder / "share" / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("of others")


def contents(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def victim(tmp_path):
    """A folder of somebody else, with files as a study has them; checked to be whole after the test."""
    victim = tmp_path / "victim"
    for place in (
        f"ab/{'cd' * 31}",
        "scratch/ab/model.onnx",
        f"scratch/ab/{'cd' * 31}.onnx",
        "agent/token",
        "logs/x.log",
    ):
        (victim / place).parent.mkdir(parents=True, exist_ok=True)
        (victim / place).write_text("of the victim")
    before = contents(victim)
    yield victim
    assert contents(victim) == before


def edit(database, statement, **values):
    engine = create_engine(f"sqlite:///{database}")
    with engine.begin() as connection:
        connection.execute(text(statement), values)
    engine.dispose()


def rename(database, name):
    edit(database, "UPDATE vs_study SET name = :name", name=name)
    edit(database, "UPDATE vs_run SET study = :name", name=name)
    reseal(database)


def test_a_shared_place_keeps_the_files_of_others(stored, tmp_path):
    before = set(contents(tmp_path / "share"))
    assert clean(str(stored), dry_run=True) == Freed(1, 7)
    assert clean(str(stored), dry_run=False) == Freed(1, 7)
    share(tmp_path)
    gone = before - set(contents(tmp_path / "share"))
    assert [len(place) for place in gone] == [65]
    assert all((tmp_path / "share" / place).exists() for place in ("ml/model.bin", "v1/notes.md", "README.txt"))


def test_a_readme_of_others_is_not_overwritten(stored, tmp_path):
    assert (tmp_path / "share" / "README.txt").read_text() == "of others"
    assert (tmp_path / "share" / NOTE).exists()


def test_a_place_without_our_note_is_not_cleaned(stored, tmp_path):
    (tmp_path / "share" / NOTE).unlink()
    before = contents(tmp_path / "share")
    with pytest.raises(StudyError) as caught:
        clean(str(stored), dry_run=False)
    place = tmp_path / "share"
    assert str(caught.value) == f"the place {place} has no note of vitsearch ({NOTE}), so nothing in it is deleted"
    assert contents(place) == before


@pytest.mark.parametrize("content", [None, b"", b"something else", b"\xff" * 200])
def test_another_note_is_not_ours(stored, tmp_path, content):
    note = tmp_path / "share" / NOTE
    note.unlink()
    if content is None:
        os.mkfifo(note)
    else:
        note.write_bytes(content)
    with pytest.raises(StudyError, match="has no note of vitsearch"):
        clean(str(stored), dry_run=False)


def test_a_database_cannot_name_a_place_of_others(stored, victim):
    edit(stored, "UPDATE vs_files_place SET address = :address", address=str(victim))
    with pytest.raises(StudyError, match="has no note of vitsearch"):
        clean(str(stored), dry_run=False)
    ledger = Ledger.open(f"sqlite:///{stored}")
    with pytest.raises(StudyError, match="which is not empty and has no note of vitsearch"):
        adopt_store(ledger, None, {})
    with pytest.raises(StudyError, match="which is not empty and has no note of vitsearch"):
        writable_store(ledger)
    ledger.close()


def test_a_place_that_a_person_names_is_used_again(stored, tmp_path):
    (tmp_path / "share" / NOTE).unlink()
    ledger = Ledger.open(f"sqlite:///{stored}")
    assert adopt_store(ledger, str(tmp_path / "share"), {}).is_ours()
    ledger.close()


def test_a_place_that_was_emptied_is_used_again(stored, tmp_path):
    shutil.rmtree(tmp_path / "share")
    ledger = Ledger.open(f"sqlite:///{stored}")
    assert adopt_store(ledger, None, {}).is_ours()
    ledger.close()


@pytest.mark.parametrize(
    "address",
    ["ftp://host/x", "http://host/x", "github://a:b@/x", "s3://a::file:///etc", "simplecache::s3://a/b", "dir::x://y"],
)
def test_only_documented_kinds_of_places_are_opened(stored, address):
    edit(stored, "UPDATE vs_files_place SET address = :address", address=address)
    with pytest.raises(StudyError, match=r"fake\.db: .* (is not a place for files|is several places)"):
        clean(str(stored), dry_run=False)


@pytest.mark.parametrize("name", ["../../victim/note", "/victim", "", "x" * 32])
def test_a_database_cannot_name_the_file_of_its_note(stored, victim, name):
    edit(stored, "UPDATE vs_files_place SET database = :name", name=name)
    ledger = Ledger.open(f"sqlite:///{stored}")
    with pytest.raises(StoreError, match="allowed: 32 of 0-9 and a-f"):
        adopt_store(ledger, None, {})
    ledger.close()


@pytest.mark.parametrize("sha256", ["../../victim/ab", "/etc/passwd", "..", "AB" * 32, "ab" * 31, ""])
def test_a_digest_of_a_database_is_no_path(tmp_path, sha256):
    store = FileStore(tmp_path / "share")
    for use in (store.get, store.model, store.holds, store.find_model, store.drop_model):
        with pytest.raises(StoreError, match="allowed: a SHA-256"):
            use(sha256)


@pytest.mark.parametrize("name", HOSTILE)
def test_the_name_of_a_study_is_no_path(stored, victim, name):
    rename(stored, name)
    for work in (
        lambda: clean(str(stored), dry_run=False),
        lambda: delete(plan_deletion(f"{stored}#{name}")),
        lambda: delete(plan_deletion(str(stored))),
    ):
        with pytest.raises(StudyError):
            work()
    assert stored.exists()


def test_a_name_that_is_typed_is_no_path(stored, victim):
    with pytest.raises(StudyError, match=r"'\.\.' is not the name of a study; allowed"):
        plan_deletion(f"{stored}#..")


LINKS = [
    "fake.files/runs",
    "fake.files/runs/fake",
    "fake.files/runs/fake/scratch",
    "fake.files/runs/fake/agent",
    "fake.files/cache",
    "fake.files/artifacts",
    "fake.files",
    "share/ab",
    f"share/ab/{'cd' * 31}",
]


@pytest.mark.parametrize("link", LINKS)
def test_no_link_is_followed(stored, victim, tmp_path, link):
    path = tmp_path / link
    if path.is_dir():
        shutil.rmtree(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.symlink_to(victim / "ab" if link == "share/ab" else victim)
    clean(str(stored), dry_run=False)
    delete(plan_deletion(str(stored)))
    assert not stored.exists()


@pytest.mark.parametrize("link", ["fake.files/runs", "fake.files/runs/fake"])
def test_a_run_writes_through_no_link(stored, victim, space, tmp_path, link):
    shutil.rmtree(tmp_path / link)
    (tmp_path / link).symlink_to(victim)
    with (
        pytest.raises(StudyError, match="is a link; the folder of a study must not be one"),
        StudyFolders.of(space).running(print),
    ):
        pass


def test_a_folder_of_others_beside_the_database_stays(space, tmp_path, victim):
    victim.rename(tmp_path / "fake.files")
    with StudyFolders.of(space).running(print):
        Study.open(space).close()
        Ledger.open(space.storage).close()
    before = contents(tmp_path / "fake.files")
    planned = plan_deletion(str(tmp_path / "fake.db"))
    assert planned.kept_files == str(tmp_path / "fake.files")
    delete(planned)
    assert contents(tmp_path / "fake.files") == before
    (tmp_path / "fake.files").rename(victim)
    shutil.rmtree(victim / "runs")


def test_files_that_others_put_into_our_folders_stay(space, tmp_path):
    home = StudyFolders.of(space)
    with home.running(print):
        Study.open(space).close()
    ledger = Ledger.open(space.storage)
    store = adopt_store(ledger, None, {})
    (tmp_path / "model").write_text("model")
    ledger.add(TrainingRow("w", 1, {"accuracy": 0.9}, 0.1, 100, store.put(tmp_path / "model")), StageCost(0.0))
    ledger.close()
    notes = [home.shared / "notes.md", home.own / "notes.md", home.shared / "artifacts" / "v1" / "notes.md"]
    for note in notes:
        note.parent.mkdir(exist_ok=True)
        note.write_text("of others")
    delete(plan_deletion(str(tmp_path / "fake.db")))
    left = [path for path in contents(home.shared) if path != NOTE]
    assert left == sorted(str(note.relative_to(home.shared)) for note in notes)


def test_a_place_with_files_that_are_named_like_ours_is_refused(space, tmp_path):
    foreign = tmp_path / "objects" / "ab" / ("cd" * 31)
    foreign.parent.mkdir(parents=True)
    foreign.write_text("of another program")
    ledger = Ledger.open(space.storage)
    with pytest.raises(StudyError, match=r"has files that are named like ours, such as ab/cdcd.*; name another place"):
        adopt_store(ledger, str(tmp_path / "objects"), {})
    assert ledger.inventory.files_place() is None
    ledger.close()
    assert contents(tmp_path / "objects") == [f"ab/{'cd' * 31}"]


def test_a_database_that_is_a_link_is_deleted_where_it_is(stored, tmp_path):
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "fake.db").symlink_to(stored)
    with pytest.raises(
        StudyError, match=r"linked/fake\.db is a link; delete the study in the file to which it leads: "
    ):
        plan_deletion(str(tmp_path / "linked" / "fake.db"))
