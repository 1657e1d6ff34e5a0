"""Each way to name a study, and each message when there is none."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import yaml

from vitsearch.errors import SpaceError, StudyError
from vitsearch.storage.ledger import Ledger
from vitsearch.study.lookup import StudyLocation, find, opened, text_for
from vitsearch.study.study import Study


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def stored_space(here, space):
    """A study `fake` in `studies/fake.db`."""
    (here / "studies").mkdir()
    there = type(space).from_json(space.to_json() | {"storage": "sqlite:///studies/fake.db"})
    Ledger.open(there.storage).close()
    Study.open(there).close()
    return there


def test_a_name_is_a_database_in_the_folder(stored_space):
    assert find("fake") == StudyLocation("sqlite:///studies/fake.db", "fake")


@pytest.mark.parametrize("text", ["studies/fake.db", "./studies/fake.db", "studies/fake", "studies/fake.db#fake"])
def test_a_file_is_a_database_where_it_lies(stored_space, text):
    with opened(text) as (study, _):
        assert study.name == "fake"


def test_a_file_names_one_of_its_studies_behind_a_hash(stored_space):
    Study.open(type(stored_space).from_json(stored_space.to_json() | {"study": "second"})).close()
    with opened("studies/fake.db#second") as (study, _):
        assert study.name == "second"


def test_a_url_names_the_study_behind_a_hash(stored_space, here):
    url = f"sqlite:///{here}/studies/fake.db"
    assert find(f"{url}#fake") == StudyLocation(url, "fake")


def test_a_server_is_not_looked_at_for_a_file():
    assert find("postgresql+psycopg://host/x#fake") == StudyLocation("postgresql+psycopg://host/x", "fake")


def test_a_space_file_names_its_study(stored_space, here):
    value = {
        "study": "fake",
        "task": {"data": {"source": "builtin:fashion-mnist-14k"}},
        "objectives": {"accuracy": "maximize", "cpu_ms_p50": "minimize"},
        "space": {"backbone": "vit_fmnist_p4", "resolution": 28},
    }
    (here / "space.yaml").write_text(yaml.safe_dump(value))
    assert find("space.yaml") == StudyLocation("sqlite:///studies/fake.db", "fake")


def test_an_opened_study_can_be_read(stored_space):
    with opened("fake") as (study, ledger):
        assert study.name == "fake"
        assert study.space() == stored_space
        assert ledger.claims() == {}


@pytest.mark.parametrize("ending", ["", "#"])
def test_a_url_is_enough_for_the_only_study_of_a_database(stored_space, storage, ending):
    only = type(stored_space).from_json(stored_space.to_json() | {"study": "only", "storage": storage})
    Study.open(only).close()
    assert find(f"{storage}{ending}") == StudyLocation(storage, "only")


def test_a_file_is_enough_for_the_only_study_of_a_database(stored_space, here):
    Path("studies/fake.db").rename(here / "copied.db")
    assert find("copied.db") == StudyLocation("sqlite:///copied.db", "fake")


def test_a_url_of_several_studies_is_refused_with_their_names(stored_space):
    Study.open(type(stored_space).from_json(stored_space.to_json() | {"study": "second"})).close()
    url = "sqlite:///studies/fake.db"
    with pytest.raises(StudyError, match=f"holds several studies; write one of: {url}#fake, {url}#second"):
        find(url)


def test_a_url_of_no_study_is_refused(here):
    Ledger.open("sqlite:///empty.db").close()
    with pytest.raises(StudyError, match="'sqlite:///empty.db' holds no study"):
        find("sqlite:///empty.db")


def test_a_url_of_no_database_is_refused():
    with pytest.raises(StudyError, match="x.db does not exist"):
        find("sqlite:///x.db")


def test_a_name_that_is_near_is_told(stored_space):
    with pytest.raises(StudyError, match="no study 'fakr': studies/fakr.db does not exist; did you mean 'fake'"):
        find("fakr")


def test_without_any_study_the_way_to_one_is_told():
    with pytest.raises(
        StudyError, match="no study 'x': studies/x.db does not exist; start one with 'vitsearch run SPACE'"
    ):
        find("x")


def test_a_database_without_that_study_tells_which_it_holds(stored_space):
    with (
        pytest.raises(StudyError, match="no study 'other' in this database; it holds: fake"),
        opened("sqlite:///studies/fake.db#other"),
    ):
        pass


def test_what_is_no_url_is_refused():
    with pytest.raises(StudyError, match="is not a database URL"):
        find("://#x")


def test_a_space_file_that_is_wrong_is_told(here):
    (here / "space.yaml").write_text("space: 3\n")
    with pytest.raises(SpaceError, match="space.yaml"):
        find("space.yaml")


def test_a_database_of_another_program_is_left_as_it_is(here):
    with closing(sqlite3.connect(here / "app.db")) as connection, connection:
        connection.execute("CREATE TABLE alembic_version (version_num TEXT)")
        connection.execute("INSERT INTO alembic_version VALUES ('abc123')")
    before = (here / "app.db").read_bytes()
    for text in ("app.db", "app.db#fake", f"sqlite:///{here}/app.db"):
        with pytest.raises(StudyError, match="holds no study"), opened(text):
            pass
    assert (here / "app.db").read_bytes() == before
    assert [path.name for path in here.iterdir()] == ["app.db"]


@pytest.mark.parametrize("url", ["postgres://u:secret@host/x", "mysql://u:secret@host/x", "http://u:secret@host/x"])
def test_a_url_of_another_kind_of_database_is_refused(url):
    with pytest.raises(StudyError, match="no driver for this database") as refused, opened(url):
        pass
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("storage", "text"),
    [
        ("sqlite:///studies/fake.db", "fake"),
        ("sqlite:///else/fake.db", "else/fake.db"),
        ("sqlite:///studies/shared.db", "studies/shared.db#fake"),
        ("postgresql+psycopg://me:secret@host/x", "postgresql+psycopg://me:***@host/x#fake"),
    ],
)
def test_the_text_by_which_a_study_is_found(storage, text):
    assert text_for(storage, "fake") == text
