"""Limit the size of the agent's log. It goes to stderr: the journal limits itself, a file in the state folder does not.

STATE/agent.log      the newest lines          STATE/agent.log.1      those before them
"""

import contextlib
import logging
import os
import shutil
import sys

FILE_NAME = "agent.log"
FILE_MAX_BYTES = 4 << 20


def limit_size(path: str) -> None:
    """Limit the size of the file at `path` from now on, if stderr goes there."""
    if _is_stderr(path):
        logging.getLogger().addHandler(_Rotation(path))


class _Rotation(logging.Handler):
    """Checks the size of the file after each record; it writes nothing itself.

    The file is emptied and not renamed, because children and restarted agents write to the same open file.
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
            os.lseek(descriptor, 0, os.SEEK_SET)  # if it was not opened for appending


def _is_stderr(path: str) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(sys.stderr.fileno()))
    except (OSError, ValueError, AttributeError):  # stderr may be missing
        return False
