"""What 'vitsearch db' prints, and its exit codes."""

from __future__ import annotations

import shutil

import pytest
from typer.testing import CliRunner

from vitsearch.cli.app import app
from vitsearch.cli.results.databases import copied_text, prepared_text
from vitsearch.errors import StudyError
from vitsearch.search.admin.copying import Copied, CopiedStudy
from vitsearch.study.database.opening import Prepared

URL = "postgresql+psycopg://me:***@db/vit"


@pytest.fixture
def folder(finished, tmp_path, monkeypatch):
    """A folder with the database of a finished study."""
    shutil.copy(finished.folder / "fake.db", tmp_path / "fake.db")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def said(*arguments):
    done = CliRunner().invoke(app, ["db", *arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_a_copy_says_what_it_has_added():
    studies = CopiedStudy("parts", 30, 2, True), CopiedStudy("nuts", 1, 0, False)
    text = copied_text(Copied("sqlite:///a.db", URL, studies, 1, 2, 3_000_000, 0))
    assert text.splitlines() == [
        "Study parts was copied: 30 trials, of which 2 wait for a run there.",
        "Study nuts (1 trial) is there already, and is the same.",
        f"1 result and 2 files (3 MB) were added to {URL}.",
    ]


def test_a_copy_names_the_files_that_are_gone():
    text = copied_text(Copied("sqlite:///a.db", URL, (), 0, 0, 0, 3))
    assert text.splitlines()[0] == "No study to copy."
    assert text.splitlines()[-1] == (
        "Gone from the store of sqlite:///a.db: 3 files. A run that needs them makes them again."
    )


@pytest.mark.parametrize(
    ("is_new", "text"), [(True, "tables were made (version 7)."), (False, "all tables are there (version 7).")]
)
def test_a_prepared_database_is_named_with_its_version(is_new, text):
    assert prepared_text(Prepared(URL, "7", is_new)) == f"{URL}: {text}"


def test_the_commands_do_what_they_say(folder):
    assert "Study fake was copied" in said("copy", "fake.db", "other.db")
    assert "is there already" in said("copy", "fake.db#fake", "sqlite:///other.db")
    assert said("prepare", "other.db").startswith("sqlite:///other.db: all tables are there")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["copy", "fake.db", "other"], "'other' is not a database; allowed: a .db file, sqlite:///FILE"),
        (["copy", "fake.db", "other.db#fake"], "'other.db#fake' names a study; a database is a storage URL or a .db"),
        (["prepare", "sqlite:///none.db"], "storage sqlite:///none.db: none.db does not exist"),
    ],
)
def test_what_is_asked_wrongly_is_refused_with_exit_code_2(folder, arguments, message):
    with pytest.raises(StudyError) as caught:
        said(*arguments)
    assert message in str(caught.value)
    assert caught.value.exit_code == 2
    assert not (folder / "other.db").exists()
