"""Where the children of a job work."""

import functools
from typing import Any, Callable, Dict, Mapping, NamedTuple, Optional

from vitsearch_evaluators.child import StopSignal, run_child
from vitsearch_evaluators.confinement import UNCONFINED, Confinement
from vitsearch_evaluators.launch import THIS_PYTHON, Launch
from vitsearch_evaluators.procs import ProcessId


class Bench(NamedTuple):
    """Where a job works: its private folder, what stops it, who hears of its processes, with what they start and
    what holds them."""

    folder: str
    stop: StopSignal
    on_start: Optional[Callable[[str, ProcessId], None]] = None
    launch: Launch = THIS_PYTHON
    confinement: Confinement = UNCONFINED

    def run(self, phase: str, job: Mapping[str, Any], limit_s: float) -> Dict[str, Any]:
        """Run a child; raises what `run_child` does."""
        on_start = None if self.on_start is None else functools.partial(self.on_start, phase)
        complete = dict(job, **self.launch.to_job(), **self.confinement.for_child())
        return run_child(complete, self.folder, limit_s, self.stop, on_start, self.launch.python)
