"""Locks between processes: who holds one, and whose turn is next."""

import os
import subprocess
import sys
import threading

import pytest

from vitsearch_agent.base import locks, processes

HOLD = """
import sys
from vitsearch_agent.base import locks
lock = locks.try_lock(sys.argv[1], "a model")
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "cache" / "measuring.lock")


@pytest.fixture
def other(path):
    """Another process that holds the lock until its stdin is closed."""
    os.makedirs(os.path.dirname(path))
    environment = processes.with_package_path(dict(os.environ))
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    ) as process:
        process.stdout.readline()
        yield process
        process.kill()


def test_a_held_lock_is_refused_and_says_who_holds_it(path, other):
    assert locks.try_lock(path) is None
    holder = locks.holder(path)
    assert (holder.pid, holder.work) == (other.pid, "a model")
    assert all((holder.user, holder.host, holder.since))


def test_a_lock_is_free_when_its_process_was_killed(path, other):
    other.kill()
    other.wait()
    assert locks.holder(path) is None
    with locks.try_lock(path):
        assert locks.holder(path).pid == os.getpid()


def test_a_file_that_nobody_locked_has_no_holder(tmp_path):
    assert locks.holder(str(tmp_path / "missing")) is None


def test_measuring_waits_for_another_process_and_tells_so_once(path, other):
    reported = []

    def on_wait(holder):
        reported.append((holder.pid, holder.work))
        other.stdin.close()

    with locks.measuring_alone(path, "mine", on_wait=on_wait):
        assert other.wait() == 0
        assert locks.holder(path).work == "mine"
    assert reported == [(other.pid, "a model")]
    assert locks.holder(path) is None


def test_a_stopped_wait_ends(path, other):
    stopped = threading.Event()
    with locks.measuring_alone(path, "mine", stopped.is_set, lambda holder: stopped.set()):
        assert locks.holder(path).pid == other.pid


def test_who_measures_again_lets_the_one_that_waits_go_first(path):
    order, waiting = [], threading.Event()

    def second():
        with locks.measuring_alone(path, "second", on_wait=lambda holder: waiting.set()):
            order.append("second")

    thread = threading.Thread(target=second)
    with locks.measuring_alone(path, "first"):
        thread.start()
        assert waiting.wait(60)
    with locks.measuring_alone(path, "first"):
        order.append("first again")
    thread.join()
    assert order == ["second", "first again"]


def test_where_no_lock_can_be_written_measuring_goes_on(tmp_path):
    (tmp_path / "file").write_text("")
    with locks.measuring_alone(str(tmp_path / "file" / "measuring.lock"), "mine"):
        assert locks.holder(str(tmp_path / "file" / "measuring.lock")) is None
