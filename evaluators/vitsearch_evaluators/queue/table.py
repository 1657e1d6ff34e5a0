"""The queue's two tables, in SQL: the jobs, and when each owner was last served. See `rows` for what a row means."""

import json
import sqlite3
from typing import Any, Dict, List, Optional, Tuple

from vitsearch_evaluators.queue import fairness
from vitsearch_evaluators.queue.sqlite import Database
from vitsearch_evaluators.wire.job_spec import JobSpec, Owner
from vitsearch_evaluators.wire.job_status import FINAL_STATES

FINAL_JOBS_KEPT = 5000

_INSERT = """
INSERT INTO jobs (id, spec, spec_digest, study, trial, state, environment) VALUES (?, ?, ?, ?, ?, 'queued', ?)
"""
_ACTIVE = f"SELECT * FROM jobs WHERE state NOT IN {FINAL_STATES} ORDER BY seq"
_FORGET = f"DELETE FROM jobs WHERE state IN {FINAL_STATES} AND seq <= (SELECT MAX(seq) FROM jobs) - ?"
_FORGET_OWNERS = "DELETE FROM owners WHERE study NOT IN (SELECT study FROM jobs)"
_QUEUED = "SELECT COUNT(*) AS of_all, COALESCE(SUM(study = ?), 0) AS mine FROM jobs WHERE state = 'queued'"
_SERVE = """
INSERT OR REPLACE INTO owners (study, served) VALUES (?, (SELECT COALESCE(MAX(served), 0) + 1 FROM owners))
"""


class JobTable:
    """Under the queue's lock, as the database is. A write that the disk refuses raises sqlite3.OperationalError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def row(self, identifier: str) -> Optional[sqlite3.Row]:
        """Return a job, None when it is unknown."""
        return _first(self._database.rows("SELECT * FROM jobs WHERE id = ?", identifier))

    def next(self) -> Optional[sqlite3.Row]:
        """Return the queued job whose turn it is."""
        return _first(self._database.rows(fairness.NEXT))

    def in_state(self, state: str) -> List[sqlite3.Row]:
        return self._database.rows("SELECT * FROM jobs WHERE state = ? ORDER BY seq", state)

    def active(self) -> List[sqlite3.Row]:
        """Return all that is not final, oldest first."""
        return self._database.rows(_ACTIVE)

    def count_queued(self, study: str) -> Tuple[int, int]:
        """Return how many jobs this owner has in the queue, and how many all have."""
        (row,) = self._database.rows(_QUEUED, study)
        return row["mine"], row["of_all"]

    def add(self, identifier: str, spec: JobSpec, spec_digest: str, owner: Owner, environment: Optional[str]) -> None:
        """Add a queued job, and forget those that are final and not among the last 5,000, and owners of none."""
        text = json.dumps(spec.to_json())
        self._database.run(_INSERT, identifier, text, spec_digest, owner.study, owner.trial, environment)
        self._database.run(_FORGET, FINAL_JOBS_KEPT)
        self._database.run(_FORGET_OWNERS)

    def set(self, identifier: str, **columns: Any) -> None:
        """Change some columns of a job."""
        assignments = ", ".join(f"{column} = ?" for column in columns)
        self._database.run(f"UPDATE jobs SET {assignments} WHERE id = ?", *columns.values(), identifier)

    def served(self) -> Dict[str, int]:
        """Return when each owner was served, as numbers that grow."""
        return {row["study"]: row["served"] for row in self._database.rows("SELECT study, served FROM owners")}

    def serve(self, study: str) -> None:
        """Put an owner behind all others."""
        self._database.run(_SERVE, study)


def _first(rows: List[sqlite3.Row]) -> Optional[sqlite3.Row]:
    return rows[0] if rows else None
