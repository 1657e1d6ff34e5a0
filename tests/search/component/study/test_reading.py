"""A study can be read whenever its file can, and reading changes nothing."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from support.disks import fill, small_disk
from support.reading import commands, outcomes, state_of
from vitsearch.cli.app import app
from vitsearch.errors import StoreError, StudyError
from vitsearch.storage.ledger import Ledger, snapshot, tables
from vitsearch.storage.ledger.seals import sealed
from vitsearch.study.database.opening import delete_study, study_names
from vitsearch.study.lookup import find, opened
from vitsearch.study.study import Study

ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to mount a disk or to become another user")
NOBODY = 65534
AS_NOBODY = """
import os, sys
from support.disks import fill, small_disk
from support.reading import outcomes
known, where = sys.argv[1:]
outcomes(known, None)  # imports everything: another user may not read this checkout
os.chdir("/")
os.setgroups([]), os.setgid(65534), os.setuid(65534)
print({name: error for name, error in outcomes(where, None).items() if error})
"""


@pytest.fixture
def page(tmp_path) -> str:
    return str(tmp_path / "page.html")


@pytest.fixture
def study(finished_copy):
    """A finished one of its own, in `fake.db`."""
    return finished_copy()


@pytest.fixture
def public(study) -> Iterator[Path]:
    """A folder that every user can enter, with a copy of the study."""
    folder = Path(tempfile.mkdtemp(prefix="vitsearch-public-"))
    folder.chmod(0o755)
    shutil.copytree(study.folder.parent, folder / "studies")
    (folder / "studies/fake.files").chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def disk(tmp_path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk") as folder:
        yield folder


def as_nobody(place: Path, where: Path) -> str:
    """What the commands did not show to another user."""
    command = [sys.executable, "-c", AS_NOBODY, str(place), str(where)]
    paths = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=paths)
    return done.stdout.strip() if done.returncode == 0 else done.stderr[-1500:]


def test_reading_leaves_no_file_and_changes_none(study, page):
    before = state_of(study.folder.parent)
    assert not any(outcomes(str(study.folder.parent / "fake.db"), page).values())
    after = state_of(study.folder.parent)
    after.pop(page)
    assert after == before


@pytest.mark.long
@ROOT
@pytest.mark.parametrize("mode", [0o555, 0o755])
def test_another_user_reads_a_study(public, study, mode):
    (public / "studies").chmod(mode)
    before = state_of(public)
    assert as_nobody(study.folder.parent / "fake.db", public / "studies/fake.db") == "{}"
    assert state_of(public) == before


@pytest.mark.long
@ROOT
def test_a_study_on_a_full_disk_is_read(study, disk, page):
    shutil.copytree(study.folder.parent, disk / "studies", ignore=shutil.ignore_patterns("disk"))
    fill(disk)
    assert not any(outcomes(str(disk / "studies/fake.db"), page).values())


@ROOT
def test_one_of_two_studies_on_a_full_disk_is_deleted_as_a_whole_or_not_at_all(study, disk):
    shutil.copytree(study.folder.parent, disk / "studies", ignore=shutil.ignore_patterns("disk"))
    url = f"sqlite:///{disk}/studies/fake.db"
    second = study.space.to_json() | {"storage": url, "study": "second"}
    Study.open(type(study.space).from_json(second)).close()
    (disk / "log").write_bytes(bytes(1_000_000))
    fill(disk)
    with pytest.raises(StoreError, match=r"fake\.db cannot be (written|opened): [^\n]*$"):
        delete_study(url, "fake")
    (disk / "log").unlink()  # as a command does that deletes files first
    assert study_names(url) == ["fake", "second"]
    delete_study(url, "fake")
    assert study_names(url) == ["second"]


@pytest.mark.long
@ROOT
def test_a_study_on_a_read_only_disk_is_read_and_not_run(study, disk, page):
    shutil.copytree(study.folder.parent, disk / "studies", ignore=shutil.ignore_patterns("disk"))
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    assert not any(outcomes(str(disk / "studies/fake.db"), page).values())
    with pytest.raises(StoreError, match=r"^storage sqlite:///.*fake\.db cannot be written: [^\n]*$"):
        Ledger.open(f"sqlite:///{disk}/studies/fake.db")
    there = type(study.space).from_json(study.space.to_json() | {"storage": f"sqlite:///{disk}/studies/fake.db"})
    with pytest.raises(StoreError, match=r"^storage sqlite:///.*fake\.db cannot be (written|opened): [^\n]*$"):
        Study.open(there)


def test_a_run_that_goes_on_is_read_with_its_newest_rows(study, page):
    where = str(study.folder.parent / "fake.db")
    running = Study.open(study.space)
    try:
        running.remember("newest", 1)
        before = state_of(study.folder.parent)
        with opened(where) as (opened_study, _):
            assert opened_study.attributes["newest"] == 1
            running.remember("newest", 2)
            assert opened_study.attributes["newest"] == 2
        assert not any(outcomes(where, page).values())
        assert {Path(path).name for path in before} | {"page.html"} == {
            Path(path).name for path in state_of(study.folder.parent)
        }
    finally:
        running.close()


def test_a_run_that_begins_while_a_study_is_open_is_seen(study):
    with opened(str(study.folder.parent / "fake.db")) as (opened_study, _):
        assert "newest" not in opened_study.attributes
        running = Study.open(study.space)
        running.remember("newest", 1)
        assert opened_study.attributes["newest"] == 1
        running.close()
        assert opened_study.attributes["newest"] == 1


def killed_in_a_run(folder: Path) -> None:
    """Leave a log with a newer row, as a run that was killed does."""
    digest = sealed(tables.study_attribute, {"name": "newest", "value": "1"})["digest"]
    program = (
        "import os, sqlite3, sys\n"
        "writer = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "writer.execute(\"INSERT INTO vs_study_attribute VALUES (1, 'newest', '1', ?)\", sys.argv[2:])\n"
        f"os.kill(os.getpid(), {int(signal.SIGKILL)})\n"
    )
    subprocess.run([sys.executable, "-c", program, str(folder / "fake.db"), digest], check=False)
    assert (folder / "fake.db-wal").stat().st_size


@pytest.mark.parametrize("index", ["with its index", "without its index"])
def test_what_a_killed_run_has_left_in_the_log_is_read(study, index):
    folder = study.folder.parent
    killed_in_a_run(folder)
    if index == "without its index":
        (folder / "fake.db-shm").unlink()
    before = state_of(folder)
    with opened(str(folder / "fake.db")) as (opened_study, _):
        assert opened_study.attributes["newest"] == 1
    assert state_of(folder) == before


def test_what_was_written_while_a_file_was_read_without_locks_is_refused(study):
    url = study.space.storage
    with pytest.raises(StoreError, match="was written while it was read; run the same command again"), snapshot(url):
        write(study)


def write(study) -> None:
    """As a short run does, whose log is moved into the file at its end."""
    running = Study.open(study.space)
    running.remember("newest", 1)
    running.close()


def test_a_study_that_is_opened_to_read_cannot_be_changed(study):
    refused = pytest.raises(StoreError, match="cannot be written: attempt to write a readonly database")
    with opened(str(study.folder.parent / "fake.db")) as (opened_study, _), refused:
        opened_study.remember("newest", 1)


def make(kind: str, path: Path) -> None:
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as listener:
            here = os.getcwd()
            os.chdir(path.parent)  # the name of a socket is short
            listener.bind(path.name)
            os.chdir(here)
    elif kind == "folder":
        path.mkdir()
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "dangling":
        path.symlink_to("nothing")
    elif kind == "loop":
        path.symlink_to(path.name)
    elif kind == "empty":
        path.touch()
    else:
        path.write_text("no database" * 1000)


KINDS = {
    "pipe": "is a pipe, not a database",
    "socket": "is a socket, not a database",
    "folder": "is a folder, not a database",
    "device": "is a device file, not a database",
    "dangling": "does not exist",
    "loop": "cannot be opened: Too many levels",
    "empty": "is empty, not a database",
    "text": "file is not a database",
}


@pytest.mark.parametrize(("kind", "said"), KINDS.items())
def test_what_is_no_database_is_one_line(tmp_path, kind, said, page):
    path = tmp_path / "a.db"
    make(kind, path)
    for name, arguments in commands(str(path), page).items():
        done = CliRunner().invoke(app, arguments)
        if name == "list":
            assert done.exit_code == 0
        else:
            assert isinstance(done.exception, (StudyError, StoreError)), name
            assert said in str(done.exception)
            assert "\n" not in str(done.exception)


@pytest.mark.parametrize("kind", ["pipe", "socket", "folder", "device", "loop", "text"])
def test_no_study_is_run_in_what_is_no_database(tmp_path, space, kind):
    make(kind, tmp_path / "a.db")
    for opening in (Ledger.open, lambda url: Study.open(space.model_copy(update={"storage": url}))):
        with pytest.raises((StudyError, StoreError)) as refused:
            opening(f"sqlite:///{tmp_path / 'a.db'}")
        assert "\n" not in str(refused.value)


def test_a_path_that_no_system_has_is_one_line():
    for name in ("x" * 300 + ".db", "a\0b.db"):
        with pytest.raises(StudyError, match=r"cannot be opened: [^\n]*$"):
            find(name)


def test_a_listing_names_what_it_leaves_out(study, warnings_of):
    folder = study.folder.parent
    os.mkfifo(folder / "a.db")
    heard = warnings_of("vitsearch.search.admin.housekeeping")
    done = CliRunner().invoke(app, ["studies", "list", str(folder)])
    assert done.exit_code == 0
    assert "fake" in done.output
    assert heard == [f"left out: {folder / 'a.db'} is a pipe, not a database"]
