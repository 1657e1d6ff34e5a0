"""How databases are opened, on both kinds."""

from __future__ import annotations

import time

import pytest
from sqlalchemy import event, select, text

from vitsearch.errors import StoreError, StudyError
from vitsearch.storage.ledger import ArtifactRow, Ledger, engine_options, sqlite_file
from vitsearch.storage.ledger import engine as engine_module
from vitsearch.storage.ledger.engine import NETWORK, at_once, connect, database_now
from vitsearch.storage.stage_cost import StageCost
from vitsearch.study.study import Study


@pytest.fixture
def engine(storage):
    engine = connect(storage)
    yield engine
    engine.dispose()


def test_the_database_tells_the_time(engine):
    with engine.connect() as connection:
        seen = connection.execute(select(database_now())).scalar_one()
    assert float(seen) == pytest.approx(time.time(), abs=5)


def test_a_lease_is_added_to_the_databases_time(engine):
    with engine.connect() as connection:
        now, later = connection.execute(select(database_now(), database_now() + 60.0)).one()
    assert float(later) - float(now) == pytest.approx(60, abs=5)


def test_sqlite_writes_ahead_and_makes_its_folder(tmp_path):
    engine = connect(f"sqlite:///{tmp_path / 'a' / 'b.db'}")
    with engine.connect() as connection:
        assert connection.execute(text("PRAGMA journal_mode")).scalar_one() == "wal"
        assert connection.execute(text("PRAGMA synchronous")).scalar_one() == 1
    engine.dispose()


def test_sqlite_waits_for_a_lock_and_a_server_that_is_gone_is_noticed():
    assert engine_options("sqlite:///x.db") == {"connect_args": {"timeout": 60}}
    assert engine_options("postgresql+psycopg://host/x") == {"connect_args": NETWORK}


def test_single_statements_of_a_server_need_no_transaction(postgresql):
    engine = connect(postgresql())
    with at_once(engine).connect() as connection:
        assert connection.connection.dbapi_connection.autocommit
    with engine.connect() as connection:
        assert not connection.connection.dbapi_connection.autocommit
    engine.dispose()


def test_a_connection_that_was_cut_while_idle_is_replaced_unseen(postgresql, monkeypatch):
    url = postgresql()
    engine, other = connect(url), connect(url)
    with engine.connect() as connection:
        pid = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
    with other.begin() as connection:
        connection.execute(text(f"SELECT pg_terminate_backend({pid}, 5000)"))
    monkeypatch.setattr(engine_module, "IDLE_S", -1.0)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT pg_backend_pid()")).scalar_one() != pid
    engine.dispose()
    other.dispose()


def test_settings_of_the_network_in_a_url_are_kept():
    options = engine_options("postgresql+psycopg://host/x?connect_timeout=3&sslmode=require")
    assert options["connect_args"].keys() == NETWORK.keys() - {"connect_timeout"}


@pytest.mark.parametrize(
    ("url", "file"),
    [("sqlite:///a/b.db", "a/b.db"), ("sqlite://", None), ("postgresql+psycopg://host/x", None)],
)
def test_the_file_of_a_url(url, file):
    path = sqlite_file(url)
    assert (None if path is None else str(path)) == file


def test_what_is_no_url_is_refused():
    with pytest.raises(StudyError, match="'studies' is not a database URL; allowed: sqlite:///FILE"):
        connect("studies")


def test_an_unknown_kind_of_database_is_refused_without_telling_the_password():
    with pytest.raises(StudyError, match="no driver for this database") as caught:
        connect("nosuch://me:secret@host/x")
    assert "secret" not in str(caught.value)


def test_a_file_that_is_no_database_is_refused(tmp_path):
    (tmp_path / "x.db").write_text("this is not a database, however long it is" * 100)
    with pytest.raises(StudyError, match="cannot be opened: file is not a database"):
        Ledger.open(f"sqlite:///{tmp_path / 'x.db'}")


def test_a_full_database_is_told_by_the_ledger(tmp_path):
    ledger = Ledger.open(f"sqlite:///{tmp_path / 'x.db'}")
    event.listen(ledger._engine, "checkout", fill)
    row = ArtifactRow("k", "onnx", "ab" * 32, 1, "here", {"much": "x" * 100_000})
    with pytest.raises(StoreError, match=r"^storage sqlite:///.*x\.db cannot be written: .* full; make room there, "):
        ledger.add(row, StageCost(0.0, {}))
    ledger.close()


def test_a_full_database_is_told_by_a_study(space):
    study = Study.open(space)
    event.listen(study._view._engine, "checkout", fill)
    with pytest.raises(StoreError, match=r"cannot be written: database or disk is full; make room"):
        study.remember("much", "x" * 100_000)
    study.close()


def fill(connection, *_):
    """SQLite then takes no further page, as on a full disk."""
    connection.execute("PRAGMA max_page_count=1")
