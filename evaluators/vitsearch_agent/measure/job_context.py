"""The context of a job: device, environment, attempt and time, as its result records them."""

import time
from typing import Any, Dict, NamedTuple, Optional

from vitsearch_agent import runtimes
from vitsearch_agent.base.canonical_json import utc_now
from vitsearch_agent.errors import EnvironmentChanged
from vitsearch_agent.measure.seen import children_cpu_s
from vitsearch_agent.wire.job_spec import JobSpec


class JobContext(NamedTuple):
    """The part of a result that is known before the job starts.

    `slowdown` is the factor of an emulated device (1 where its instructions are translated, or the
    processor of the runtime is imitated), None for a physical one. `runtime_version` is that of the environment, None
    where it is unknown.
    """

    job_id: str
    device_id: str
    environment_id: str
    attempts: int
    queue_s: float
    slowdown: Optional[float] = None
    runtime_version: Optional[str] = None

    def of_job(self, spec: JobSpec) -> "JobContext":
        """Return the context of a job: its device is emulated, too, where its runtime imitates what computes."""
        runtime = runtimes.create(spec.runtime)
        if self.slowdown is None and runtime.emulates(runtime.check_options(spec.options)):
            return self._replace(slowdown=1.0)
        return self

    def refuse_version(self, runtime: str, version: Optional[str]) -> None:
        """Raise EnvironmentChanged if a process ran another `version` of the runtime (None: it ran none of it)."""
        if None not in (version, self.runtime_version) and version != self.runtime_version:
            raise EnvironmentChanged(
                f"a process ran {runtime} {version}, the environment has {self.runtime_version}: it was upgraded",
                {"wanted": self.environment_id},
            )

    def start(self) -> "StartedJob":
        """Start the clock of the job."""
        return StartedJob(self, time.monotonic(), children_cpu_s(), utc_now())


class StartedJob(NamedTuple):
    """A running job; `start_s` is monotonic, `start_cpu_s` that of the processes so far, `started_at` is UTC."""

    context: JobContext
    start_s: float
    start_cpu_s: float
    started_at: str

    def fields(self) -> Dict[str, Any]:
        """Return the fields that every result has (`result_fields`), with the seconds up to now."""
        context = self.context
        return {
            "job_id": context.job_id,
            "device_id": context.device_id,
            "environment_id": context.environment_id,
            "attempts": context.attempts,
            "queue_s": context.queue_s,
            "seconds": time.monotonic() - self.start_s,
            "cpu_seconds": max(0.0, children_cpu_s() - self.start_cpu_s),
            "emulated": context.slowdown is not None,
            "started_at": self.started_at,
        }
