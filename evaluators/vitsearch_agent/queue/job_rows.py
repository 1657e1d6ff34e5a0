"""Conversion of rows of the table of jobs to values, and the rule for running a job again."""

import json
import sqlite3
from typing import NamedTuple, Optional

from vitsearch_agent.errors import AgentError, InvalidRequest
from vitsearch_agent.wire.job_spec import JobSpec, Owner
from vitsearch_agent.wire.job_status import RESULTS, JobStatus

OUTDATED = AgentError("outdated", "another version of the agent stored this job: submit it again", transient=True)


class ClaimedJob(NamedTuple):
    """A job that is now running; `queue_s` is the time since this process queued it.

    `environment` is the only environment in which the client wants it measured, None for any.
    """

    id: str
    spec: JobSpec
    attempts: int
    queue_s: float
    environment: Optional[str]


def spec_of(row: sqlite3.Row) -> JobSpec:
    return JobSpec.from_json(json.loads(row["spec"]))


def status_of(row: sqlite3.Row) -> JobStatus:
    """Return the status of a job. If another version of the agent stored its result and this one cannot read it,
    the job has failed and may be run again."""
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
    """Whether this agent can read the specification, which another version of the agent may have stored."""
    try:
        spec_of(row)
    except InvalidRequest:
        return False
    return True


def may_run_again(row: sqlite3.Row, environment: Optional[str]) -> bool:
    """Whether a job is queued again if a client submits it again for `environment` (None: any).

    It is if it was cancelled, if it failed with a transient error, and if its result or error is from another
    environment than the wanted one.
    """
    status = status_of(row)
    if status.state == "cancelled":
        return True
    if status.error is not None:
        is_transient = bool(status.error.get("retryable"))
        return is_transient or (environment is not None and row["environment"] not in (None, environment))
    if status.result is not None and environment is not None:
        return status.result.environment_id != environment
    return False
