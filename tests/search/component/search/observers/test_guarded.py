"""Plugins that fail: the run goes on, and says so once when it happens and once at its end."""

from __future__ import annotations

from contextlib import contextmanager

import pytest

from vitsearch.core.stage import Stage
from vitsearch.errors import ResourceError, StageError
from vitsearch.search.observers.base import SilentRun
from vitsearch.search.observers.guarded import guarded


class Plugin:
    """Opens this run, or raises this error."""

    def __init__(self, run, error=None, at_exit=None):
        self.run, self.error, self.at_exit = run, error, at_exit

    def missing(self):
        return None

    @contextmanager
    def observe(self, setting, space, note):
        if self.error is not None:
            raise self.error
        yield self.run
        if self.at_exit is not None:
            raise self.at_exit


class FailsOnNotes(SilentRun):
    def __init__(self):
        self.seen = []

    def note(self, text):
        self.seen.append(text)
        raise OSError("no space left")

    def left(self, text):
        self.seen.append(text)


class FailsBehindStages(SilentRun):
    @contextmanager
    def stage(self, stage):
        yield
        raise OSError("no space left")


class SwallowsErrors(SilentRun):
    @contextmanager
    def stage(self, stage):
        try:
            yield
        except StageError:
            return


FAILURE = "observer 'lines' failed (OSError: no space left): it gets no more reports, and the search goes on"


@pytest.fixture
def notes():
    return []


@pytest.fixture
def opened(space, notes):
    return lambda plugin: guarded("lines", plugin, "setting", space, notes.append)


def test_an_observer_that_fails_gets_no_more_reports(opened, notes):
    run = FailsOnNotes()
    with opened(Plugin(run)) as observer:
        observer.note("one")
        observer.note("two")
        observer.left("a minute")
        assert notes == [FAILURE]
    assert run.seen == ["one"]
    assert notes == [FAILURE, FAILURE], "the end of the run says it again"


def test_an_error_behind_a_stage_does_not_lose_its_result(opened, notes):
    with opened(Plugin(FailsBehindStages())) as observer:
        with observer.stage(Stage.TRAIN):
            result = "an hour of training"
        assert result
    assert notes == [FAILURE, FAILURE]


@pytest.mark.parametrize("run", [SwallowsErrors(), FailsBehindStages()])
def test_an_error_of_a_stage_goes_on_as_it_is(opened, run):
    with pytest.raises(StageError, match="no memory"), opened(Plugin(run)) as observer, observer.stage(Stage.TRAIN):
        raise StageError("train", "out_of_memory", "no memory")


def test_an_observer_that_cannot_be_opened_ends_the_run_before_it_begins(opened):
    with (
        pytest.raises(ResourceError, match="observer 'lines' cannot be opened: OSError: no such host"),
        opened(Plugin(SilentRun(), error=OSError("no such host"))),
    ):
        raise AssertionError("the run has begun")


def test_an_observer_that_cannot_be_closed_is_a_note(opened, notes):
    with opened(Plugin(SilentRun(), at_exit=OSError("no space left"))):
        pass
    assert notes == [FAILURE, FAILURE]


def test_the_log_has_the_traceback(opened, caplog):
    with opened(Plugin(FailsOnNotes())) as observer:
        observer.note("one")
    (record,) = caplog.records
    assert record.exc_info[0] is OSError
