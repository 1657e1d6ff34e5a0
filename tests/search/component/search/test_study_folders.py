"""Where the files of a study lie, and who uses them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from support import PYTHON_PATH
from vitsearch.errors import StudyError
from vitsearch.search.study_folders import StudyFolders
from vitsearch.space import SearchSpace
from vitsearch.storage.files import FileStore

STORE = FileStore(Path("artifacts"))
RUNS = """
import sys
from pathlib import Path
from vitsearch.search.study_folders import StudyFolders
with StudyFolders(Path(sys.argv[1]), "fake").running(print):
    print("runs", flush=True)
    sys.stdin.read()
"""


def on_server(space: SearchSpace, url: str) -> StudyFolders:
    return StudyFolders.of(SearchSpace.from_json(space.to_json() | {"storage": url}))


@pytest.fixture
def home(space):
    return StudyFolders.of(space)


@pytest.fixture
def other(home):
    """Another process that runs the study."""
    command = [sys.executable, "-c", RUNS, str(home.shared)]
    environment = os.environ | {"PYTHONPATH": PYTHON_PATH}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as process:
        process.stdout.readline()
        yield process
        process.kill()


def test_files_lie_in_one_folder_for_each_database(space, tmp_path):
    other = SearchSpace.from_json(space.to_json() | {"study": "other"})
    assert StudyFolders.of(space).shared == StudyFolders.of(other).shared == tmp_path / "fake.files"
    assert (
        StudyFolders.of(space).workspace(space, {}, STORE).cache
        == StudyFolders.of(other).workspace(other, {}, STORE).cache
    )
    assert (
        StudyFolders.of(space).workspace(space, {}, STORE).scratch
        != StudyFolders.of(other).workspace(other, {}, STORE).scratch
    )
    assert StudyFolders.of(space).agent != StudyFolders.of(other).agent


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("postgresql+psycopg://me:secret@db:5432/studies", "db-studies.files"),
        ("postgresql+psycopg:///a%2Fb", "a_b.files"),
    ],
)
def test_files_of_a_server_s_database_lie_in_studies(space, url, name):
    assert on_server(space, url).shared == Path("studies", name).resolve()


def test_a_second_run_says_whom_it_joins(home, other):
    said = []
    with home.running(said.append):
        assert other.poll() is None
    who = rf"\S+ \(pid {other.pid} on \S+\) since \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d"
    (line,) = said
    assert re.fullmatch(rf"another run of study 'fake' is active \(by {who}\); this run joins it", line)


def test_a_command_that_needs_the_study_alone_is_refused_while_it_runs(home, other):
    with pytest.raises(StudyError, match=rf"^study 'fake' is used by \S+ \(pid {other.pid} on \S+\) since") as refused:
        home.alone().__enter__()
    assert refused.value.exit_code == 2
    assert f"wait until that has ended, or stop it with Ctrl-C (kill -INT {other.pid})" in str(refused.value)
    assert "the command that was stopped resumes when it is run again" in str(refused.value)


def test_a_run_waits_for_no_command_that_has_the_study_alone(home):
    with home.alone(), pytest.raises(StudyError, match=rf"^study 'fake' is used by \S+ \(pid {os.getpid()} "):
        home.running(print).__enter__()


def test_a_study_is_free_again_when_its_run_was_killed(home, other):
    other.kill()
    other.wait()
    with home.alone():
        pass


def test_another_study_of_the_same_database_may_run_meanwhile(home, other):
    with StudyFolders(home.shared, "second").alone():
        assert other.poll() is None


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "x.files").write_text("a file where the folder should be")
    with pytest.raises(
        StudyError, match=r"study 'fake': its files cannot be written to .*x\.files/runs/fake: File exists"
    ):
        StudyFolders(tmp_path / "x.files", "fake").alone().__enter__()
