"""What a piece of work does at this moment and what it waits for: told by the code that does it, for people who wait.

The code that trains or reaches a server knows how far it is, but not who asks. So it tells `current`, and whoever
shows a run opens a `Work` for it with `doing`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

AWAITED_S = 10.0
"""A wait that is longer than this names what is awaited."""


@dataclass(frozen=True)
class Activity:
    """`text` is how far the work is, such as `epoch 2/5`, empty where it does not say; `awaits` what it waits
    for, None while it works. Both are for people."""

    text: str = ""
    awaits: str | None = None


@dataclass
class Awaited:
    """Something that work waits for. `why` is what is known of the reason: with one, the wait is shown at once."""

    what: str
    since_s: float
    why: str = ""

    def text(self, now_s: float) -> str | None:
        """The wait in words; None while it is short."""
        waited_s = now_s - self.since_s
        if waited_s < AWAITED_S and not self.why:
            return None
        return f"waits for {self.what}, {duration(waited_s)} so far" + (f": {self.why}" if self.why else "")


class Work:
    """One piece of work, of this process or of a worker elsewhere, whose last `Activity` is `elsewhere`."""

    def __init__(self) -> None:
        self.text = ""
        self.elsewhere = Activity()
        self._awaited: list[Awaited] = []

    @contextmanager
    def awaiting(self, what: str, why: str = "") -> Iterator[Awaited]:
        """The work waits for `what` inside this block, maybe a moment only."""
        awaited = Awaited(what, time.monotonic(), why)
        self._awaited.append(awaited)
        try:
            yield awaited
        finally:
            self._awaited.remove(awaited)

    @property
    def activity(self) -> Activity:
        """What the work does now."""
        now = time.monotonic()
        reasons_first = sorted(self._awaited, key=lambda wait: not wait.why)
        texts = [text for wait in reasons_first if (text := wait.text(now)) is not None]
        return Activity(self.text or self.elsewhere.text, texts[0] if texts else self.elsewhere.awaits)


_current: ContextVar[Work | None] = ContextVar("current_work", default=None)


def current() -> Work:
    """The work of the running task or thread; one that nobody sees outside any."""
    return _current.get() or Work()


@contextmanager
def doing(work: Work) -> Iterator[Work]:
    """What runs inside this block, in its tasks too, is `work`."""
    token = _current.set(work)
    try:
        yield work
    finally:
        _current.reset(token)


def duration(seconds: float) -> str:
    """`40 s`, `3 min`, `2 h 5 min`."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(int(seconds // 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
