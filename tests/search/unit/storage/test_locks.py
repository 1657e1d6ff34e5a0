"""A lock lets one process in; on a file system without locks nobody waits."""

from __future__ import annotations

import errno
import fcntl
import threading

import pytest

from vitsearch.storage.locks import locked


def test_a_second_caller_waits_for_the_first(tmp_path):
    got_in = threading.Event()

    def second():
        with locked(tmp_path / "lock"):
            got_in.set()

    waiting = threading.Thread(target=second)
    with locked(tmp_path / "lock") as is_alone:
        waiting.start()
        assert is_alone
        assert not got_in.wait(0.2)
    assert got_in.wait(60.0)
    waiting.join()


@pytest.fixture
def refusing(monkeypatch):
    """The kernel refuses every lock with an error number."""

    def refuse_with(code):
        def refuse(*_):
            raise OSError(code, "refused")

        monkeypatch.setattr(fcntl, "flock", refuse)

    return refuse_with


def test_without_locks_every_caller_enters(tmp_path, refusing):
    refusing(errno.ENOLCK)
    with locked(tmp_path / "lock") as is_alone:
        assert not is_alone


def test_other_errors_are_raised(tmp_path, refusing):
    refusing(errno.EIO)
    with pytest.raises(OSError, match="refused"), locked(tmp_path / "lock"):
        pass
