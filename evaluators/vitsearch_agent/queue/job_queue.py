"""The queue of the device, kept in SQLite so that jobs survive crashes and reboots.

    queued --claim--> running --finish--> done | failed
      ^                  |--release, interrupted, recover--> queued     stopped, crashed or interrupted
      '--put again--     '--cancel--> cancelled                  (failed, and may be tried again)

Interrupted jobs come before all others. Otherwise owners are served in turn, the least recently served first, and
the jobs of one owner in the order in which they arrived.
"""

import json
import sqlite3
import threading
import time
from typing import Any, Callable, Dict, List, Optional, Sequence, Set, Tuple

from vitsearch_agent.base import processes
from vitsearch_agent.base.canonical_json import digest
from vitsearch_agent.base.interruptions import AGENT, verdict
from vitsearch_agent.config import LimitsConfig
from vitsearch_agent.errors import (
    AgentError,
    JobConflict,
    MeasurementFailed,
    NotFound,
    TooManyRequests,
)
from vitsearch_agent.queue import fairness, job_rows
from vitsearch_agent.queue.event_log import EventLog
from vitsearch_agent.queue.job_table import JobTable
from vitsearch_agent.queue.sqlite import Database
from vitsearch_agent.wire.events import Event
from vitsearch_agent.wire.job_spec import JobSpec, Owner
from vitsearch_agent.wire.job_status import JobStatus, Result


class JobQueue:
    """The jobs and their states. Thread-safe. Times are monotonic, so a jump of the wall clock has no effect.

    If the disk refuses a write, sqlite3.OperationalError is raised and nothing is changed.
    """

    def __init__(
        self,
        path: str,
        limits: LimitsConfig = LimitsConfig(),  # noqa: B008 - immutable
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._changed = threading.Condition(threading.RLock())
        self._limits = limits
        self._clock = clock
        self._queued_at: Dict[str, float] = {}
        self._database = Database(path)
        self._table = JobTable(self._database)
        self._events = EventLog(self._database)
        self.on_cancel_running: Callable[[], None] = lambda: None
        self.on_end: Callable[[JobStatus], None] = lambda status: None

    def close(self) -> None:
        with self._changed:
            self._database.close()

    def check(self) -> None:
        """Raise sqlite3.DatabaseError if a page of the file is damaged, or an index does not fit its table."""
        with self._changed:
            self._database.check()

    def recover(self) -> None:
        """Queue the jobs again that were running when the agent ended, and kill their child processes.

        After a reboot no process is left and none is killed, because the identity of a process includes the boot.
        A job that another version of the agent stored and this one cannot read has failed.
        """
        with self._changed, self._database.transaction():
            for row in self._table.in_state("running"):
                if row["process"]:
                    processes.kill_if_same(processes.ProcessId(*json.loads(row["process"])))
                self._put_back(row, AGENT, {})
            for row in self._table.in_state("queued"):
                if job_rows.is_readable(row):
                    self._queued_at[row["id"]] = self._clock()
                else:
                    self.fail(row["id"], job_rows.OUTDATED)

    def put(
        self,
        identifier: str,
        spec: JobSpec,
        owner: Owner,
        environment: Optional[str] = None,
        asker: Optional[str] = None,
    ) -> Tuple[JobStatus, bool]:
        """Queue a job unless it exists; return its status and whether it is new.

        `asker` is the client that waits for it, which may give it up (`cancel`): by default one with the name of the
        study, which several may have.

        A job that has ended may be queued again (`job_rows.may_run_again`). Raises JobConflict if the id belongs to
        another specification, TooManyRequests if this owner, or all owners together, have too many jobs.
        """
        spec_digest = digest(spec.to_json())
        with self._changed, self._database.transaction():
            row = self._table.row(identifier)
            if row is None:
                self._refuse_too_many(owner)
                self._table.add(identifier, spec, spec_digest, owner, environment)
                self._queue(identifier)
            elif row["spec_digest"] != spec_digest:
                raise JobConflict(f"job {identifier} exists with another specification")
            elif job_rows.may_run_again(row, environment):
                self._table.set(
                    identifier, state="queued", error=None, result=None, study=owner.study,
                    trial=owner.trial, interruptions="[]", environment=environment,
                )  # fmt: skip
                self._queue(identifier)
            elif row["state"] == "queued" and environment is not None:
                self._table.set(identifier, environment=environment)
            status = self.get(identifier)
            if not status.final:
                self._table.ask(identifier, asker or owner.study)
                self._table.set(identifier, cancel=0)  # whoever gave it up before, it is wanted again
            return status, row is None

    def get(self, identifier: str) -> JobStatus:
        """Return the status of a job; NotFound if it is unknown."""
        with self._changed:
            row = self._table.row(identifier)
        if row is None:
            raise NotFound(f"no job {identifier}")
        return job_rows.status_of(row)

    def wait(self, identifier: str, timeout_s: float) -> JobStatus:
        """Return the status as soon as the job is final, or after `timeout_s`."""
        end = self._clock() + timeout_s
        with self._changed:
            while True:
                status = self.get(identifier)
                left = end - self._clock()
                if status.final or left <= 0:
                    return status
                self._changed.wait(left)

    def events(self, identifier: str, after: int, timeout_s: float) -> List[Event]:
        """Return the events after number `after` as soon as there are any; none if the job is final or time is up."""
        end = self._clock() + timeout_s
        with self._changed:
            while True:
                is_final = self.get(identifier).final
                events = self._events.after(identifier, after)
                left = end - self._clock()
                if events or is_final or left <= 0:
                    return events
                self._changed.wait(left)

    def cancel(self, identifier: str, asker: Optional[str] = None) -> JobStatus:
        """Cancel a job that is not final; a running job ends shortly afterwards. With `asker`, it goes on for the other
        clients that wait for it."""
        with self._changed, self._database.transaction():
            status = self.get(identifier)
            if asker is not None and self._table.leave(identifier, asker):
                return status
            if status.state == "queued":
                self._end(identifier, "cancelled")
            elif status.state == "running":
                self._table.set(identifier, cancel=1)
                self.on_cancel_running()
            return self.get(identifier)

    def active(self) -> List[JobStatus]:
        """Return the running job, then the queued ones in the order in which they will be served."""
        with self._changed:
            jobs = self._table.active()
            served = self._table.served()
        return [job_rows.status_of(row) for row in fairness.in_order(jobs, served)]

    def counts(self) -> Tuple[int, int]:
        """Return how many jobs are queued and running."""
        with self._changed:
            states = [row["state"] for row in self._table.active()]
        return states.count("queued"), states.count("running")

    def referenced(self) -> Set[str]:
        """Return the digests of the blobs that jobs still need."""
        with self._changed:
            specs = [job_rows.spec_of(row) for row in self._table.active()]
        return {blob.sha256 for spec in specs for blob in spec.manifest}

    # For the worker.

    def claim(self, timeout_s: float) -> Optional[job_rows.ClaimedJob]:
        """Take the next job, waiting up to `timeout_s` for one; None if there is none."""
        with self._changed:
            row = self._table.next()
            if row is None:
                self._changed.wait(timeout_s)
                row = self._table.next()
            if row is None:
                return None
            attempts = row["attempts"] + 1
            with self._database.transaction():
                self._table.set(row["id"], state="running", attempts=attempts, process=None)
                self._table.serve(row["study"])
                self._report(row["id"], "started", attempt=attempts)
            queued_at = self._queued_at.pop(row["id"], self._clock())
            return job_rows.ClaimedJob(
                row["id"], job_rows.spec_of(row), attempts, self._clock() - queued_at, row["environment"]
            )

    def started(self, identifier: str, phase: str, process: processes.ProcessId) -> None:
        """Store the child process of a phase, so that `recover` can kill it."""
        with self._changed, self._database.transaction():
            self._table.set(identifier, process=json.dumps(list(process)))
            self._report(identifier, "phase", phase=phase)

    def report(self, identifier: str, what: str, **details: Any) -> None:
        """Add an event for the clients that watch the job."""
        with self._changed, self._database.transaction():
            self._report(identifier, what, **details)

    def finish(self, identifier: str, result: Result) -> None:
        """Store the result of a job."""
        self._end(identifier, "done", result=json.dumps(result.to_json()))

    def flag(self, identifiers: Sequence[str], flag: str) -> None:
        """Add a flag to stored results."""
        with self._changed, self._database.transaction():
            for identifier in identifiers:
                row = self._table.row(identifier)
                if row is None or not row["result"]:
                    continue
                result = json.loads(row["result"])
                if flag not in result["flags"]:
                    result["flags"].append(flag)
                    self._table.set(identifier, result=json.dumps(result))

    def fail(self, identifier: str, error: AgentError) -> None:
        """Store the error of a job; after a transient error the job may be submitted again."""
        self._end(identifier, "failed", error=json.dumps(error.to_json()))

    def interrupted(self, identifier: str, cause: str, details: Dict[str, Any]) -> None:
        """Queue a job in front again after an attempt that gave no answer, or fail it (see `verdict`)."""
        with self._changed, self._database.transaction():
            row = self._table.row(identifier)
            if row is not None:
                self._put_back(row, cause, details)

    def release(self, identifier: str) -> None:
        """End a job whose child was killed on purpose: cancelled if a client asked for it, else queued again."""
        with self._changed, self._database.transaction():
            row = self._table.row(identifier)
            if row is not None and row["cancel"]:
                self._end(identifier, "cancelled")
            else:
                self._table.set(identifier, state="queued", process=None)
                self._queue(identifier)

    def wake(self) -> None:
        """Wake up `claim` and `wait` to check again."""
        with self._changed:
            self._changed.notify_all()

    def _put_back(self, row: sqlite3.Row, cause: str, details: Dict[str, Any]) -> None:
        causes = json.loads(row["interruptions"]) + [cause]
        failure = verdict(causes, self._limits.interruptions_max)
        if row["cancel"]:
            self._end(row["id"], "cancelled")
        elif failure is not None:
            self._table.set(row["id"], interruptions=json.dumps(causes))
            self.fail(row["id"], MeasurementFailed(failure.kind, failure.message, dict(details, **failure.details)))
        else:
            self._table.set(row["id"], state="queued", process=None, interruptions=json.dumps(causes))
            self._report(row["id"], "interrupted", cause=cause)
            self._queue(row["id"])

    def _queue(self, identifier: str) -> None:
        self._queued_at[identifier] = self._clock()
        self._report(identifier, "queued")

    def _refuse_too_many(self, owner: Owner) -> None:
        of_owner, of_all = self._table.count_queued(owner.study)
        for subject, queued, most in (
            (f"study {owner.study!r} has", of_owner, self._limits.queued_per_owner),
            ("all studies have", of_all, self._limits.queued_total),
        ):
            if queued >= most:
                message = f"{subject} {queued} jobs in the queue; the limit is {most}"
                raise TooManyRequests(message, {"retry_after_s": 5})

    def _end(self, identifier: str, state: str, **columns: Any) -> None:
        with self._changed, self._database.transaction():
            self._table.set(identifier, state=state, process=None, **columns)
            self._table.forget_askers(identifier)
            self._report(identifier, state)
            status = self.get(identifier)
        self._queued_at.pop(identifier, None)
        self.on_end(status)

    def _report(self, identifier: str, what: str, **details: Any) -> None:
        self._events.add(identifier, what, **details)
        self._changed.notify_all()
