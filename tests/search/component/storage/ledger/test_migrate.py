"""The ledger's tables come from its migrations, beside Optuna's."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import inspect, text

from vitsearch.errors import StudyError
from vitsearch.storage.ledger import migrate
from vitsearch.storage.ledger.engine import connect
from vitsearch.storage.ledger.migrate import VERSION_TABLE, upgrade
from vitsearch.storage.ledger.tables import metadata


@pytest.fixture
def engine(storage):
    engine = connect(storage)
    upgrade(engine)
    yield engine
    engine.dispose()


def test_the_migrations_make_the_tables_of_the_models(engine):
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection,
            opts={
                "version_table": VERSION_TABLE,
                "compare_type": True,
                "include_name": lambda name, kind, _: kind != "table" or name in metadata.tables,
            },
        )
        assert compare_metadata(context, metadata) == []


def test_a_second_upgrade_changes_nothing(engine):
    before = set(inspect(engine).get_table_names())
    upgrade(engine)
    assert set(inspect(engine).get_table_names()) == before


def test_the_version_table_is_our_own(engine):
    tables = set(inspect(engine).get_table_names())
    assert VERSION_TABLE in tables
    assert "alembic_version" not in tables


def test_a_database_of_a_newer_version_is_refused(engine):
    with engine.begin() as connection:
        connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '9999'"))
    with pytest.raises(StudyError, match="ledger version '9999'.*install a newer vitsearch"):
        upgrade(engine)


def test_of_eight_that_make_the_tables_at_once_all_find_them(storage):
    start = Barrier(8)

    def make(_: int) -> str | None:
        engine = connect(storage)
        start.wait()
        upgrade(engine)
        with engine.connect() as connection:
            version = connection.exec_driver_sql(f"SELECT version_num FROM {VERSION_TABLE}").scalar()
        engine.dispose()
        return version

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(make, range(8)))) == 1


def test_an_upgrade_that_is_cut_short_leaves_nothing(storage, monkeypatch):
    engine = connect(storage)

    def killed(config, revision):
        config.attributes["connection"].exec_driver_sql("CREATE TABLE half (id INTEGER)")
        raise SystemExit

    with monkeypatch.context() as patched:
        patched.setattr(migrate.command, "upgrade", killed)
        with pytest.raises(SystemExit):
            upgrade(engine)
    assert inspect(engine).get_table_names() == []
    upgrade(engine)
    assert "vs_training" in inspect(engine).get_table_names()
    engine.dispose()
