"""How long this process has seen what others seem to have left.

After an outage of the database every claim and every heartbeat is old, and whoever is connected first would take the
work of drivers that live. So a driver takes nothing over before its owner had time for a sign of life.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterable
from typing import Generic, TypeVar

TAKE_OVER_S = 45.0
"""One and a half of the intervals in which drivers give signs of life (`search/watch/heartbeat.py`)."""

T = TypeVar("T", bound=Hashable)


class Sightings(Generic[T]):
    """Since when something was seen each time that somebody looked."""

    def __init__(self, patience_s: float = TAKE_OVER_S, clock: Callable[[], float] = time.monotonic) -> None:
        self._patience_s, self._clock = patience_s, clock
        self._since: dict[T, float] = {}
        self._looked_at = clock()

    def overdue(self, seen: Iterable[T]) -> set[T]:
        """What has been seen for `patience_s` without a break. `seen` is all that is there now. After a break of twice
        that length, such as an outage, all is seen for the first time."""
        now = self._clock()
        before = self._since if now - self._looked_at <= 2 * self._patience_s else {}
        self._since, self._looked_at = {each: before.get(each, now) for each in seen}, now
        return {each for each, since in self._since.items() if now - since >= self._patience_s}
