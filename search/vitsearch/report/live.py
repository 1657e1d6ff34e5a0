"""A study that may be running: its report, made again when there is something new."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack

from vitsearch.errors import StudyError, VitsearchError
from vitsearch.report.data import read_report
from vitsearch.report.page import page
from vitsearch.storage.addresses import shown_argument
from vitsearch.study.lookup import opened

QUIET_S = 10.0
"""How often the page is renewed for what is no finished trial, such as stages that have ended."""


class LiveStudy:
    """Not for several threads at once. `version` names what `data` returns; it changes with it.

    Opens the study when it is first read; raises `StudyError` where there is none.
    `gone` is None, or a line about the study that was deleted since; it may come back.
    """

    def __init__(self, study_argument: str) -> None:
        self._study_argument = study_argument
        self._open = ExitStack()
        self._study, self._ledger = self._open.enter_context(opened(study_argument))
        self._seen: tuple[object, object] = ((), ())
        self._made_at_s = 0.0
        self._data = ""
        self.version = 0
        self.gone: str | None = None

    @property
    def is_read(self) -> bool:
        """Whether there is something to show."""
        return bool(self._data)

    def find(self) -> bool:
        """Whether the study is there; one that was made again in its place is opened."""
        if self.gone is None and self._study.is_there():
            return True
        self._open.close()
        self._data, self._seen = "", ((), ())
        self.gone = f"study {shown_argument(self._study_argument)!r} is gone: it was deleted"
        try:
            self._study, self._ledger = self._open.enter_context(opened(self._study_argument))
        except VitsearchError:
            return False
        self.gone = None
        return True

    def look(self) -> bool:
        """Read the study again if it has changed; whether it has. A finished or new trial is seen at once.

        Raises `StudyError` where it is gone.
        """
        if not self.find():
            raise StudyError(str(self.gone))
        trials, rest = self._study.revision(), self._ledger.revision()
        is_quiet = trials == self._seen[0] and time.monotonic() - self._made_at_s < QUIET_S
        if (trials, rest) == self._seen or is_quiet:
            return False
        self._ledger.forget()
        content = read_report(self._study, self._ledger, self._study_argument).to_json()
        self._data = json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        self._seen = trials, rest
        self._made_at_s = time.monotonic()
        self.version += 1
        return True

    def data(self) -> str:
        """The data of the page as JSON, as it was at the last look."""
        if not self._data:
            self.look()
        return self._data

    def page(self) -> str:
        """The whole page."""
        return page(json.loads(self.data()), live=True)

    def close(self) -> None:
        self._open.close()
