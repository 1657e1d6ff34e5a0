"""The queue of the device, kept in SQLite so that neither a crash nor a reboot forgets a job.

    queued --claim--> running --finish--> done | failed
      ^                  |--release, recover--> queued        agent stopped or killed
      '--put again--     '--cancel--> cancelled               (failed, and may be tried again)

Owners are served in turn (who was served longest ago comes first), first come first served within
an owner, and jobs that were interrupted come before all others.
"""

import json
import sqlite3
import threading
import time
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Set, Tuple

from vitsearch_evaluators import procs
from vitsearch_evaluators.canonical import digest
from vitsearch_evaluators.errors import (
    DeviceBusy,
    EvaluatorError,
    JobConflict,
    MeasurementFailed,
    NotFound,
)
from vitsearch_evaluators.jobspec import JobSpec, Owner
from vitsearch_evaluators.records import FINAL_STATES, JobStatus, Measurement

INTERRUPTIONS_MAX = 2
"""A job that was running when the agent died twice probably killed it."""

QUEUED_PER_OWNER_MAX = 64
FINAL_JOBS_KEPT = 5000

# Boards have SQLite 3.22: no UPSERT, no RETURNING.
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
    interruptions INTEGER NOT NULL DEFAULT 0,
    cancel INTEGER NOT NULL DEFAULT 0,
    process TEXT,
    error TEXT,
    result TEXT
);
CREATE INDEX IF NOT EXISTS jobs_by_state ON jobs (state, study);
CREATE TABLE IF NOT EXISTS owners (study TEXT PRIMARY KEY, served INTEGER NOT NULL);
"""
_NEXT = """
SELECT jobs.* FROM jobs LEFT JOIN owners ON owners.study = jobs.study
WHERE state = 'queued'
ORDER BY interruptions > 0 DESC, COALESCE(owners.served, 0), seq LIMIT 1
"""


class ClaimedJob(NamedTuple):
    """A job that is now running; `queue_s` counts from when this process queued it."""

    id: str
    spec: JobSpec
    attempts: int
    queue_s: float


class JobQueue:
    """Thread-safe. Times are monotonic: a clock that jumps changes nothing."""

    def __init__(self, path: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._changed = threading.Condition(threading.RLock())
        self._clock = clock
        self._queued_at: Dict[str, float] = {}
        self._database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._database.row_factory = sqlite3.Row
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute("PRAGMA synchronous=FULL")
        self._database.executescript(_SCHEMA)
        self.on_cancel_running: Callable[[], None] = lambda: None

    def close(self) -> None:
        with self._changed:
            self._database.close()

    def recover(self) -> None:
        """Put jobs of an earlier life of the agent back, and kill what they left running."""
        with self._changed:
            for row in self._rows("SELECT * FROM jobs WHERE state = 'running'"):
                if row["process"]:
                    procs.kill_if_same(procs.ProcessId(*json.loads(row["process"])))
                interruptions = row["interruptions"] + 1
                if row["cancel"]:
                    self._set(row["id"], state="cancelled")
                elif interruptions >= INTERRUPTIONS_MAX:
                    failure = MeasurementFailed("interrupted", f"the agent died {interruptions} times during this job")
                    self._set(row["id"], state="failed", error=json.dumps(failure.to_json()))
                else:
                    self._set(row["id"], state="queued", interruptions=interruptions)
            for row in self._rows("SELECT id FROM jobs WHERE state = 'queued'"):
                self._queued_at[row["id"]] = self._clock()
            self._database.execute(
                "DELETE FROM jobs WHERE state IN ('done', 'failed', 'cancelled') AND seq <= "
                "(SELECT MAX(seq) FROM jobs) - ?",
                (FINAL_JOBS_KEPT,),
            )

    def put(self, identifier: str, spec: JobSpec, owner: Owner) -> Tuple[JobStatus, bool]:
        """Queue a job, or find it; return its status and whether it is new.

        A job that failed for a passing reason or was cancelled is queued again. Raises
        JobConflict when the id belongs to another specification, DeviceBusy when the owner has
        too many jobs.
        """
        spec_digest = digest(spec.to_json())
        with self._changed:
            row = self._row(identifier)
            if row is not None:
                if row["spec_digest"] != spec_digest:
                    raise JobConflict(f"job {identifier} exists with another specification")
                if row["state"] == "cancelled" or _failed_for_now(row):
                    self._set(
                        identifier, state="queued", cancel=0, error=None, study=owner.study,
                        trial=owner.trial, interruptions=0,
                    )  # fmt: skip
                    self._queued_at[identifier] = self._clock()
                    self._changed.notify_all()
                return self.get(identifier), False
            self._refuse_flood(owner)
            self._database.execute(
                "INSERT INTO jobs (id, spec, spec_digest, study, trial, state) VALUES (?, ?, ?, ?, ?, 'queued')",
                (identifier, json.dumps(spec.to_json()), spec_digest, owner.study, owner.trial),
            )
            self._queued_at[identifier] = self._clock()
            self._changed.notify_all()
            return self.get(identifier), True

    def get(self, identifier: str) -> JobStatus:
        with self._changed:
            row = self._row(identifier)
        if row is None:
            raise NotFound(f"no job {identifier}")
        return _status(row)

    def wait(self, identifier: str, timeout_s: float) -> JobStatus:
        """Return the status when the job is final, or as it is after `timeout_s`."""
        end = self._clock() + timeout_s
        with self._changed:
            while True:
                status = self.get(identifier)
                left = end - self._clock()
                if status.final or left <= 0:
                    return status
                self._changed.wait(left)

    def cancel(self, identifier: str) -> JobStatus:
        """Cancel a job that is not final; a running one ends shortly after."""
        with self._changed:
            status = self.get(identifier)
            if status.state == "queued":
                self._end(identifier, state="cancelled")
            elif status.state == "running":
                self._set(identifier, cancel=1)
                self.on_cancel_running()
            return self.get(identifier)

    def active(self) -> List[JobStatus]:
        with self._changed:
            return [_status(row) for row in self._rows(_ACTIVE)]

    def counts(self) -> Tuple[int, int]:
        """Return how many jobs are queued and running."""
        states = [status.state for status in self.active()]
        return states.count("queued"), states.count("running")

    def referenced(self) -> Set[str]:
        """Return the digests of the blobs that jobs still need."""
        with self._changed:
            specs = [_spec(row) for row in self._rows(_ACTIVE)]
        return {blob.sha256 for spec in specs for blob in spec.manifest}

    # The worker's side.

    def claim(self, timeout_s: float) -> Optional[ClaimedJob]:
        """Take the next job, waiting for one up to `timeout_s`."""
        with self._changed:
            row = self._first()
            if row is None:
                self._changed.wait(timeout_s)
                row = self._first()
            if row is None:
                return None
            self._set(row["id"], state="running", attempts=row["attempts"] + 1, process=None)
            self._serve(row["study"])
            queued_at = self._queued_at.pop(row["id"], self._clock())
            return ClaimedJob(row["id"], _spec(row), row["attempts"] + 1, self._clock() - queued_at)

    def started(self, identifier: str, process: procs.ProcessId) -> None:
        """Remember the child, for a later life of the agent to kill."""
        with self._changed:
            self._set(identifier, process=json.dumps(list(process)))

    def finish(self, identifier: str, measurement: Measurement) -> None:
        self._end(identifier, state="done", result=json.dumps(measurement.to_json()))

    def fail(self, identifier: str, error: EvaluatorError) -> None:
        self._end(identifier, state="failed", error=json.dumps(error.to_json()))

    def release(self, identifier: str) -> None:
        """After its child was killed on purpose: cancelled, or queued again if nobody asked to."""
        with self._changed:
            row = self._row(identifier)
            if row is not None and row["cancel"]:
                self._end(identifier, state="cancelled")
            else:
                self._queued_at[identifier] = self._clock()
                self._set(identifier, state="queued", process=None)

    def wake(self) -> None:
        """Make `claim` and `wait` look again."""
        with self._changed:
            self._changed.notify_all()

    def _first(self) -> Optional[sqlite3.Row]:
        rows = self._rows(_NEXT)
        return rows[0] if rows else None

    def _serve(self, study: str) -> None:
        self._database.execute(
            "INSERT OR REPLACE INTO owners (study, served) "
            "VALUES (?, (SELECT COALESCE(MAX(served), 0) + 1 FROM owners))",
            (study,),
        )

    def _refuse_flood(self, owner: Owner) -> None:
        query = "SELECT COUNT(*) AS n FROM jobs WHERE state = 'queued' AND study = ?"
        queued = self._rows(query, owner.study)[0]["n"]
        if queued >= QUEUED_PER_OWNER_MAX:
            raise DeviceBusy(
                f"study {owner.study!r} has {queued} jobs in the queue, at most {QUEUED_PER_OWNER_MAX} are taken",
                {"retry_after_s": 5},
            )

    def _end(self, identifier: str, **columns: Any) -> None:
        with self._changed:
            self._set(identifier, process=None, **columns)
            self._queued_at.pop(identifier, None)
            self._changed.notify_all()

    def _set(self, identifier: str, **columns: Any) -> None:
        assignments = ", ".join(f"{column} = ?" for column in columns)
        self._database.execute(f"UPDATE jobs SET {assignments} WHERE id = ?", (*columns.values(), identifier))

    def _row(self, identifier: str) -> Optional[sqlite3.Row]:
        rows = self._rows("SELECT * FROM jobs WHERE id = ?", identifier)
        return rows[0] if rows else None

    def _rows(self, query: str, *values: Any) -> List[sqlite3.Row]:
        return self._database.execute(query, values).fetchall()


_ACTIVE = f"SELECT * FROM jobs WHERE state NOT IN {FINAL_STATES} ORDER BY seq"


def _spec(row: sqlite3.Row) -> JobSpec:
    return JobSpec.from_json(json.loads(row["spec"]))


def _failed_for_now(row: sqlite3.Row) -> bool:
    return row["state"] == "failed" and bool(json.loads(row["error"]).get("retryable"))


def _status(row: sqlite3.Row) -> JobStatus:
    return JobStatus(
        id=row["id"],
        state=row["state"],
        owner=Owner(row["study"], row["trial"]),
        attempts=row["attempts"],
        error=json.loads(row["error"]) if row["error"] else None,
        result=Measurement.from_json(json.loads(row["result"])) if row["result"] else None,
    )
