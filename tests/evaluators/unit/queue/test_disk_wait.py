"""Waiting for a full disk: the reason is reported, and other errors do not count as a full disk."""

import errno
import sqlite3
import threading

import pytest

from vitsearch_agent.errors import MeasurementFailed, StorageFull
from vitsearch_agent.queue import disk_wait
from vitsearch_agent.queue.disk_wait import DiskWait, is_full


class FullStore:
    """Has room after `times` calls of restore_reserve, and records the reported problems."""

    def __init__(self, times):
        self.left = times
        self.problems = []
        self.wait = None

    def has_room(self):
        return self.left <= 0

    def restore_reserve(self):
        self.left -= 1
        self.problems.append(self.wait.problem)


@pytest.fixture
def full(monkeypatch):
    """full(times, stopping) -> (store, DiskWait)."""
    monkeypatch.setattr(disk_wait, "_POLL_S", 0.0)

    def make(times, stopping):
        store = FullStore(times)
        store.wait = DiskWait(store, stopping)
        return store, store.wait

    return make


def test_await_room_waits_until_there_is_room(full):
    store, wait = full(3, threading.Event())
    wait.await_room()
    assert store.problems == ["the disk has no room for a job"] * 3
    assert wait.problem is None


def test_retry_repeats_until_the_disk_accepts_the_write(full):
    store, wait = full(2, threading.Event())

    def access():
        if not store.has_room():
            raise sqlite3.OperationalError("database or disk is full")
        return "written"

    assert wait.retry(access) == "written"
    assert store.problems == ["the queue cannot be written: database or disk is full"] * 2
    assert wait.problem is None


def test_stopping_ends_every_wait(full):
    stopping = threading.Event()
    stopping.set()
    _, wait = full(10**9, stopping)

    def access():
        raise sqlite3.OperationalError("database or disk is full")

    assert wait.retry(access) is None
    wait.await_room()


@pytest.mark.parametrize("error", [sqlite3.DatabaseError("malformed"), sqlite3.IntegrityError("UNIQUE")])
def test_a_damaged_queue_is_not_waited_for(full, error):
    """No room on the disk mends it: the thread fails, and the next start renames the file."""
    _, wait = full(0, threading.Event())
    calls = []

    def access():
        calls.append(1)
        if len(calls) > 3:
            return "waited"
        raise error

    with pytest.raises(type(error)):
        wait.retry(access)
    assert (len(calls), wait.problem) == (1, None)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(errno.ENOSPC, "no space"), True),
        (OSError(errno.EDQUOT, "quota"), True),
        (sqlite3.OperationalError("disk I/O error"), True),
        (StorageFull("full"), True),
        (OSError(errno.EACCES, "no permission"), False),
        (MeasurementFailed("crash", "it crashed"), False),
        (ValueError(), False),
    ],
)
def test_is_full_recognises_errors_of_a_full_disk(error, expected):
    assert is_full(error) is expected
