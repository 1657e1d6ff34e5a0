"""A disk that is full is waited for, and what is waited for is said; a disk that is not the reason is no excuse."""

import errno
import sqlite3
import threading

import pytest

from vitsearch_evaluators.errors import MeasurementFailed, StorageFull
from vitsearch_evaluators.queue import disk_wait
from vitsearch_evaluators.queue.disk_wait import DiskWait, is_full


class FullStore:
    """Has room after it gave way so many times; notes what was waited for meanwhile."""

    def __init__(self, times):
        self.left = times
        self.problems = []
        self.wait = None

    def has_room(self):
        return self.left <= 0

    def yield_to(self):
        self.left -= 1
        self.problems.append(self.wait.problem)


@pytest.fixture
def full(monkeypatch):
    """Make a store and what waits for it: full(times, stopping)."""
    monkeypatch.setattr(disk_wait, "_POLL_S", 0.0)

    def make(times, stopping):
        store = FullStore(times)
        store.wait = DiskWait(store, stopping)
        return store, store.wait

    return make


def test_room_is_waited_for(full):
    store, wait = full(3, threading.Event())
    wait.await_room()
    assert store.problems == ["the disk has no room for a job"] * 3
    assert wait.problem is None


def test_the_queue_is_written_as_soon_as_the_disk_lets_us(full):
    store, wait = full(2, threading.Event())

    def access():
        if not store.has_room():
            raise sqlite3.OperationalError("database or disk is full")
        return "written"

    assert wait.require_room(access) == "written"
    assert store.problems == ["the queue cannot be written: database or disk is full"] * 2
    assert wait.problem is None


def test_who_is_stopped_waits_no_more(full):
    stopping = threading.Event()
    stopping.set()
    _, wait = full(10**9, stopping)

    def access():
        raise sqlite3.OperationalError("database or disk is full")

    assert wait.require_room(access) is None
    wait.await_room()


@pytest.mark.parametrize(
    ("error", "told"),
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
def test_only_a_full_disk_is_one(error, told):
    assert is_full(error) is told
