"""What happens when the database server is away: it restarts, or the network is cut.

A program that has the database open waits. A connection that cannot be made is tried again (:func:`wait_for`), and what
was under way when a connection was cut is done again (:func:`again_when_cut`). A server that has never answered is
reported at once: its address may be wrong. SQLite has no server.
"""

from __future__ import annotations

import inspect
import logging
import time
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from sqlalchemy import Engine, event
from sqlalchemy.exc import DBAPIError

from vitsearch.errors import StoreError
from vitsearch.storage.ledger.engine import shown

OUTAGE_S = 900.0
"""How long a server that has answered before is waited for."""
RECONNECT_S = 1.0

P = ParamSpec("P")
T = TypeVar("T")
K = TypeVar("K", bound=type)

logger = logging.getLogger(__name__)


def wait_for(engine: Engine) -> None:
    """From now on wait for the server of ``engine``, which has answered, wherever it cannot be connected.

    After :data:`OUTAGE_S` in vain, :class:`StoreError` is raised.
    """
    if engine.dialect.name == "sqlite":
        return

    @event.listens_for(engine, "do_connect")
    def _connect(dialect: Any, _record: Any, arguments: Any, options: Any) -> Any:
        since, is_known = time.monotonic(), False
        while True:
            try:
                connection = dialect.connect(*arguments, **options)
            except dialect.loaded_dbapi.OperationalError as error:
                waited = time.monotonic() - since
                if waited > OUTAGE_S:
                    raise StoreError(
                        f"storage {shown(engine)} has not answered for {waited:.0f} s ({_line(error)}); "
                        "the same command resumes"
                    ) from error
                if not is_known:
                    logger.warning("storage %s does not answer: waiting for it (%s)", shown(engine), _line(error))
                is_known = True
                time.sleep(RECONNECT_S)
            else:
                return connection


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


def again_when_cut(kind: K) -> K:
    """A decorator of classes: every public method is called once more when its connection was cut. The second call
    finds a server that answers, because connections wait for it. A method that is given a ``connection`` is part of
    another one's transaction, which is done again as a whole."""
    for name, method in list(vars(kind).items()):
        is_public = inspect.isfunction(method) and not name.startswith("_")
        if is_public and "connection" not in inspect.signature(method).parameters:
            setattr(kind, name, again(method))
    return kind


def again(method: Callable[P, T]) -> Callable[P, T]:
    """Call ``method`` once more when its connection was cut."""

    @wraps(method)
    def call(*arguments: P.args, **options: P.kwargs) -> T:
        try:
            return method(*arguments, **options)
        except DBAPIError as error:
            if not error.connection_invalidated:
                raise
            logger.warning("the connection to the database was cut: trying again (%s)", _line(error))
        return method(*arguments, **options)

    return call
