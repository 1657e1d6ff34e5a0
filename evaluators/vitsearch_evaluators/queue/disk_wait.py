"""What the thread that measures does when the disk is full: it waits, and says for what."""

import logging
import sqlite3
import threading
from typing import Any, Callable, Optional

from vitsearch_evaluators.base import processes
from vitsearch_evaluators.errors import StorageFull
from vitsearch_evaluators.queue.blob_store import BlobStore

logger = logging.getLogger(__name__)

_POLL_S = 2.0


class DiskWait:
    """Gives way in the store and looks again every 2 s, until `stopping` is set.

    `problem` says what is waited for, None when nothing is wrong.
    """

    def __init__(self, store: BlobStore, stopping: threading.Event) -> None:
        self.problem: Optional[str] = None
        self._store = store
        self._stopping = stopping

    def require_room(self, access: Callable[[], Any]) -> Any:
        """Read or write the queue as soon as the disk lets us: without it nothing else can be done either."""
        while True:
            try:
                result = access()
            except sqlite3.Error as error:
                self._wait_for(f"the queue cannot be written: {error}")
                if self._stopping.is_set():
                    return None  # the next life finds the job as interrupted, and its answers in its folder
            else:
                self.problem = None
                return result

    def await_room(self) -> None:
        """Return when a job can write what little it writes."""
        while not self._store.has_room() and not self._stopping.is_set():
            self._wait_for("the disk has no room for a job")
        self.problem = None

    def _wait_for(self, problem: str) -> None:
        if self.problem != problem:
            logger.error("%s; waiting", problem)
        self.problem = problem
        self._store.yield_to()
        self._stopping.wait(_POLL_S)


def is_full(error: Exception) -> bool:
    """Whether the disk was what stopped a job."""
    if isinstance(error, OSError):
        return error.errno in processes.DISK_ERRNOS
    return isinstance(error, (StorageFull, sqlite3.OperationalError))
