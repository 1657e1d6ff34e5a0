"""Which stages of a run are under way, since when, and how long those took that have ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from vitsearch.core.stage import Stage


class StageClock:
    """One per run. Times are seconds of ``now``; a stage that waits for a worker is under way too."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self.now = now
        self.last_end_s = now()
        self.longest_s: dict[Stage, float] = {}
        self._started: list[tuple[float, Stage]] = []

    @contextmanager
    def running(self, stage: Stage) -> Iterator[None]:
        entry = self.now(), stage
        self._started.append(entry)
        try:
            yield
        finally:
            self._started.remove(entry)
            self.last_end_s = self.now()
            self.longest_s[stage] = max(self.longest_s.get(stage, 0.0), self.last_end_s - entry[0])

    def ages_s(self) -> dict[Stage, float]:
        """How long the longest of each running stage has been under way."""
        now = self.now()
        return {stage: now - started for started, stage in sorted(self._started, reverse=True)}

    def quiet_s(self, waits: bool = False) -> float:
        """How long nothing has ended while something was under way, here or (``waits``) in another run."""
        started = [start for start, _ in self._started] or ([self.last_end_s] if waits else [])
        return self.now() - max(self.last_end_s, min(started)) if started else 0.0
