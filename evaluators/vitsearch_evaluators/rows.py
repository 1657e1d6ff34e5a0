"""What a row of the table of jobs means."""

import json
import sqlite3
from typing import NamedTuple, Optional

from vitsearch_evaluators.jobspec import JobSpec, Owner
from vitsearch_evaluators.records import RESULTS, JobStatus


class ClaimedJob(NamedTuple):
    """A job that is now running; `queue_s` counts from when this process queued it.

    `environment` is the only one in which the client wants it measured, None when any will do.
    """

    id: str
    spec: JobSpec
    attempts: int
    queue_s: float
    environment: Optional[str]


def spec_of(row: sqlite3.Row) -> JobSpec:
    return JobSpec.from_json(json.loads(row["spec"]))


def status_of(row: sqlite3.Row) -> JobStatus:
    kind = json.loads(row["spec"])["kind"]
    return JobStatus(
        id=row["id"],
        state=row["state"],
        owner=Owner(row["study"], row["trial"]),
        attempts=row["attempts"],
        error=json.loads(row["error"]) if row["error"] else None,
        result=RESULTS[kind](json.loads(row["result"]), kind) if row["result"] else None,
        kind=kind,
    )


def may_begin_again(row: sqlite3.Row, environment: Optional[str]) -> bool:
    """Whether a job that is put again is queued again, wanted in this environment (None: in any).

    So it is when it was cancelled or failed for a passing reason, and when what came of it, good or bad,
    came of another environment than the wanted one.
    """
    if row["state"] == "cancelled":
        return True
    if row["state"] == "failed":
        is_passing = bool(json.loads(row["error"]).get("retryable"))
        return is_passing or (environment is not None and row["environment"] not in (None, environment))
    if row["state"] == "done" and environment is not None:
        return bool(json.loads(row["result"])["environment_id"] != environment)
    return False
