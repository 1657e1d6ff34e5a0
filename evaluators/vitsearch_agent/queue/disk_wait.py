"""Waiting of the measuring thread while the disk is full."""

import logging
import sqlite3
import threading
from typing import Any, Callable, Optional

from vitsearch_agent.base import processes
from vitsearch_agent.errors import StorageFull
from vitsearch_agent.queue.blob_store import BlobStore

logger = logging.getLogger(__name__)

_POLL_S = 2.0


class DiskWait:
    """Frees room in the store and tries again every 2 s, until `stopping` is set.

    `problem` describes the reason for the current wait, None if there is none.
    """

    def __init__(self, store: BlobStore, stopping: threading.Event) -> None:
        self.problem: Optional[str] = None
        self._store = store
        self._stopping = stopping

    def retry(self, access: Callable[[], Any]) -> Any:
        """Return what `access` to the queue returns, repeated until the disk accepts it; None when stopping.

        A damaged queue raises another sqlite3.Error than OperationalError: no room mends it, only the next start does.
        """
        while True:
            try:
                result = access()
            except sqlite3.OperationalError as error:
                self._wait_for(f"the queue cannot be written: {error}")
                if self._stopping.is_set():
                    return None  # after a restart the job counts as interrupted, and its answers are in its folder
            else:
                self.problem = None
                return result

    def await_room(self) -> None:
        """Return when the disk has room for the small files of a job."""
        while not self._store.has_room() and not self._stopping.is_set():
            self._wait_for("the disk has no room for a job")
        self.problem = None

    def _wait_for(self, problem: str) -> None:
        if self.problem != problem:
            logger.error("%s; waiting", problem)
        self.problem = problem
        self._store.restore_reserve()
        self._stopping.wait(_POLL_S)


def is_full(error: Exception) -> bool:
    """Whether an error of a job was caused by a full disk."""
    if isinstance(error, OSError):
        return error.errno in processes.DISK_ERRNOS
    return isinstance(error, (StorageFull, sqlite3.OperationalError))
