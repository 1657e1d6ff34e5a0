"""The agent's SQLite file. Not thread-safe: `job_queue.JobQueue` holds its lock around every call.

Devices may have SQLite 3.22, which knows neither UPSERT nor RETURNING.
"""

import contextlib
import sqlite3
from typing import Any, Iterator, List

_SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    spec TEXT NOT NULL,
    spec_digest TEXT NOT NULL,
    study TEXT NOT NULL,
    trial INTEGER,
    state TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    cancel INTEGER NOT NULL DEFAULT 0,
    process TEXT,
    error TEXT,
    result TEXT,
    interruptions TEXT NOT NULL DEFAULT '[]',  -- a JSON list of causes: see `base.interruptions`
    environment TEXT  -- the only environment in which the client wants it measured, or NULL
);
CREATE INDEX IF NOT EXISTS jobs_by_state ON jobs (state, study);
CREATE TABLE IF NOT EXISTS owners (study TEXT PRIMARY KEY, served INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS waiting_clients (  -- of the jobs that are not final
    job TEXT NOT NULL,
    asker TEXT NOT NULL,
    PRIMARY KEY (job, asker)
);
CREATE TABLE IF NOT EXISTS events (
    n INTEGER PRIMARY KEY AUTOINCREMENT,
    job TEXT NOT NULL,
    what TEXT NOT NULL,
    at TEXT NOT NULL,
    details TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS events_by_job ON events (job, n);
"""


class Database:
    """The open file. Every write is on the disk when its transaction ends."""

    def __init__(self, path: str) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._connection.row_factory = sqlite3.Row
        self._depth = 0
        try:
            self.run("PRAGMA journal_mode=WAL")
            self.run("PRAGMA synchronous=FULL")
            self.run("PRAGMA cache_size=-256")  # KiB; the default of 2,000 is much for an agent with 30 MB
            self._connection.executescript(_SCHEMA)
        except BaseException:
            self._connection.close()
            raise

    def close(self) -> None:
        self._connection.close()

    def check(self) -> None:
        """Read the whole file; sqlite3.DatabaseError if it is damaged. A queue of 25 MB takes 0.04 s of a PC's CPU."""
        (verdict,) = self.rows("PRAGMA integrity_check(1)")
        if verdict[0] != "ok":
            raise sqlite3.DatabaseError(verdict[0])

    def rows(self, query: str, *values: Any) -> List[sqlite3.Row]:
        return self._connection.execute(query, values).fetchall()

    def run(self, statement: str, *values: Any) -> None:
        self._connection.execute(statement, values)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Make all writes in the block or none, with one wait for the disk; nested transactions join the outer one."""
        if self._depth == 0:
            self.run("BEGIN IMMEDIATE")
        self._depth += 1
        try:
            yield
            if self._depth == 1:
                self.run("COMMIT")
        except BaseException:
            if self._depth == 1 and self._connection.in_transaction:
                self.run("ROLLBACK")
            raise
        finally:
            self._depth -= 1
