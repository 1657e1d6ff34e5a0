"""Open the queue's file when the agent starts, also on a full disk or if the file is damaged.

If the agent gave up here, its supervisor would start it again and again. Models are copies that clients can send
again, so it removes them first to get room; then it waits until room is made elsewhere.
"""

import logging
import os
import sqlite3
from typing import Callable

from vitsearch_agent.config import LimitsConfig
from vitsearch_agent.errors import AgentError
from vitsearch_agent.queue.blob_store import BlobStore
from vitsearch_agent.queue.job_queue import JobQueue
from vitsearch_agent.wire.job_status import JobStatus

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
    """Return the queue after `recover`.

    `pause` waits some seconds, or raises to give up. A file that is not a sound database is renamed to `path`.damaged
    and a new queue begins: clients find that their jobs are gone and submit them again.
    """
    is_logged = False
    while True:
        try:
            queue = JobQueue(path, limits)
            queue.on_end = on_end
            try:
                queue.check()
                queue.recover()
            except BaseException:
                queue.close()
                raise
            return queue
        except sqlite3.OperationalError as error:
            if store.has_room() and "full" not in str(error):
                raise AgentError("queue", f"{path} cannot be opened: {error}") from error
            if store.drop_oldest():
                continue
            if not is_logged:
                logger.error("%s cannot be opened, the disk is full (%s): waiting for room", path, error)
                is_logged = True
            pause(_PAUSE_S)
        except sqlite3.DatabaseError as error:
            logger.error("%s is damaged (%s): it is kept as %s.damaged, and a new queue begins", path, error, path)
            for suffix in ("",) + _SIDE_FILES:
                if os.path.exists(path + suffix):
                    os.replace(path + suffix, f"{path}.damaged{suffix}")
