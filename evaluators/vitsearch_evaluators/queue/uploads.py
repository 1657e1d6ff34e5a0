"""Uploads that were begun: which of them are under way, and which nobody goes on with.

An upload is as old as its last chunk, or as this life of the agent where that came before it. Times are monotonic: a
board without a battery begins in 1970 and jumps by decades once it hears the time.
"""

import os
from typing import Callable, Dict, FrozenSet, List, Set

UPLOADS_MAX = 256
UPLOAD_MAX_AGE_S = 7 * 86400.0
UNDER_WAY_S = 60.0
"""An upload that got a chunk so lately makes room only for one that has come further: two that evicted each other
would never end."""


class Uploads:
    """Under the store's lock. `folder` holds a file for each, as long as what has arrived, named by the digest."""

    def __init__(self, folder: str, clock: Callable[[], float]) -> None:
        self.folder = folder
        self._clock = clock
        self._began_s = clock()
        self._touched_s: Dict[str, float] = {}
        os.makedirs(folder, exist_ok=True)

    def path(self, sha256: str) -> str:
        return os.path.join(self.folder, sha256)

    def touch(self, sha256: str) -> None:
        """Note that a chunk of an upload is here."""
        self._touched_s[sha256] = self._clock()

    def ahead_of(self, sha256: str, arrived: int) -> FrozenSet[str]:
        """Return the uploads under way that have come further than this one; of two that are as far, one is."""
        ahead = set()
        for name, touched_s in self._here().items():
            is_under_way = self._clock() - touched_s < UNDER_WAY_S
            if is_under_way and (os.path.getsize(self.path(name)), name) > (arrived, sha256):
                ahead.add(name)
        return frozenset(ahead)

    def given_up(self, keep: Set[str]) -> List[str]:
        """Return the paths of those that nobody goes on with, and of the oldest where there are too many."""
        names = sorted(os.listdir(self.folder), key=self._last_s)
        too_many = len(names) - UPLOADS_MAX
        since_s = self._clock() - UPLOAD_MAX_AGE_S
        return [
            self.path(name)
            for place, name in enumerate(names)
            if name not in keep and (place < too_many or self._last_s(name) < since_s)
        ]

    def _last_s(self, sha256: str) -> float:
        return self._touched_s.get(sha256, self._began_s)

    def _here(self) -> Dict[str, float]:
        """Return when those last got a chunk that got one in this life; forget what has gone."""
        present = os.listdir(self.folder)
        self._touched_s = {name: self._touched_s[name] for name in present if name in self._touched_s}
        return self._touched_s
