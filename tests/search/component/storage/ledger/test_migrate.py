"""The ledger's tables come from its migrations, beside Optuna's."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import inspect, text

from vitsearch.errors import StudyError
from vitsearch.storage.ledger import migrate
from vitsearch.storage.ledger.engine import connect
from vitsearch.storage.ledger.migrate import VERSION_TABLE, SchemaOfResults, Versions
from vitsearch.storage.ledger.tables import metadata

NEXT = """
revision, down_revision, branch_labels, depends_on = "0004", "0003", None, None

def upgrade():
    from alembic import op
    op.execute("CREATE TABLE vs_next (id INTEGER)")
"""


@pytest.fixture
def engine(storage):
    engine = connect(storage)
    SchemaOfResults(engine).prepare()
    yield engine
    engine.dispose()


@pytest.fixture
def newer_program(engine, tmp_path, monkeypatch):
    """A program with one more migration, which finds a database of ours."""
    folder = tmp_path / "migrations"
    shutil.copytree(migrate.MIGRATIONS, folder)
    (folder / "versions" / "v0004_next.py").write_text(NEXT)
    monkeypatch.setattr(migrate, "MIGRATIONS", folder)


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


def test_the_version_table_is_our_own(engine):
    tables = set(inspect(engine).get_table_names())
    assert VERSION_TABLE in tables
    assert "alembic_version" not in tables


def test_an_upgrade_without_anything_to_do_changes_nothing(engine):
    before = set(inspect(engine).get_table_names())
    done = SchemaOfResults(engine).upgrade()
    assert (done, done.is_change) == (Versions("0003", "0003"), False)
    assert set(inspect(engine).get_table_names()) == before


def test_an_older_database_is_opened_after_an_upgrade_only(engine, newer_program):
    tables = SchemaOfResults(engine)
    with pytest.raises(StudyError, match=r"tables of results have version 0003, and this program needs version 0004"):
        tables.prepare()
    assert not inspect(engine).has_table("vs_next")
    assert tables.upgrade() == Versions("0003", "0004")
    tables.prepare()
    assert inspect(engine).has_table("vs_next")


@pytest.mark.parametrize("work", [SchemaOfResults.prepare, SchemaOfResults.upgrade])
def test_a_database_of_a_newer_program_is_refused_with_both_versions(engine, work):
    with engine.begin() as connection:
        connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '9999'"))
    with pytest.raises(StudyError, match="have version 9999, and this program knows versions up to 0003: install a n"):
        work(SchemaOfResults(engine))


@pytest.mark.parametrize("work", [SchemaOfResults.prepare, SchemaOfResults.upgrade])
def test_a_database_from_before_the_first_known_version_is_refused_with_both_versions(engine, work):
    with engine.begin() as connection:
        connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '0001'"))
    with pytest.raises(
        StudyError, match="have version 0001, and this program reads none before 0003: run the study an"
    ):
        work(SchemaOfResults(engine))


def test_programs_that_start_at_once_make_the_tables_once(storage):
    engines = [connect(storage) for _ in range(4)]
    with ThreadPoolExecutor(4) as threads:
        made = list(threads.map(lambda engine: SchemaOfResults(engine).upgrade().before, engines))
    assert sorted(made, key=str) == ["0003", "0003", "0003", None]
    for engine in engines:
        engine.dispose()


def test_an_upgrade_that_is_cut_short_leaves_nothing(storage, monkeypatch):
    engine = connect(storage)

    def killed(config, revision):
        config.attributes["connection"].exec_driver_sql("CREATE TABLE half (id INTEGER)")
        raise SystemExit

    with monkeypatch.context() as patched:
        patched.setattr(migrate.command, "upgrade", killed)
        with pytest.raises(SystemExit):
            SchemaOfResults(engine).upgrade()
    assert inspect(engine).get_table_names() == []
    SchemaOfResults(engine).upgrade()
    assert "vs_training" in inspect(engine).get_table_names()
    engine.dispose()
