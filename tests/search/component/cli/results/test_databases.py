"""What 'vitsearch db' prints, and its exit codes."""

from __future__ import annotations

import shutil

import pytest
from typer.testing import CliRunner

from vitsearch.cli.app import app
from vitsearch.cli.results.databases import copied_text, upgraded_text
from vitsearch.errors import StudyError
from vitsearch.search.admin.copying import Copied, CopiedStudy
from vitsearch.storage.ledger import Versions
from vitsearch.study.database.versions import Upgraded

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


def test_an_upgrade_says_from_which_version_to_which():
    assert upgraded_text(Upgraded(URL, Versions("0001", "0002"), Versions("v3", "v3"))).splitlines() == [
        f"{URL}: results from 0001 to 0002",
        f"{URL}: trials already at version v3",
    ]


def test_an_empty_database_gets_its_tables():
    assert upgraded_text(Upgraded(URL, Versions(None, "0001"), Versions(None, "v3"))).splitlines() == [
        f"{URL}: results made at version 0001",
        f"{URL}: trials made at version v3",
    ]


def test_an_upgrade_without_anything_to_do_says_so():
    same = Upgraded(URL, Versions("0001", "0001"), Versions("v3", "v3"))
    assert upgraded_text(same) == f"{URL} is up to date (results 0001, trials v3): nothing to do."


def test_the_commands_do_what_they_say(folder):
    assert "Study fake was copied" in said("copy", "fake.db", "other.db")
    assert "is there already" in said("copy", "fake.db#fake", "sqlite:///other.db")
    assert said("upgrade", "other.db").startswith("sqlite:///other.db is up to date")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["copy", "fake.db", "other"], "'other' is not a database; allowed: a .db file, sqlite:///FILE"),
        (["copy", "fake.db", "other.db#fake"], "'other.db#fake' names a study; a database is a storage URL or a .db"),
        (["upgrade", "sqlite:///none.db"], "storage sqlite:///none.db: none.db does not exist"),
    ],
)
def test_what_is_asked_wrongly_is_refused_with_exit_code_2(folder, arguments, message):
    with pytest.raises(StudyError) as caught:
        said(*arguments)
    assert message in str(caught.value)
    assert caught.value.exit_code == 2
    assert not (folder / "other.db").exists()
