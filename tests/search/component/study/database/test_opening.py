"""Databases that are opened by several at once, and what is left of one that was opened in vain."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import create_engine, text

from vitsearch.errors import StudyError
from vitsearch.space import SearchSpace
from vitsearch.study.database.opening import prepare, study_names
from vitsearch.study.study import Study

CONNECTIONS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"


@pytest.fixture
def other_version(postgresql):
    url = postgresql()
    prepare(url)
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE vitsearch_version SET version_num = '9999'"))
    engine.dispose()
    return url


@pytest.fixture
def other_objectives(postgresql, space):
    earlier = SearchSpace.from_json(space.to_json() | {"storage": postgresql()})
    Study.open(earlier).close()
    return SearchSpace.from_json(earlier.to_json() | {"objectives": {"accuracy": "maximize", "size_mb": "minimize"}})


def test_programs_that_start_at_once_make_a_study_once(space, storage):
    there = SearchSpace.from_json(space.to_json() | {"storage": storage})
    with ThreadPoolExecutor(4) as threads:
        studies = list(threads.map(Study.open, [there] * 4))
    assert studies[0].attributes["runs"] == 4
    for study in studies:
        study.close()
    assert study_names(storage) == ["fake"]


def test_a_database_of_another_version_is_closed(other_version):
    with pytest.raises(StudyError, match="version") as refused:
        study_names(other_version)
    assert connections_to(other_version) == 0, refused


def test_a_database_without_the_study_is_closed(postgresql):
    url = postgresql()
    with pytest.raises(StudyError, match="no study 'other'") as refused:
        Study.read(url, "other")
    assert connections_to(url) == 0, refused


def test_a_study_of_other_objectives_is_closed(other_objectives):
    with pytest.raises(StudyError, match="objectives") as refused:
        Study.open(other_objectives)
    assert connections_to(other_objectives.storage) == 0, refused


def connections_to(storage):
    """How many others have it open; the traceback of what was raised keeps alive what was not closed."""
    engine = create_engine(storage)
    with engine.connect() as connection:
        count = connection.execute(text(CONNECTIONS)).scalar_one()
    engine.dispose()
    return count
