"""The ledger's tables and their one number."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import inspect, text

from vitsearch.errors import StudyError
from vitsearch.storage.ledger import schema
from vitsearch.storage.ledger.engine import connect
from vitsearch.storage.ledger.schema import VERSION, make_tables, require_tables, version_of
from vitsearch.storage.ledger.tables import metadata


@pytest.fixture
def empty(storage):
    engine = connect(storage)
    yield engine
    engine.dispose()


@pytest.fixture
def engine(empty):
    make_tables(empty)
    return empty


def at_version(engine, version):
    with engine.begin() as connection:
        connection.execute(text("UPDATE vitsearch_version SET version_num = :version"), {"version": version})


def test_an_empty_database_gets_all_tables_with_the_number_of_the_program(empty):
    assert version_of(empty) is None
    assert make_tables(empty)
    assert set(metadata.tables) <= set(inspect(empty).get_table_names())
    assert version_of(empty) == VERSION


def test_tables_that_are_there_stay(engine):
    before = set(inspect(engine).get_table_names())
    assert not make_tables(engine)
    assert set(inspect(engine).get_table_names()) == before


def test_tables_are_required_where_a_database_is_only_read(empty):
    with pytest.raises(StudyError, match="has no tables of results; start a study with 'vitsearch run SPACE'"):
        require_tables(empty)
    make_tables(empty)
    require_tables(empty)


@pytest.mark.parametrize("work", [make_tables, require_tables])
@pytest.mark.parametrize(("version", "whose"), [("0003", "an older"), ("9999", "a newer")])
def test_a_database_of_another_version_is_refused_in_one_line_with_both(engine, work, version, whose):
    at_version(engine, version)
    with pytest.raises(StudyError) as refused:
        work(engine)
    assert f"its tables have version {version}, of {whose} vitsearch, and this one reads version {VERSION} only" in str(
        refused.value
    )
    assert "\n" not in str(refused.value)


def test_programs_that_start_at_once_make_the_tables_once(storage):
    engines = [connect(storage) for _ in range(4)]
    with ThreadPoolExecutor(4) as threads:
        assert sorted(threads.map(make_tables, engines)) == [False, False, False, True]
    for engine in engines:
        engine.dispose()


def test_a_start_that_is_cut_short_leaves_nothing(empty, monkeypatch):
    def killed(connection):
        connection.exec_driver_sql("CREATE TABLE half (id INTEGER)")
        raise SystemExit

    with monkeypatch.context() as patched:
        patched.setattr(schema.tables.metadata, "create_all", killed)
        with pytest.raises(SystemExit):
            make_tables(empty)
    assert inspect(empty).get_table_names() == []
    assert make_tables(empty)
    assert "vs_training" in inspect(empty).get_table_names()
