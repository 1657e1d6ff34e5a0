"""The boundary to the code of plugins: an observer that fails is told nothing more, and the run goes on."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager

from vitsearch.core.plan import Plan
from vitsearch.core.record import Record
from vitsearch.core.stage import Stage
from vitsearch.errors import ResourceError, VitsearchError, with_type
from vitsearch.search.observers.base import FinalFront, Observer, RunObserver
from vitsearch.space import SearchSpace

logger = logging.getLogger(__name__)

Note = Callable[[str], None]


class GuardedRun:
    """A `RunObserver` that passes everything on until the plugin raises, and then nothing more.

    `failure` says what was raised, None if nothing was. The traceback is in the log.
    """

    def __init__(self, name: str, run: RunObserver, note: Note) -> None:
        self.failure: str | None = None
        self._name = name
        self._run = run
        self._note = note

    def call(self, report: Callable[[], object]) -> None:
        """Call the plugin. What it raises becomes the failure, and never reaches the run."""
        try:
            report()
        except Exception as error:
            if self.failure is not None:
                return
            logger.exception("observer %s", self._name)
            what = with_type(error)
            self.failure = f"observer {self._name!r} failed ({what}): it gets no more reports, and the search goes on"
            self._note(self.failure)

    @contextmanager
    def inside(self, block: AbstractContextManager[object]) -> Iterator[None]:
        """Run the body inside a block of the plugin, which was entered. An error of the body goes on as it is."""
        try:
            yield
        except BaseException:
            error = sys.exc_info()
            self.call(lambda: block.__exit__(*error))
            raise
        self.call(lambda: block.__exit__(None, None, None))

    @contextmanager
    def stage(self, stage: Stage) -> Iterator[None]:
        entered: list[AbstractContextManager[None]] = []

        def enter() -> None:
            block = self._run.stage(stage)
            block.__enter__()
            entered.append(block)

        self._report(enter)
        if not entered:
            yield
            return
        with self.inside(entered[0]):
            yield

    def note(self, text: str) -> None:
        self._report(lambda: self._run.note(text))

    def doing(self, stages: Mapping[str, str]) -> None:
        self._report(lambda: self._run.doing(stages))

    def waits(self, text: str | None) -> None:
        self._report(lambda: self._run.waits(text))

    def counted(self, what: str, done: int, wanted: int | None) -> None:
        self._report(lambda: self._run.counted(what, done, wanted))

    def left(self, text: str) -> None:
        self._report(lambda: self._run.left(text))

    def earlier_trials(self, records: Mapping[int, Record]) -> None:
        self._report(lambda: self._run.earlier_trials(records))

    def started(self, number: int, plan: Plan) -> None:
        self._report(lambda: self._run.started(number, plan))

    def ended(self, number: int, record: Record) -> None:
        self._report(lambda: self._run.ended(number, record))

    def finished(self, read_front: Callable[[], FinalFront]) -> None:
        self._report(lambda: self._run.finished(read_front))

    def _report(self, report: Callable[[], object]) -> None:
        if self.failure is None:
            self.call(report)


@contextmanager
def guarded(name: str, observer: Observer, setting: str, space: SearchSpace, note: Note) -> Iterator[GuardedRun]:
    """Open what a run reports to, and close it after the block. A failure is said when it comes, and again at the end.

    Args:
        name: Of the plugin, for messages.
        observer: The plugin.
        setting: Where it reports to.
        space: The space of the run.
        note: Shows a line to the user.

    Raises:
        ResourceError: It cannot be opened. Later errors of the plugin are not raised.
    """
    try:
        opened = observer.observe(setting, space, note)
        run = GuardedRun(name, opened.__enter__(), note)
    except VitsearchError:
        raise
    except Exception as error:
        raise ResourceError(f"observer {name!r} cannot be opened: {type(error).__name__}: {error}") from error
    with run.inside(opened):
        yield run
    if run.failure is not None:
        note(run.failure)
