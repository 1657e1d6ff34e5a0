"""What the agent sees of a child from outside, whatever the child says of itself."""

import os
from typing import Any, Dict, NamedTuple, Optional

from vitsearch_agent.base import json_reader
from vitsearch_agent.measure.child.process_usage import peak_rss_mb


class Seen(NamedTuple):
    """From `start_s` to `end_s` of the monotonic clock the child was there; `cpu_s` is the CPU time of all that it
    started, `peak_mb` the largest peak of its resident memory that was read meanwhile (None: unknown)."""

    start_s: float
    end_s: float
    cpu_s: float
    peak_mb: Optional[float]

    @property
    def wall_s(self) -> float:
        return self.end_s - self.start_s

    def to_json(self) -> Dict[str, Any]:
        return dict(self._asdict())

    @classmethod
    def from_json(cls, value: Any, where: str = "seen") -> "Seen":
        return cls(**json_reader.read_object(value, _SEEN, where))


_SEEN = {
    "start_s": json_reader.number(),
    "end_s": json_reader.number(),
    "cpu_s": json_reader.number(),
    "peak_mb": json_reader.optional(json_reader.number()),
}


class PeakMemory:
    """The largest peak of a child's memory. It is read again and again: a child may reset what the kernel counts."""

    def __init__(self) -> None:
        self.mb: Optional[float] = None

    def read(self, pid: int) -> None:
        now_mb = peak_rss_mb(f"/proc/{pid}").value_mb  # None of a process that has ended
        if now_mb is not None:
            self.mb = max(now_mb, self.mb or 0.0)


def children_cpu_s() -> float:
    """Return the CPU time of all children that have ended, and of theirs."""
    times = os.times()
    return times.children_user + times.children_system
