"""A study that may be running: its report, made again when there is something new."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack

from vitsearch.report.data import read_report
from vitsearch.report.page import page
from vitsearch.study.lookup import opened

QUIET_S = 10.0
"""How often the page is renewed for what is no finished trial, such as stages that have ended."""


class LiveStudy:
    """Not for several threads at once. ``version`` names what :meth:`data` returns; it changes with it.

    Opens the study when it is first read; raises :class:`~vitsearch.errors.StudyError` where there is none.
    """

    def __init__(self, asked: str) -> None:
        self._asked = asked
        self._open = ExitStack()
        self._study, self._ledger = self._open.enter_context(opened(asked))
        self._seen: tuple[object, object] = ((), ())
        self._made_at_s = 0.0
        self._data = ""
        self.version = 0

    def look(self) -> bool:
        """Read the study again if it has changed; whether it has. A finished or new trial is seen at once."""
        trials, rest = self._study.revision(), self._ledger.revision()
        is_quiet = trials == self._seen[0] and time.monotonic() - self._made_at_s < QUIET_S
        if (trials, rest) == self._seen or is_quiet:
            return False
        self._ledger.forget()
        found = read_report(self._study, self._ledger, self._asked).to_json()
        self._data = json.dumps(found, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        self._seen = trials, rest
        self._made_at_s = time.monotonic()
        self.version += 1
        return True

    def data(self) -> str:
        """The data of the page as JSON, as it was at the last look."""
        if not self.version:
            self.look()
        return self._data

    def page(self) -> str:
        """The whole page."""
        return page(json.loads(self.data()), live=True)

    def close(self) -> None:
        self._open.close()
