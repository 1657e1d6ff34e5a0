"""A database that is prepared before its first run."""

from __future__ import annotations

import pytest
from sqlalchemy import create_engine, text

from vitsearch.errors import StudyError
from vitsearch.storage.ledger import VERSION, Ledger
from vitsearch.study.database.opening import Prepared, prepare, study_names


def test_an_empty_database_gets_all_tables(storage, tmp_path):
    (tmp_path / "test.db").touch()
    done = prepare(storage)
    assert (done.version, done.is_new) == (VERSION, True)
    Ledger.to_read(storage).close()
    assert study_names(storage) == []


def test_there_may_be_nothing_to_do(storage, tmp_path):
    (tmp_path / "test.db").touch()
    prepare(storage)
    assert not prepare(storage).is_new


def test_a_file_that_does_not_exist_is_not_made(tmp_path):
    with pytest.raises(StudyError, match=r"none\.db does not exist$"):
        prepare(f"sqlite:///{tmp_path / 'none.db'}")
    assert list(tmp_path.iterdir()) == []


def test_no_message_has_the_password(postgresql):
    url = postgresql()
    assert isinstance(prepare(url), Prepared)
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE vitsearch_version SET version_num = '0001'"))
    engine.dispose()
    with pytest.raises(StudyError) as caught:
        prepare(f"{url}&password=secret" if "?" in url else f"{url}?password=secret")
    assert "secret" not in str(caught.value)
    assert "password=***" in str(caught.value)
