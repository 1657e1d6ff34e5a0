"""Where the children of a job work, and how what they report is found and read."""

import functools
from typing import Any, Callable, Dict, Mapping, NamedTuple, Optional, TypeVar

from vitsearch_evaluators.base.processes import ProcessId
from vitsearch_evaluators.errors import InvalidRequest, MeasurementFailed
from vitsearch_evaluators.measure.child_process import StopSignal, run_child
from vitsearch_evaluators.measure.launch import THIS_PYTHON, Launch
from vitsearch_evaluators.measure.memory_limit import NO_MEMORY_LIMIT, MemoryLimit

Report = TypeVar("Report")


class JobFolder(NamedTuple):
    """Where a job works: its private folder, what stops it, who hears of its processes, with what they start and
    what holds them."""

    folder: str
    stop: StopSignal
    on_start: Optional[Callable[[str, ProcessId], None]] = None
    launch: Launch = THIS_PYTHON
    memory_limit: MemoryLimit = NO_MEMORY_LIMIT

    def run(self, phase: str, job: Mapping[str, Any], limit_s: float) -> Dict[str, Any]:
        """Run a child; raises what `run_child` does."""
        on_start = None if self.on_start is None else functools.partial(self.on_start, phase)
        complete = dict(job, **self.launch.to_job(), **self.memory_limit.for_child())
        return run_child(complete, self.folder, limit_s, self.stop, on_start, self.launch.python)


def answer_file_name(environment_id: str, name: str) -> str:
    """Return the file of an answer. What was measured before an update is not found after it."""
    return f"answer-{environment_id[:16]}-{name}.json"


def parse_report(answer: Mapping[str, Any], read: Callable[[Any], Report]) -> Report:
    """Return a child's report; MeasurementFailed `protocol` for what is none."""
    try:
        return read(answer.get("report"))
    except InvalidRequest as error:
        raise MeasurementFailed("protocol", f"the child's answer: {error}") from error
