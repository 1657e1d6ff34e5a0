"""The rows of studies and trials, on both kinds of database, also when a connection is cut."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from time import time

import pytest
from sqlalchemy.exc import OperationalError

from support.studies import stored_study
from vitsearch.errors import StudyDeleted
from vitsearch.storage.ledger import StudyTable, TrialRow, delete_rows
from vitsearch.storage.ledger.columns import require_trials
from vitsearch.storage.ledger.schema import open_database

ME, OTHER = '{"pid": 1}', '{"pid": 2}'
RECORD = '{"outcome": "confirmed"}'


@pytest.fixture
def engine(storage):
    engine = open_database(storage, require_trials)
    yield engine
    engine.dispose()


@pytest.fixture
def rows(engine):
    return stored_study(engine, "one")


def only(rows) -> TrialRow:
    (row,) = rows.read([0])
    return row


def lose_the_answer_once(engine):
    """The next commit arrives, and the connection is cut before its answer does."""
    lost = []
    commit = engine.dialect.do_commit

    def committing(connection):
        commit(connection)
        if not lost:
            lost.append(True)
            engine.dialect.do_commit = commit
            error = OperationalError("COMMIT", {}, Exception("server closed the connection unexpectedly"))
            error.connection_invalidated = True
            raise error

    engine.dialect.do_commit = committing
    return lost


def test_studies_are_named_in_the_order_in_which_they_were_made_each_once(engine):
    studies = StudyTable(engine)
    for name in ("one", "other", "one"):
        studies.add(name, {"accuracy": "maximize"})
    assert studies.names() == ["one", "other"]
    assert studies.find("none") is None


def test_a_trial_is_started_written_and_ended(rows):
    started = rows.start(ME, ())
    assert (started.number, started.state, started.driver, started.params) == (0, "RUNNING", ME, "{}")
    rows.write(0, '{"x": [0.5, 0.0, 1.0]}', '{"noted": 1}')
    assert rows.finish(0, "COMPLETE", RECORD, time())
    row = only(rows)
    written = replace(started, state="COMPLETE", params='{"x": [0.5, 0.0, 1.0]}', notes='{"noted": 1}', record=RECORD)
    assert replace(row, ended_at=None) == written
    assert row.started_at <= row.ended_at
    assert rows.records(read=()) == [(0, RECORD)]
    assert rows.records(read=(0,)) == []


def test_what_waits_is_started_first_and_by_one_driver(rows):
    rows.enqueue('{"x": 1}', "why")
    rows.enqueue('{"x": 2}', "why")
    with ThreadPoolExecutor(4) as threads:
        started = list(threads.map(rows.start, [ME] * 4, [(0, 1)] * 4))
    assert sorted(row.number for row in started) == [0, 1, 2, 3]
    assert {row.number: row.fixed for row in started} == {0: '{"x": 1}', 1: '{"x": 2}', 2: None, 3: None}


def test_a_trial_that_has_ended_stays_as_it_is(rows):
    rows.start(ME, ())
    assert rows.finish(0, "FAIL", RECORD, time())
    before = only(rows)
    assert not rows.finish(0, "COMPLETE", '{"outcome": "other"}', time())
    assert not rows.release(0)
    assert not rows.take_back(0, ME)
    assert only(rows) == before


def test_a_trial_is_taken_back_from_the_driver_that_has_it(rows):
    rows.start(ME, ())
    assert not rows.take_back(0, OTHER)
    assert rows.take_back(0, ME)
    assert rows.count(["WAITING"]) == 1
    assert rows.start(OTHER, (0,)).number == 0


def test_a_trial_whose_driver_is_silent_is_ended_and_enqueued_at_once(rows):
    rows.start(ME, ())
    rows.start(ME, ())
    rows.beat([0])
    assert rows.stale(60.0) == {}
    assert rows.replace_stale(60.0, [0, 1], lambda row: "{}") == []
    assert list(rows.stale(-60.0)) == [0, 1]
    assert rows.replace_stale(-60.0, [0, 1], lambda row: f'{{"was": {row.number}}}') == [0, 1]
    assert rows.states(0) == {0: "FAIL", 1: "FAIL", 2: "WAITING", 3: "WAITING"}
    assert [(row.fixed, row.enqueued) for row in rows.read([2, 3])] == [
        ('{"was": 0}', "trial 0 was lost"),
        ('{"was": 1}', "trial 1 was lost"),
    ]


def test_drivers_hold_together_no_more_weights_than_are_allowed(rows):
    numbers = [rows.start(ME, ()).number for _ in range(4)]
    with ThreadPoolExecutor(4) as threads:
        claimed = list(threads.map(lambda number: rows.claim(number, f"weights {number}", most=2), numbers))
    assert sorted(claimed) == [False, False, True, True]


def test_weights_that_are_held_already_take_no_more(rows):
    first, same, other = (rows.start(ME, ()).number for _ in range(3))
    assert rows.claim(first, "weights", most=1)
    assert rows.claim(same, "weights", most=1)
    assert not rows.claim(other, "other weights", most=1)


@pytest.mark.parametrize(("state", "is_free"), [("COMPLETE", False), ("FAIL", True)])
def test_a_trial_that_has_failed_holds_no_weights(rows, state, is_free):
    first, other = rows.start(ME, ()).number, rows.start(ME, ()).number
    assert rows.claim(first, "weights", most=1)
    rows.finish(first, state, RECORD, time())
    assert rows.claim(other, "other weights", most=1) == is_free


def test_a_trial_that_waits_to_go_on_still_holds_its_weights(rows):
    first, other = rows.start(ME, ()).number, rows.start(ME, ()).number
    assert rows.claim(first, "weights", most=1)
    rows.release(first)
    assert not rows.claim(other, "other weights", most=1)


def test_an_attribute_that_several_change_at_once_has_what_each_has_added(rows):
    def add(place: int) -> None:
        rows.change_attribute("seen", lambda stored: [*(stored or []), place])

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(add, range(4)))
    assert sorted(rows.change_attribute("seen", lambda stored: stored)) == [0, 1, 2, 3]


def test_a_deleted_study_gets_no_trial(engine, rows):
    stored_study(engine, "other").start(ME, ())
    delete_rows(engine, "one")
    with pytest.raises(StudyDeleted):
        rows.start(ME, ())
    assert rows.states(0) == {}
    assert StudyTable(engine).names() == ["other"]


def test_a_record_that_arrived_although_its_answer_did_not_is_told_once(engine, rows):
    rows.start(ME, ())
    lost = lose_the_answer_once(engine)
    assert rows.finish(0, "COMPLETE", RECORD, time())
    assert lost
    assert rows.states(0) == {0: "COMPLETE"}
