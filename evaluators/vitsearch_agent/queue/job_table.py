"""The queue's tables in SQL: the jobs, who waits for them, and when each owner was last served. `job_rows` converts the
rows."""

import json
import sqlite3
from typing import Any, Dict, List, Optional, Tuple

from vitsearch_agent.queue import fairness
from vitsearch_agent.queue.sqlite import Database
from vitsearch_agent.wire.job_spec import JobSpec, Owner
from vitsearch_agent.wire.job_status import FINAL_STATES

FINAL_JOBS_KEPT = 5000

_INSERT = """
INSERT INTO jobs (id, spec, spec_digest, study, trial, state, environment) VALUES (?, ?, ?, ?, ?, 'queued', ?)
"""
_ACTIVE = f"SELECT * FROM jobs WHERE state NOT IN {FINAL_STATES} ORDER BY seq"
_REMOVE_FINAL = f"DELETE FROM jobs WHERE state IN {FINAL_STATES} AND seq <= (SELECT MAX(seq) FROM jobs) - ?"
_REMOVE_OWNERS = "DELETE FROM owners WHERE study NOT IN (SELECT study FROM jobs)"
_QUEUED = "SELECT COUNT(*) AS of_all, COALESCE(SUM(study = ?), 0) AS of_owner FROM jobs WHERE state = 'queued'"
_SERVE = """
INSERT OR REPLACE INTO owners (study, served) VALUES (?, (SELECT COALESCE(MAX(served), 0) + 1 FROM owners))
"""


class JobTable:
    """The tables; the caller holds the queue's lock. sqlite3.OperationalError if the disk refuses a write."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def row(self, identifier: str) -> Optional[sqlite3.Row]:
        """Return a job, None if it is unknown."""
        return _first(self._database.rows("SELECT * FROM jobs WHERE id = ?", identifier))

    def next(self) -> Optional[sqlite3.Row]:
        """Return the queued job that is served next, None if there is none."""
        return _first(self._database.rows(fairness.NEXT))

    def in_state(self, state: str) -> List[sqlite3.Row]:
        return self._database.rows("SELECT * FROM jobs WHERE state = ? ORDER BY seq", state)

    def active(self) -> List[sqlite3.Row]:
        """Return all jobs that are not final, oldest first."""
        return self._database.rows(_ACTIVE)

    def count_queued(self, study: str) -> Tuple[int, int]:
        """Return how many jobs this owner has in the queue, and how many all have."""
        (row,) = self._database.rows(_QUEUED, study)
        return row["of_owner"], row["of_all"]

    def add(self, identifier: str, spec: JobSpec, spec_digest: str, owner: Owner, environment: Optional[str]) -> None:
        """Add a queued job; remove final jobs beyond the last FINAL_JOBS_KEPT, and owners without jobs."""
        text = json.dumps(spec.to_json())
        self._database.run(_INSERT, identifier, text, spec_digest, owner.study, owner.trial, environment)
        self._database.run(_REMOVE_FINAL, FINAL_JOBS_KEPT)
        self._database.run(_REMOVE_OWNERS)

    def ask(self, identifier: str, asker: str) -> None:
        """Note that a client waits for a job."""
        self._database.run("INSERT OR IGNORE INTO waiting_clients (job, asker) VALUES (?, ?)", identifier, asker)

    def leave(self, identifier: str, asker: str) -> bool:
        """Note that a client waits for a job no longer; return whether another one does."""
        self._database.run("DELETE FROM waiting_clients WHERE job = ? AND asker = ?", identifier, asker)
        return bool(self._database.rows("SELECT 1 FROM waiting_clients WHERE job = ? LIMIT 1", identifier))

    def forget_askers(self, identifier: str) -> None:
        """Note that a job has ended."""
        self._database.run("DELETE FROM waiting_clients WHERE job = ?", identifier)

    def set(self, identifier: str, **columns: Any) -> None:
        """Change some columns of a job."""
        assignments = ", ".join(f"{column} = ?" for column in columns)
        self._database.run(f"UPDATE jobs SET {assignments} WHERE id = ?", *columns.values(), identifier)

    def served(self) -> Dict[str, int]:
        """Return when each owner was last served, as increasing numbers."""
        return {row["study"]: row["served"] for row in self._database.rows("SELECT study, served FROM owners")}

    def serve(self, study: str) -> None:
        """Mark an owner as served last."""
        self._database.run(_SERVE, study)


def _first(rows: List[sqlite3.Row]) -> Optional[sqlite3.Row]:
    return rows[0] if rows else None
