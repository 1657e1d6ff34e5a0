"""Open the queue's file when the agent starts, on a disk that may be full or damaged.

An agent that gave up here would be started again and again by its supervisor. Models are copies that
clients send again, so they make room first; then the agent waits until somebody else does.
"""

import logging
import os
import sqlite3
from typing import Callable

from vitsearch_evaluators.config import LimitsConfig
from vitsearch_evaluators.errors import EvaluatorError
from vitsearch_evaluators.queue.blob_store import BlobStore
from vitsearch_evaluators.queue.queue import JobQueue
from vitsearch_evaluators.wire.job_status import JobStatus

logger = logging.getLogger(__name__)

_PAUSE_S = 5.0
_SIDE_FILES = ("-wal", "-shm")


def open_queue(
    path: str,
    limits: LimitsConfig,
    store: BlobStore,
    on_end: Callable[[JobStatus], None],
    pause: Callable[[float], None],
) -> JobQueue:
    """Return the queue with the jobs of earlier lives put back.

    `pause` waits some seconds, or raises to give up. A file that is no database is kept beside, as
    `path`.damaged: clients find their jobs gone and submit them again.
    """
    told = False
    while True:
        try:
            queue = JobQueue(path, limits)
            queue.on_end = on_end
            try:
                queue.recover()
            except BaseException:
                queue.close()
                raise
            return queue
        except sqlite3.OperationalError as error:
            if store.has_room() and "full" not in str(error):
                raise EvaluatorError("queue", f"{path} cannot be opened: {error}") from error
            if store.drop_oldest():
                continue
            if not told:
                logger.error("%s cannot be opened, the disk is full (%s): waiting for room", path, error)
                told = True
            pause(_PAUSE_S)
        except sqlite3.DatabaseError as error:
            logger.error("%s is damaged (%s): kept as %s.damaged, a new one begins", path, error, path)
            for suffix in ("",) + _SIDE_FILES:
                if os.path.exists(path + suffix):
                    os.replace(path + suffix, f"{path}.damaged{suffix}")
