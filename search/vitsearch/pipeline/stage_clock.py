"""Which stages of a run are under way, since when and how far, and how long those took that have ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from vitsearch.core.activity import Work, doing, duration
from vitsearch.core.stage import Stage

LONG_S = 10.0
"""A stage that has been under way for so long is named with how far it is."""


@dataclass(frozen=True)
class UnderWay:
    """A stage that is under way: since when, of what (a backbone or a trial; may be empty), and what it tells."""

    started_s: float
    stage: Stage
    subject: str = ""
    work: Work = field(default_factory=Work, compare=False)

    @property
    def name(self) -> str:
        return f"{self.stage.words}: {self.subject}" if self.subject else self.stage.words


class StageClock:
    """One per run. Times are seconds of `now`; a stage that waits for a worker is under way too. `run` is what the
    run does outside its stages."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self.now = now
        self.last_end_s = now()
        self.longest_s: dict[Stage, float] = {}
        self.run = Work()
        self._started: list[UnderWay] = []

    @contextmanager
    def running(self, stage: Stage, subject: str = "") -> Iterator[None]:
        """A stage is under way inside this block, and what runs there tells how far it is."""
        entry = UnderWay(self.now(), stage, subject)
        self._started.append(entry)
        try:
            with doing(entry.work):
                yield
        finally:
            self._started = [other for other in self._started if other is not entry]
            self.last_end_s = self.now()
            self.longest_s[stage] = max(self.longest_s.get(stage, 0.0), self.last_end_s - entry.started_s)

    def ages_s(self) -> dict[Stage, float]:
        """How long the longest of each running stage has been under way."""
        now = self.now()
        newest_first = sorted(self._started, key=lambda entry: (entry.started_s, entry.stage), reverse=True)
        return {entry.stage: now - entry.started_s for entry in newest_first}

    def quiet_s(self, waits: bool = False) -> float:
        """How long nothing has ended while something was under way, here or (`waits`) in another run."""
        started = [entry.started_s for entry in self._started] or ([self.last_end_s] if waits else [])
        return self.now() - max(self.last_end_s, min(started)) if started else 0.0

    def idle_s(self) -> float:
        """How long no stage was under way."""
        return 0.0 if self._started else self.now() - self.last_end_s

    def long_stages(self) -> dict[str, str]:
        """The stages that take long, each with how far it is in words: `{"training a base: tiny_vit": "epoch 2/5"}`;
        those of the same name count as one, the oldest."""
        texts: dict[str, str] = {}
        for entry in sorted(self._started, key=lambda entry: entry.started_s):
            age_s = self.now() - entry.started_s
            if age_s >= LONG_S:
                texts.setdefault(entry.name, entry.work.activity.text or f"for {duration(age_s)}")
        return texts

    def awaited(self) -> str | None:
        """What the run, or the oldest of its stages that waits, waits for; None while all of them work."""
        works = (self.run, *(entry.work for entry in self._started))
        return next((awaits for work in works if (awaits := work.activity.awaits) is not None), None)
