"""Databases that are opened by several at once, and what is left of one that was opened in vain."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import create_engine, text

from vitsearch.errors import StudyError
from vitsearch.space import SearchSpace
from vitsearch.storage.ledger import first
from vitsearch.study.database.opening import make_tables, study_names
from vitsearch.study.study import Study

CONNECTIONS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"


@pytest.fixture
def other_version(postgresql):
    made = postgresql()
    make_tables(made)
    engine = create_engine(made)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = 'v9.0.0.a'"))
    engine.dispose()
    return made


@pytest.fixture
def other_objectives(postgresql, space):
    made = SearchSpace.from_json(space.to_json() | {"storage": postgresql()})
    Study.open(made).close()
    return SearchSpace.from_json(made.to_json() | {"objectives": {"accuracy": "maximize", "size_mb": "minimize"}})


def test_who_comes_between_the_last_table_and_its_row_waits(storage):
    """Optuna fails if two write that row."""
    engine = create_engine(storage)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32))"))
    engine.dispose()
    inside, together = [], []

    def enter(number):
        with first(storage, "alembic_version"):
            inside.append(number)
            time.sleep(0.2)
            together.append(len(inside))
            inside.remove(number)

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(enter, range(2)))
    assert together == [1, 1]


def test_a_database_of_another_version_is_closed(other_version):
    with pytest.raises(StudyError, match="version") as refused:
        study_names(other_version)
    assert connections_to(other_version) == 0, refused


def test_a_database_without_the_study_is_closed(postgresql):
    made = postgresql()
    with pytest.raises(StudyError, match="no study 'other'") as refused:
        Study.read(made, "other")
    assert connections_to(made) == 0, refused


def test_a_study_of_other_objectives_is_closed(other_objectives):
    with pytest.raises(StudyError, match="objectives") as refused:
        Study.open(other_objectives)
    assert connections_to(other_objectives.storage) == 0, refused


def connections_to(storage):
    """How many others have it open; the traceback of what was raised keeps alive what was not closed."""
    engine = create_engine(storage)
    with engine.connect() as connection:
        found = connection.execute(text(CONNECTIONS)).scalar_one()
    engine.dispose()
    return found
