"""Where and how a job is done, and what its result says of that."""

import time
from typing import Any, Dict, NamedTuple, Optional

from vitsearch_evaluators.base.canonical_json import utc_now


class Conditions(NamedTuple):
    """What a measurement says about where and how it was taken, known before it starts.

    `slowdown` is that of an emulated device, None for a real one.
    """

    job_id: str
    device_id: str
    environment_id: str
    attempts: int
    queue_s: float
    slowdown: Optional[float] = None

    def begin(self) -> "Begun":
        """Start the clock of the job."""
        return Begun(self, time.monotonic(), utc_now())


class Begun(NamedTuple):
    """A job that is being done since `start_s`, monotonic."""

    conditions: Conditions
    start_s: float
    started_at: str

    def fields(self) -> Dict[str, Any]:
        """Return what every result says of the work up to now (`result_fields`)."""
        conditions = self.conditions
        return {
            "job_id": conditions.job_id,
            "device_id": conditions.device_id,
            "environment_id": conditions.environment_id,
            "attempts": conditions.attempts,
            "queue_s": conditions.queue_s,
            "seconds": time.monotonic() - self.start_s,
            "emulated": conditions.slowdown is not None,
            "started_at": self.started_at,
        }
