"""The log of one run as JSON lines: each stage and trial, notes, and the warnings of our own loggers.

Every line has `time` (ISO 8601, UTC), `event`, `study`, `host` and `pid`; what happens in a trial has
`trial`, what happens in a stage `stage`. The events:

    run_started                   run_ended        seconds, error (null at a clean end)
    trial_started   plan          trial_ended      outcome, plan, reason, metrics, artifact_key
    stage_started                 stage_ended      seconds, error (null at a clean end)
    known           trials        counted          what, done, wanted
    note, waits     text          log              level, logger, text
    doing           what, text
"""

from __future__ import annotations

import json
import logging
import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from vitsearch.core.plan import Plan, plan_text
from vitsearch.core.record import Record
from vitsearch.core.stage import Stage
from vitsearch.errors import StoreError
from vitsearch.pipeline.progress import DOING_LINES_S, WAITING_LINES_S, Paced, current_trial, subject_of

LOGGERS = ("vitsearch", "vitsearch_agent")
_current_stage: ContextVar[Stage | None] = ContextVar("current_stage", default=None)

logger = logging.getLogger(__name__)


def new_log_file(folder: Path) -> Path:
    """The log file of a run that begins now; runs of one second differ by machine and process."""
    return folder / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{socket.gethostname()}-{os.getpid()}.jsonl"


class LogFile:
    """Writes each event at once. A disk that is full ends the log, with one warning, and not the run."""

    def __init__(self, stream: TextIO, study: str) -> None:
        self._stream: TextIO | None = stream
        self._always = {"study": study, "host": socket.gethostname(), "pid": os.getpid()}
        self._counts: dict[str, tuple[int, int | None]] = {}
        self._waiting, self._doing = Paced(WAITING_LINES_S), Paced(DOING_LINES_S)

    @classmethod
    @contextmanager
    def opened(cls, path: Path, study: str) -> Iterator[LogFile]:
        """Append to `path`, and take in the warnings of our loggers. `StoreError` if it cannot be written."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.is_fifo():  # to open one waits for a reader
                raise StoreError(f"log file {path} cannot be written: it is a pipe")
            stream = path.open("a", encoding="utf-8")
        except OSError as error:
            raise StoreError(f"log file {path} cannot be written: {error.strerror}") from error
        with stream:
            log = cls(stream, study)
            with _taking_in(log), log._between("run"):
                yield log

    @contextmanager
    def stage(self, stage: Stage) -> Iterator[None]:
        token = _current_stage.set(stage)
        try:
            with self._between("stage"):
                yield
        finally:
            _current_stage.reset(token)

    @contextmanager
    def _between(self, what: str) -> Iterator[None]:
        """Write when `what` starts and ends; the end has the seconds, and the error that ended it."""
        self._write(f"{what}_started")
        started, error = time.monotonic(), None
        try:
            yield
        except BaseException as raised:
            error = str(raised) or type(raised).__name__
            raise
        finally:
            self._write(f"{what}_ended", seconds=round(time.monotonic() - started, 6), error=error)

    def note(self, text: str) -> None:
        self._write("note", text=text)

    def doing(self, stages: Mapping[str, str]) -> None:
        """Write each at once, then every half minute."""
        for name in self._doing.due(stages):
            self._write("doing", what=name, text=stages[name])

    def waits(self, text: str | None) -> None:
        """Write at once, then every five minutes: the text has the time waited, and so changes every second."""
        if text is None:
            self._waiting.due([])
        elif self._waiting.due([subject_of(text)]):
            self._write("waits", text=text)

    def counted(self, what: str, done: int, wanted: int | None) -> None:
        if self._counts.get(what) != (done, wanted):
            self._counts[what] = done, wanted
            self._write("counted", what=what, done=done, wanted=wanted)

    def left(self, text: str) -> None:
        """Not written: reported every second, and known from the lines."""

    def earlier_trials(self, records: Mapping[int, Record]) -> None:
        self._write("known", trials=len(records))

    def started(self, number: int, plan: Plan) -> None:
        self._write("trial_started", trial=number, plan=plan_text(plan))

    def ended(self, number: int, record: Record) -> None:
        self._write(
            "trial_ended",
            trial=number,
            outcome=record.shown_outcome,
            plan=plan_text(record.plan),
            reason=record.reason,
            metrics=record.metrics.values,
            artifact_key=record.keys.artifact_key if record.keys else None,
        )

    def log(self, record: logging.LogRecord) -> None:
        """A warning of one of our loggers."""
        self._write("log", level=record.levelname.lower(), logger=record.name, text=record.getMessage())

    def _write(self, event: str, **more: Any) -> None:
        if self._stream is None:
            return
        where = {"trial": current_trial.get(), "stage": _current_stage.get()}
        where = {name: value for name, value in where.items() if value is not None}
        line = {"time": datetime.now(UTC).isoformat(), "event": event, **self._always, **where, **more}
        try:
            print(json.dumps(line), file=self._stream, flush=True)
        except OSError as error:
            with suppress(OSError):  # it would write once more what did not go
                self._stream.close()
            self._stream = None  # before the warning, which is logged too
            logger.warning("the log of this run ends here: %s", error)


class _StudyLogHandler(logging.Handler):
    def __init__(self, log: LogFile) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        self._log.log(record)
        if logging.lastResort is not None and not logging.getLogger().handlers:
            logging.lastResort.handle(record)  # what Python does for a logger without handlers: print it


@contextmanager
def _taking_in(log: LogFile) -> Iterator[None]:
    handler = _StudyLogHandler(log)
    for name in LOGGERS:
        logging.getLogger(name).addHandler(handler)
    try:
        yield
    finally:
        for name in LOGGERS:
            logging.getLogger(name).removeHandler(handler)
