"""What happens when the database server is away: it restarts, or the network is cut.

A program that has the database open waits. A connection that cannot be made is tried again (`wait_for`), and what
was under way when a connection was cut is done again (`again_when_cut`). The connections of a server that is silent are
cut from here (`silent_server.py`). A server that has never answered is
reported at once: its address may be wrong. SQLite has no server.
"""

from __future__ import annotations

import inspect
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from sqlalchemy import Engine, event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import DBAPIError

from vitsearch.errors import StoreError
from vitsearch.storage.ledger.engine import shown
from vitsearch.storage.ledger.silent_server import cut_when_silent

OUTAGE_S = 900.0
"""How long a server that has answered before is waited for."""
RECONNECT_S = 1.0

P = ParamSpec("P")
T = TypeVar("T")
K = TypeVar("K", bound=type)

logger = logging.getLogger(__name__)


def wait_for(engine: Engine) -> None:
    """From now on wait for the server of `engine`, which has answered, wherever it cannot be connected.

    After `OUTAGE_S` in vain, `StoreError` is raised.
    """
    if engine.dialect.name == "sqlite":
        return
    cut_when_silent(engine)
    where = f"database {shown(engine)}"

    @event.listens_for(engine, "handle_error")
    def _name(context: ExceptionContext) -> None:
        if context.sqlalchemy_exception is not None:
            context.sqlalchemy_exception.add_note(where)

    @event.listens_for(engine, "do_connect")
    def _connect(dialect: Any, _record: Any, arguments: Any, options: Any) -> Any:
        since, is_known, clock = time.monotonic(), False, f"{datetime.now(UTC):%H:%M:%S} UTC"
        while True:
            try:
                connection = dialect.connect(*arguments, **options)
            except dialect.loaded_dbapi.OperationalError as error:
                waited = time.monotonic() - since
                if waited > OUTAGE_S:
                    raise StoreError(
                        f"{where} has not answered for {waited:.0f} s, since {clock} ({_line(error)}); "
                        "the same command resumes"
                    ) from error
                if not is_known:
                    logger.warning(
                        "%s has not answered since %s (%s): waiting for it, for up to %.0f min",
                        where,
                        clock,
                        _line(error),
                        OUTAGE_S / 60,
                    )
                is_known = True
                time.sleep(RECONNECT_S)
            else:
                if is_known:
                    logger.warning("%s answers again, after %.0f s", where, time.monotonic() - since)
                return connection


def _line(error: Exception) -> str:
    """What the driver says in its first line, without the statement that SQLAlchemy adds."""
    said = error.orig if isinstance(error, DBAPIError) else error
    return next(iter(str(said).strip().splitlines()), type(said).__name__)


def _where(error: DBAPIError) -> str:
    return next(iter(getattr(error, "__notes__", ())), "the database")


def lost(error: BaseException | None) -> str | None:
    """In one line what a person reads when `error` says that a database server was lost; None for other errors."""
    while error is not None:
        if isinstance(error, DBAPIError):
            if not error.connection_invalidated:
                return None
            return f"{_where(error)} was lost ({_line(error)}); the same command resumes"
        error = error.__cause__
    return None


def again_when_cut(kind: K) -> K:
    """A decorator of classes: every public method is called once more when its connection was cut. The second call
    finds a server that answers, because connections wait for it. A method that is given a `connection` is part of
    another one's transaction, which is done again as a whole."""
    for name, method in list(vars(kind).items()):
        is_public = inspect.isfunction(method) and not name.startswith("_")
        if is_public and "connection" not in inspect.signature(method).parameters:
            setattr(kind, name, again(method))
    return kind


def again(method: Callable[P, T]) -> Callable[P, T]:
    """Call `method` once more when its connection was cut."""

    @wraps(method)
    def call(*arguments: P.args, **options: P.kwargs) -> T:
        try:
            return method(*arguments, **options)
        except DBAPIError as error:
            if not error.connection_invalidated:
                raise
            logger.warning("%s: the connection was cut (%s): doing this again", _where(error), _line(error))
        try:
            return method(*arguments, **options)
        except DBAPIError as error:
            if (line := lost(error)) is None:
                raise
            raise StoreError(line) from error

    return call
