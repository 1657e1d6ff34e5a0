"""What a row of the table of jobs means."""

import json
import sqlite3
from typing import NamedTuple, Optional

from vitsearch_evaluators.errors import EvaluatorError, InvalidRequest
from vitsearch_evaluators.wire.job_spec import JobSpec, Owner
from vitsearch_evaluators.wire.job_status import RESULTS, JobStatus

OUTDATED = EvaluatorError("outdated", "it was kept by another version of the agent: submit it again", transient=True)


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
    """Return how a job stands. One whose result another version of the agent wrote, and this one cannot read, has
    failed and may be tried again."""
    kind, state = json.loads(row["spec"])["kind"], row["state"]
    error = json.loads(row["error"]) if row["error"] else None
    result = None
    try:
        result = RESULTS[kind](json.loads(row["result"]), kind) if row["result"] else None
    except InvalidRequest:
        state, error = "failed", OUTDATED.to_json()
    return JobStatus(
        id=row["id"],
        state=state,
        owner=Owner(row["study"], row["trial"]),
        attempts=row["attempts"],
        error=error,
        result=result,
        kind=kind,
    )


def is_readable(row: sqlite3.Row) -> bool:
    """Whether this agent can do what another version of it was asked for."""
    try:
        spec_of(row)
    except InvalidRequest:
        return False
    return True


def may_begin_again(row: sqlite3.Row, environment: Optional[str]) -> bool:
    """Whether a job that is put again is queued again, wanted in this environment (None: in any).

    So it is when it was cancelled or failed for a passing reason, and when what came of it, good or bad,
    came of another environment than the wanted one.
    """
    status = status_of(row)
    if status.state == "cancelled":
        return True
    if status.error is not None:
        is_passing = bool(status.error.get("retryable"))
        return is_passing or (environment is not None and row["environment"] not in (None, environment))
    if status.result is not None and environment is not None:
        return status.result.environment_id != environment
    return False
