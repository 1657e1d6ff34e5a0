"""Unfinished uploads: which of them are active, and which are abandoned.

The age of an upload counts from its last chunk, or from the start of the agent if that was later. Times are
monotonic, because the clock of a board without a battery starts in 1970 and jumps by decades when it is set.
"""

import os
from typing import Callable, Dict, FrozenSet, List, Set

UPLOADS_MAX = 256
UPLOAD_MAX_AGE_S = 7 * 86400.0
ACTIVE_S = 60.0
"""An upload that got a chunk within this time is evicted only for an upload that has more bytes. Otherwise two uploads
could evict each other for ever."""


class Uploads:
    """The received part of each upload, a file in `folder` named by the digest. The caller holds the store's lock."""

    def __init__(self, folder: str, clock: Callable[[], float]) -> None:
        self.folder = folder
        self._clock = clock
        self._began_s = clock()
        self._touched_s: Dict[str, float] = {}
        os.makedirs(folder, exist_ok=True)

    def path(self, sha256: str) -> str:
        return os.path.join(self.folder, sha256)

    def touch(self, sha256: str) -> None:
        """Note that an upload got a chunk."""
        self._touched_s[sha256] = self._clock()

    def ahead_of(self, sha256: str, arrived: int) -> FrozenSet[str]:
        """Return the active uploads with more bytes than this one; the digest decides between equal ones."""
        ahead = set()
        for name, touched_s in self._touched().items():
            is_active = self._clock() - touched_s < ACTIVE_S
            if is_active and (os.path.getsize(self.path(name)), name) > (arrived, sha256):
                ahead.add(name)
        return frozenset(ahead)

    def abandoned(self, keep: Set[str]) -> List[str]:
        """Return the paths of uploads that are too old, and of the oldest ones beyond UPLOADS_MAX."""
        names = sorted(os.listdir(self.folder), key=self._last_s)
        too_many = len(names) - UPLOADS_MAX
        since_s = self._clock() - UPLOAD_MAX_AGE_S
        return [
            self.path(name)
            for index, name in enumerate(names)
            if name not in keep and (index < too_many or self._last_s(name) < since_s)
        ]

    def _last_s(self, sha256: str) -> float:
        return self._touched_s.get(sha256, self._began_s)

    def _touched(self) -> Dict[str, float]:
        """Return the time of the last chunk of each upload that got one since the start; forget removed uploads."""
        present = os.listdir(self.folder)
        self._touched_s = {name: self._touched_s[name] for name in present if name in self._touched_s}
        return self._touched_s
