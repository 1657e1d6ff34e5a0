"""Rows of a snapshot in another database: SQLite to PostgreSQL, back, and into a second one of each."""

from __future__ import annotations

import json
from time import time

import pytest

from support.studies import stored_study
from vitsearch.core.stage import Stage
from vitsearch.errors import StoreError, StudyError
from vitsearch.storage.ledger import (
    ArtifactRow,
    Destination,
    Ledger,
    ReferenceKey,
    StoredTimes,
    StudyTable,
    TrainingRow,
    TrialRows,
    connect,
    snapshot,
)
from vitsearch.storage.stage_cost import StageCost
from vitsearch.study.database.opening import study_names

LOCAL = ReferenceKey("device", "environment", "reference", "onnxruntime", 1)
TIMES = StoredTimes({"ms": 1.0}, "2026-01-01T00:00:00Z")


@pytest.fixture
def other(request, storage, tmp_path):
    """The URL of an empty database of the other kind."""
    if storage.startswith("sqlite"):
        return request.getfixturevalue("postgresql")()
    return f"sqlite:///{tmp_path / 'other.db'}"


def filled(url):
    """A database with a study in every state, a run, and results."""
    ledger = Ledger.open(url)
    ledger.costs.start_run("one", 2)
    cost = StageCost(1.5, {"torch": "2"}, 10.0, 2.0, "worker here/1")
    ledger.costs.note(Stage.TRAIN, cost)
    ledger.add(TrainingRow("w", 1, {"accuracy": 0.1 + 0.2}, None, 10, "checkpoint"), cost)
    ledger.add(ArtifactRow("a", "model", "model", 1, "old place", {"b": 1, "a": [0.1, None]}), cost)
    ledger.set_reference_times(LOCAL, TIMES)
    ledger.close()
    engine = connect(url)
    rows = stored_study(engine, "one")
    rows.change_attribute("space", lambda _: {"unicode": "\u00e9 \u2192"})
    for state in ("COMPLETE", "PRUNED", "FAIL"):
        number = rows.start(json.dumps({"pid": 1}), ()).number
        rows.write(number, json.dumps({"x": [0.1 + 0.2, 0.0, 1.0], "word": "b"}), json.dumps({"noted": 0.5}))
        rows.finish(number, state, json.dumps({"keys": None}), time())
    rows.claim(rows.start("{}", ()).number, "weights", 8)
    rows.enqueue(json.dumps({"x": 0.25}), "why")
    engine.dispose()
    return url


def taken(url):
    with snapshot(url) as seen:
        return seen.study("one"), seen.results(["one"])


@pytest.fixture
def destination(other):
    Ledger.open(other).close()
    opened = Destination.open(other)
    yield opened
    opened.close()


def test_a_study_is_the_same_in_the_other_database(storage, other, destination):
    study, _ = taken(filled(storage))
    destination.add_study(study)
    assert taken(other)[0] == study


def test_the_next_trial_has_the_next_number(storage, other, destination):
    destination.add_study(taken(filled(storage))[0])
    engine = connect(other)
    rows = TrialRows(engine, StudyTable(engine).find("one").id)
    assert [rows.start("{}", range(6)).number for _ in range(3)] == [3, 4, 5]  # those that wait first
    engine.dispose()


def test_results_are_the_same_in_the_other_database(storage, other, destination):
    study, results = taken(filled(storage))
    assert destination.add_results(results, "new place") == 2
    destination.add_study(study)
    old, new = Ledger.open(storage), Ledger.open(other)
    assert new.training("w", 1) == old.training("w", 1)
    assert (new.artifact("a").location, old.artifact("a").location) == ("new place", "old place")
    assert list(new.artifact("a").detail) == ["b", "a"]
    assert new.made_at() == old.made_at()
    assert new.reference_times("device") == {LOCAL: TIMES}
    assert new.costs.spent("one") == old.costs.spent("one")
    assert new.costs.runs("one")[0].host == old.costs.runs("one")[0].host
    assert [cost.run for cost in new.costs.stages("one")] == [new.costs.runs("one")[0].id]
    old.close()
    new.close()


def test_a_result_that_is_there_stays(storage, other, destination):
    _, results = taken(filled(storage))
    there = Ledger.open(other)
    there.add(TrainingRow("w", 1, {"accuracy": 0.5}, None, 10, "mine"), StageCost(0.0))
    assert destination.add_results(results, "") == 1
    assert destination.add_results(results, "") == 0
    assert there.training("w", 1).checkpoint_sha256 == "mine"
    there.close()


def test_costs_that_came_with_the_results_of_another_study_become_those_of_the_run(storage, other, destination):
    study, results = taken(filled(storage))
    destination.add_results(results, "")
    there = Ledger.open(other)
    assert there.costs.means() == {"train": 2.0}
    assert there.costs.spent("one").cpu_seconds == {}
    destination.add_study(study)
    destination.add_results(results, "")
    assert there.costs.means() == {"train": 2.0}
    assert there.costs.spent("one").cpu_seconds == {"train": 1.5}
    assert len(there.costs.stages("one")) == 1
    there.close()


def test_a_study_that_fails_half_way_leaves_nothing(storage, other, destination, monkeypatch):
    study, _ = taken(filled(storage))
    study.costs[0]["run"] = 99
    with pytest.raises(IndexError):
        destination.add_study(study)
    assert study_names(other) == []
    assert taken_runs(other) == []


def taken_runs(url):
    ledger = Ledger.open(url)
    runs = ledger.costs.runs("one")
    ledger.close()
    return runs


def test_a_study_that_another_program_made_meanwhile_is_refused(storage, other, destination):
    study, _ = taken(filled(storage))
    destination.add_study(study)
    with pytest.raises(StudyError, match="study 'one' was made in .* while it was copied there"):
        destination.add_study(study)


def test_what_a_database_cannot_hold_is_explained(postgresql, storage):
    url = postgresql()
    study, results = taken(filled(storage))
    Ledger.open(url).close()
    opened = Destination.open(url)
    with pytest.raises(StoreError, match=r"cannot be written: value too long for type character varying\(512\)"):
        opened.add_results(results, "x" * 1000)
    opened.close()
