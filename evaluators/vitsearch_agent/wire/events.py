"""The events of a job, for clients that watch it.

    queued -> started {attempt} -> phase {phase} ... -> done | failed | cancelled
       ^                             |-- waiting {pid, measures}           another process measures on this machine
       |                             |-- cooling {until_c, at_most_s}      before a process
       |                             '-- retried {phase, why}              the process was throttled
       '------ interrupted {cause} <-- (see `base.interruptions`)

`n` increases over all jobs of a device, so "after event N" is unambiguous, even after a restart.
"""

from typing import Any, Dict, Mapping, NamedTuple

from vitsearch_agent.base import json_reader


class Event(NamedTuple):
    """One event; `at` is UTC by the device's clock, for display only."""

    n: int
    what: str
    at: str
    details: Mapping[str, Any]

    def to_json(self) -> Dict[str, Any]:
        return dict(self._asdict(), details=dict(self.details))

    @classmethod
    def from_json(cls, value: Any, where: str = "event") -> "Event":
        return cls(**json_reader.read_object(value, _EVENT, where))


_EVENT = {
    "n": json_reader.integer(1),
    "what": json_reader.text,
    "at": json_reader.text,
    "details": json_reader.mapping(),
}
