"""Studies on disk: listed, deleted, cleaned."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from support import PYTHON_PATH
from vitsearch.cli.results.studies import deletion_text
from vitsearch.errors import StudyError
from vitsearch.search.admin.housekeeping import Freed, PrintedDatabase, clean, databases, delete, plan_deletion
from vitsearch.search.study_folders import StudyFolders
from vitsearch.space import SearchSpace
from vitsearch.storage.files import FileStore
from vitsearch.storage.ledger import Claim, Ledger, TrainingRow
from vitsearch.storage.stage_cost import StageCost
from vitsearch.storage.stores import adopt_store
from vitsearch.study.database.opening import study_names
from vitsearch.study.study import Study
from vitsearch_agent.base import locks


@pytest.fixture
def opened(space, tmp_path):
    """A study that has no files yet."""
    with StudyFolders.of(space).running(print):
        Study.open(space).close()
    (tmp_path / "unnamed").write_text("unnamed" * 100)
    return tmp_path / "fake.db"


@pytest.fixture
def stored(space, opened, tmp_path):
    """A study with a file that its ledger names and one that no row names."""
    ledger = Ledger.open(space.storage)
    store = adopt_store(ledger, None, {})
    for name in ("named", "unnamed"):
        (tmp_path / name).write_text(name * 100)
        digest = store.put(tmp_path / name)
        if name == "named":
            ledger.add(TrainingRow("w", 1, {"accuracy": 0.9}, 0.1, 100, digest), StageCost(0.0))
    ledger.close()
    return opened


@pytest.fixture
def other(space, stored):
    """Another study in the same database."""
    other_space = SearchSpace.from_json(space.to_json() | {"study": "other"})
    Study.open(other_space).close()
    StudyFolders.of(other_space).own.mkdir(parents=True)
    return other_space


def artifacts(stored):
    return sorted(path for path in (stored.parent / "fake.files" / "artifacts").glob("??/*") if path.is_file())


def test_studies_are_listed_with_what_they_take(stored, other):
    (database,) = databases(stored.parent)
    assert [study.name for study in database.studies] == ["fake", "other"]
    assert [study.last_run for study in database.studies] == [None, None]
    assert database.database_bytes >= stored.stat().st_size
    assert database.files_bytes >= 100 * len("named" + "unnamed")


def test_a_finished_study_has_its_counts(finished):
    (database,) = databases(finished.folder)
    (study,) = database.studies
    records = finished.records()
    assert (study.name, study.trials, study.open) == ("fake", len(records), 0)
    assert study.models > 0
    assert PrintedDatabase.of(database).studies[0].last_run.endswith("+00:00")


def test_listing_changes_no_file(tmp_path):
    (tmp_path / "foreign.db").write_bytes(b"not a database")
    (tmp_path / "empty.db").touch()
    assert databases(tmp_path) == []
    assert (tmp_path / "empty.db").stat().st_size == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty.db", "foreign.db"]


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(StudyError, match=r"none is not a folder; studies are in the folder in which 'vitsearch run'"):
        databases(tmp_path / "none")


def test_the_only_study_is_deleted_with_its_files(stored):
    planned = plan_deletion(str(stored))
    assert (planned.study, planned.others, planned.keeps_results) == ("fake", (), False)
    assert planned.bytes >= stored.stat().st_size
    delete(planned)
    assert sorted(path.name for path in stored.parent.iterdir()) == ["named", "unnamed"]


def test_of_several_studies_the_results_stay_for_the_others(stored, other):
    planned = plan_deletion(f"{stored}#other")
    assert (planned.study, planned.others, planned.keeps_results) == ("other", ("fake",), True)
    assert deletion_text(planned).endswith("The results of its trials stay, because they are shared with fake.")
    delete(planned)
    (database,) = databases(stored.parent)
    assert [study.name for study in database.studies] == ["fake"]
    assert len(artifacts(stored)) == 2
    assert not StudyFolders.of(other).own.exists()


@pytest.mark.long
def test_on_a_server_the_results_stay(space, postgresql, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    url = postgresql()
    for name in ("fake", "other"):
        Study.open(SearchSpace.from_json(space.to_json() | {"storage": url, "study": name})).close()
    ledger = Ledger.open(url)
    ledger.add(TrainingRow("w", 1, {"accuracy": 0.9}, 0.1, 100, "c"), StageCost(0.0))
    planned = plan_deletion(f"{url}#other")
    assert (planned.others, planned.keeps_results) == (("fake",), True)
    delete(planned)
    assert study_names(url) == ["fake"]
    last = plan_deletion(f"{url}#fake")
    assert deletion_text(last).endswith("The results of its trials stay in the database.")
    assert clean(f"{url}#fake", dry_run=False) == Freed(0, 0)
    assert ledger.training("w", 1) is not None
    ledger.close()
    with pytest.raises(StudyError, match="no study 'other' in this database; it holds: fake"):
        plan_deletion(f"{url}#other")


def test_a_study_that_does_not_exist_is_not_deleted(stored):
    with pytest.raises(StudyError) as caught:
        plan_deletion(f"{stored}#nothing")
    assert str(caught.value) == f"no study 'nothing' in {stored}; it holds: fake"


def test_files_that_no_result_names_are_freed(stored):
    assert clean(str(stored), dry_run=True) == Freed(1, 100 * len("unnamed"))
    assert len(artifacts(stored)) == 2
    assert clean(str(stored), dry_run=False) == Freed(1, 100 * len("unnamed"))
    (kept,) = artifacts(stored)
    assert kept.read_text().startswith("named")
    assert clean(str(stored), dry_run=False) == Freed(0, 0)


def test_what_a_killed_process_left_is_freed(stored):
    left = artifacts(stored)[0]
    left = left.with_name(f"{left.name}-abc123.part")
    left.write_text("half")
    scratch = FileStore(stored.parent / "fake.files" / "runs" / "fake" / "scratch")
    sha256 = scratch.put(stored.parent / "unnamed")
    clean(str(stored), dry_run=False)
    assert not left.exists()
    assert not scratch.holds(sha256)


def test_copies_of_an_agent_that_was_killed_are_freed(stored, space):
    """And nothing else of its folder: neither its queue nor files that are not named by a digest."""
    agent = StudyFolders.of(space).agent
    for folder in ("blobs", "partial"):
        (agent / folder).mkdir(parents=True)
        (agent / folder / ("a1" * 32)).write_bytes(b"x" * 1000)
        (agent / folder / "notes.txt").write_text("mine")
    (agent / "jobs.sqlite").write_bytes(b"queue")
    (agent / "blobs" / ("b2" * 32)).symlink_to(agent / "jobs.sqlite")
    assert clean(str(stored), dry_run=True) == Freed(3, 2000 + 700)
    assert clean(str(stored), dry_run=False) == Freed(3, 2000 + 700)
    kept = sorted(path.name for path in agent.rglob("*") if path.is_symlink() or path.is_file())
    assert kept == ["b2" * 32, "jobs.sqlite", "notes.txt", "notes.txt"]


def test_copies_of_an_agent_that_runs_are_its_own(stored, space):
    agent = StudyFolders.of(space).agent
    (agent / "blobs").mkdir(parents=True)
    (agent / "blobs" / ("a1" * 32)).write_bytes(b"x" * 1000)
    with locks.try_lock(str(agent / locks.STATE)):
        assert clean(str(stored), dry_run=True) == Freed(1, 700)


def test_nothing_is_freed_while_another_machine_makes_results(stored, space):
    ledger = Ledger.open(space.storage)
    ledger.claim(Claim("train:w", "elsewhere"), 60.0)
    ledger.close()
    with pytest.raises(StudyError) as caught:
        clean(str(stored), dry_run=False)
    running = "a run on another machine makes 1 results now; wait until it has ended"
    assert str(caught.value) == f"study 'fake': {running}"
    assert len(artifacts(stored)) == 2


def test_files_of_a_place_that_another_database_uses_are_not_freed(opened, space, tmp_path):
    place, other = str(tmp_path / "team"), f"sqlite:///{tmp_path / 'other.db'}"
    for url in (space.storage, other):
        ledger = Ledger.open(url)
        store = adopt_store(ledger, place, {})
        ledger.close()
    (tmp_path / "made").write_text("by the other")
    store.put(tmp_path / "made")
    with pytest.raises(StudyError) as caught:
        clean(str(opened), dry_run=False)
    assert str(caught.value) == f"the store {place} is shared with {other}: which files those need is not known"
    assert len(store.unnamed([])) == 1


def test_files_of_a_place_of_its_own_are_freed_there(opened, space, tmp_path):
    ledger = Ledger.open(space.storage)
    store = adopt_store(ledger, str(tmp_path / "team"), {})
    ledger.close()
    store.put(tmp_path / "unnamed")
    assert clean(str(opened), dry_run=True) == Freed(1, 100 * len("unnamed"))
    assert clean(str(opened), dry_run=False) == Freed(1, 100 * len("unnamed"))
    assert store.unnamed([]) == []


def test_files_in_a_place_stay_when_the_study_is_deleted(opened, space, tmp_path):
    ledger = Ledger.open(space.storage)
    store = adopt_store(ledger, str(tmp_path / "team"), {})
    ledger.close()
    sha256 = store.put(tmp_path / "unnamed")
    planned = plan_deletion(str(opened))
    assert deletion_text(planned).endswith(f"Its files in {tmp_path / 'team'} stay.")
    delete(planned)
    assert store.holds(sha256)


RUNS = """
import sys
from pathlib import Path
from vitsearch.search.study_folders import StudyFolders
with StudyFolders(Path(sys.argv[1]), "fake").running(print):
    print("runs", flush=True)
    sys.stdin.read()
"""


def test_a_study_that_is_run_is_neither_deleted_nor_cleaned(stored):
    command = [sys.executable, "-c", RUNS, str(stored.with_suffix(".files"))]
    environment = os.environ | {"PYTHONPATH": PYTHON_PATH}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as process:
        process.stdout.readline()
        planned = plan_deletion(str(stored))
        for work in (lambda: delete(planned), lambda: clean(str(stored), dry_run=False)):
            with pytest.raises(StudyError, match="study 'fake' is used by"):
                work()
        process.kill()
    assert Path(stored).exists()
    assert len(artifacts(stored)) == 2


def test_files_that_another_database_has_too_are_not_deleted(stored):
    folder = stored.with_suffix(".files") / "artifacts"
    ledger = Ledger.open(f"sqlite:///{stored.parent / 'second.db'}")
    adopt_store(ledger, str(folder), {})
    ledger.close()
    with pytest.raises(StudyError, match=r"the files of .* are also those of .*second\.db: delete those first"):
        plan_deletion(str(stored))
    with pytest.raises(StudyError, match="is shared with"):
        clean(str(stored), dry_run=False)
    assert folder.is_dir()
