"""A database server that accepts what it is sent and answers nothing: stopped, or frozen with its machine.

The kernel of such a machine acknowledges each packet, so no time limit of a connection ends a statement. A thread
watches the statements that are under way. Where one has had no answer for a while and a new connection gets none
either, it cuts the connection, and what follows is that of a server that is away (`outage.py`).
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from typing import Any

from sqlalchemy import Engine, NullPool
from sqlalchemy.exc import DBAPIError

from vitsearch.storage.ledger.engine import make_engine

SILENT_S = 60.0
"""How long a statement goes without an answer before the server is asked something else."""
_METHODS = ("do_execute", "do_executemany", "do_execute_no_params", "do_commit", "do_rollback", "do_ping")
"""Those of a dialect that wait for the server. They get a cursor, a connection, or the pool's form of it, first."""


def cut_when_silent(engine: Engine) -> None:
    """From now on cut connections of `engine` on which the server stays silent."""
    watch = _Watch(engine)
    for name in _METHODS:
        setattr(engine.dialect, name, watch.around(getattr(engine.dialect, name)))


class _Watch:
    """What is waited for on the connections of an engine, by thread, with the time since when."""

    def __init__(self, engine: Engine) -> None:
        self._url = engine.url.render_as_string(hide_password=False)
        self._due: dict[int, tuple[float, Any]] = {}
        self._changed = threading.Lock()
        self._thread: threading.Thread | None = None

    def around(self, method: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(method)
        def call(first: Any, *arguments: Any, **options: Any) -> Any:
            thread = threading.get_ident()
            self._begin(thread, first)
            try:
                return method(first, *arguments, **options)
            finally:
                with self._changed:
                    self._due.pop(thread, None)  # one method may call another

        return call

    def _begin(self, thread: int, first: Any) -> None:
        with self._changed:
            self._due[thread] = (time.monotonic(), first)
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._watch, name="silent database server", daemon=True)
                self._thread.start()

    def _watch(self) -> None:
        """Ends by itself when nothing was due for a while: an engine that is closed keeps no thread."""
        while True:
            time.sleep(SILENT_S / 2)
            with self._changed:
                if not self._due:
                    self._thread = None
                    return
                overdue = time.monotonic() - SILENT_S
                silent = [(thread, entry) for thread, entry in self._due.items() if entry[0] <= overdue]
            if silent and not self._answers():
                for thread, entry in silent:
                    self._cut(thread, entry)

    def _answers(self) -> bool:
        """Whether the server answers a new connection."""
        engine = make_engine(self._url, poolclass=NullPool)
        with suppress(DBAPIError), engine.connect():
            return True
        return False

    def _cut(self, thread: int, entry: tuple[float, Any]) -> None:
        """End the connection from here: who waits for an answer on it sees it closed."""
        with self._changed, suppress(OSError):
            if self._due.get(thread) is entry:  # it was not answered meanwhile
                with socket.socket(fileno=os.dup(_number_of(entry[1]))) as own:
                    own.shutdown(socket.SHUT_RDWR)


def _number_of(first: Any) -> int:
    """The number of the open file behind a cursor or a connection."""
    if hasattr(first, "driver_connection"):
        first = first.driver_connection
    connection = first if hasattr(first, "fileno") else first.connection
    return int(connection.fileno())
