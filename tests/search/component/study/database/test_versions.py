"""The tables of a database, ours and Optuna's, and the program that opens them."""

from __future__ import annotations

import gc
import logging
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import create_engine, inspect, text

from vitsearch.errors import StudyError
from vitsearch.storage.ledger import Ledger, Versions
from vitsearch.study.database.opening import make_tables, study_names
from vitsearch.study.database.versions import upgrade

OLD, NEW = "v3.0.0.d", "v3.2.0.a"


def at_version(storage, version):
    """Say in the database that Optuna's tables have this version: the last change was an index."""
    engine = create_engine(storage)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :version"), {"version": version})
    engine.dispose()


@pytest.fixture
def made(storage):
    Ledger.open(storage).close()
    make_tables(storage)
    return storage


def test_an_empty_database_gets_all_tables(storage, tmp_path):
    (tmp_path / "test.db").touch()
    done = upgrade(storage)
    assert (done.results, done.trials) == (Versions(None, "0003"), Versions(None, NEW))
    Ledger.open(storage).close()
    assert study_names(storage) == []


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # connections of Optuna's attempts
@pytest.mark.long
def test_programs_that_start_at_once_make_the_tables_once(storage):
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(make_tables, [storage] * 4)) == [None] * 4
    gc.collect()


def test_there_may_be_nothing_to_do(made):
    done = upgrade(made)
    assert not done.results.is_change
    assert not done.trials.is_change


def test_a_database_of_an_older_optuna_is_opened_after_an_upgrade_only(made):
    at_version(made, OLD)
    with pytest.raises(StudyError, match=rf"of trials have version {OLD}, and this program needs version {NEW}\. Upg"):
        study_names(made)
    assert upgrade(made).trials == Versions(OLD, NEW)
    assert study_names(made) == []


def test_an_upgrade_of_optunas_tables_leaves_the_logging_of_the_program_alone(made, monkeypatch, capfd):
    at_version(made, OLD)
    logger = logging.getLogger("vitsearch.study")
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # as in a program; pytest has some of its own
    upgrade(made)
    assert not logger.disabled
    assert logging.getLogger().handlers == []
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("work", [study_names, upgrade])
def test_a_database_of_a_newer_optuna_is_refused_with_both_versions(made, work):
    at_version(made, "v9.0.0.a")
    with pytest.raises(
        StudyError, match=f"have version v9.0.0.a, and this program knows versions up to {NEW}: install"
    ):
        work(made)


def test_a_newer_optuna_is_seen_before_anything_is_made(storage):
    make_tables(storage)
    at_version(storage, "v9.0.0.a")
    with pytest.raises(StudyError):
        upgrade(storage)
    engine = create_engine(storage)
    assert not inspect(engine).has_table("vs_training")
    engine.dispose()


def test_a_file_that_does_not_exist_is_not_made(tmp_path):
    with pytest.raises(StudyError, match=r"none\.db does not exist$"):
        upgrade(f"sqlite:///{tmp_path / 'none.db'}")
    assert list(tmp_path.iterdir()) == []


def test_no_message_has_the_password(postgresql):
    made = postgresql()
    make_tables(made)
    at_version(made, OLD)
    with pytest.raises(StudyError) as caught:
        study_names(f"{made}&password=secret" if "?" in made else f"{made}?password=secret")
    assert "secret" not in str(caught.value)
    assert "password=***" in str(caught.value)


def test_opening_again_does_not_run_the_scripts_of_optuna_again(made, monkeypatch):
    study_names(made)
    monkeypatch.delattr("optuna.storages.RDBStorage.get_all_versions")
    assert study_names(made) == []
