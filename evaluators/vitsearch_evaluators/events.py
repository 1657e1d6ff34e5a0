"""What happened to a job, one line after another, for whoever watches it.

    queued -> started {attempt} -> phase {phase} ... -> done | failed | cancelled
       ^                             |-- cooling {until_c, at_most_s}      before a process
       |                             '-- retried {phase, why}              it was throttled
       '------ interrupted {death} <-- (see `deaths`)

`n` grows over all jobs of a device, so `after` a number is never ambiguous, even after a restart.
"""

import json
from typing import Any, Dict, List, Mapping, NamedTuple

from vitsearch_evaluators import strict
from vitsearch_evaluators.canonical import utc_now
from vitsearch_evaluators.database import Database

EVENTS_KEPT = 20000
"""Of all jobs together; older ones are dropped."""

EVENTS_PER_REPLY = 200


class Event(NamedTuple):
    """One thing that happened; `at` is UTC by the device's clock, for display."""

    n: int
    what: str
    at: str
    details: Mapping[str, Any]

    def to_json(self) -> Dict[str, Any]:
        return dict(self._asdict(), details=dict(self.details))

    @classmethod
    def from_json(cls, value: Any, where: str = "event") -> "Event":
        return cls(**strict.read_object(value, _EVENT, where))


_EVENT = {"n": strict.integer(1), "what": strict.text, "at": strict.text, "details": strict.mapping()}


class EventLog:
    """Lives in the queue's database, under the queue's lock."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, job: str, what: str, **details: Any) -> None:
        """Add an event to a job's, and drop the oldest of all jobs beyond EVENTS_KEPT."""
        values = (job, what, utc_now(), json.dumps(details))
        self._database.run("INSERT INTO events (job, what, at, details) VALUES (?, ?, ?, ?)", *values)
        self._database.run("DELETE FROM events WHERE n <= (SELECT MAX(n) FROM events) - ?", EVENTS_KEPT)

    def after(self, job: str, n: int) -> List[Event]:
        """Return the next events of a job, oldest first."""
        query = "SELECT n, what, at, details FROM events WHERE job = ? AND n > ? ORDER BY n LIMIT ?"
        rows = self._database.rows(query, job, n, EVENTS_PER_REPLY)
        return [Event(row["n"], row["what"], row["at"], json.loads(row["details"])) for row in rows]
