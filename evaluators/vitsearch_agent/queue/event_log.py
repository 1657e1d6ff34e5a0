"""The events of all jobs, in the queue's database. `wire.events` describes the events."""

import json
from typing import Any, List

from vitsearch_agent.base.canonical_json import utc_now
from vitsearch_agent.queue.sqlite import Database
from vitsearch_agent.wire.events import Event

EVENTS_KEPT = 20000
"""Number of events kept for all jobs together; older ones are removed."""

EVENTS_PER_REPLY = 200


class EventLog:
    """The table of events; the caller holds the queue's lock."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, job: str, what: str, **details: Any) -> None:
        """Add an event of a job, and remove the oldest events of all jobs beyond EVENTS_KEPT."""
        values = (job, what, utc_now(), json.dumps(details))
        self._database.run("INSERT INTO events (job, what, at, details) VALUES (?, ?, ?, ?)", *values)
        self._database.run("DELETE FROM events WHERE n <= (SELECT MAX(n) FROM events) - ?", EVENTS_KEPT)

    def after(self, job: str, n: int) -> List[Event]:
        """Return the next events of a job after number `n`, oldest first, at most EVENTS_PER_REPLY."""
        query = "SELECT n, what, at, details FROM events WHERE job = ? AND n > ? ORDER BY n LIMIT ?"
        rows = self._database.rows(query, job, n, EVENTS_PER_REPLY)
        return [Event(row["n"], row["what"], row["at"], json.loads(row["details"])) for row in rows]
