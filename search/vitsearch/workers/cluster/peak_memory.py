"""The memory that a stage needs, of its worker and of the programs that it starts, sampled while it runs.

Counted is resident memory without pages of files. Decoded images are read through a map: their pages are resident until
the kernel wants the memory back, so with them every stage would seem as large as its data set. Linux only.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

SAMPLE_S = 0.05
PROC = Path("/proc")


class PeakMemory:
    """The largest sample so far; `megabytes` (10^6 bytes) is None where there is no `/proc`."""

    def __init__(self) -> None:
        self._bytes = 0

    @property
    def megabytes(self) -> float | None:
        return self._bytes / 1e6 if self._bytes else None

    def sample(self) -> None:
        self._bytes = max(self._bytes, _tree_bytes(os.getpid()))


@contextmanager
def peak_memory() -> Iterator[PeakMemory]:
    """Sample this process, and what its main thread has started, until the block ends."""
    peak, ended = PeakMemory(), threading.Event()

    def watch() -> None:
        while not ended.wait(SAMPLE_S):
            peak.sample()

    peak.sample()
    watching = threading.Thread(target=watch, name="peak memory", daemon=True)
    watching.start()
    try:
        yield peak
    finally:
        ended.set()
        watching.join()
        peak.sample()


def _tree_bytes(pid: int) -> int:
    """Of a process and those below it; 0 for one that has ended."""
    folder = PROC / str(pid)
    own, children = 0, list[str]()
    with suppress(OSError):
        _, resident, of_files, *_ = map(int, (folder / "statm").read_text().split())
        own = (resident - of_files) * os.sysconf("SC_PAGE_SIZE")
    with suppress(OSError):  # some kernels have no such file
        children = (folder / "task" / str(pid) / "children").read_text().split()
    return own + sum(_tree_bytes(int(child)) for child in children)
