"""What the agent logs goes to stderr: the journal keeps it in its own bounds, a file in the state folder in ours.

STATE/agent.log      the newest lines          STATE/agent.log.1      those before them
"""

import contextlib
import logging
import os
import shutil
import sys

FILE_NAME = "agent.log"
FILE_MAX_BYTES = 4 << 20


def bound(path: str) -> None:
    """Keep the file at `path` small from now on, if that is where stderr goes."""
    if _is_stderr(path):
        logging.getLogger().addHandler(_Rotation(path))


class _Rotation(logging.Handler):
    """Writes nothing: it looks after each record how large the file has become.

    The file is emptied and not renamed, for its descriptor is not ours: children and restarts write to it too.
    """

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(OSError):
            descriptor = sys.stderr.fileno()
            if os.fstat(descriptor).st_size < FILE_MAX_BYTES:
                return
            shutil.copyfile(self._path, self._path + ".1")
            os.ftruncate(descriptor, 0)
            os.lseek(descriptor, 0, os.SEEK_SET)  # for one that was not opened to append


def _is_stderr(path: str) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(sys.stderr.fileno()))
    except (OSError, ValueError, AttributeError):  # there may be no stderr
        return False
