"""The subject of a measuring process: a model file, its runtime, options and protocol."""

from typing import Any, Dict, Mapping, NamedTuple, Tuple

from vitsearch_evaluators.errors import MeasurementFailed
from vitsearch_evaluators.measure.child.timed_loop import Clocks
from vitsearch_evaluators.runtimes.base import Runtime, Session
from vitsearch_evaluators.wire.job_spec import MeasureProtocol


class Subject(NamedTuple):
    """A model file to measure with an available runtime; `options` are all options in effect."""

    runtime: Runtime
    version: str
    path: str
    options: Dict[str, Any]
    protocol: MeasureProtocol

    def load(self) -> Session:
        protocol = self.protocol
        return self.runtime.load(self.path, self.options, protocol.threads, protocol.batch, protocol.shapes)


def make_subject(runtime: Runtime, path: str, options: Mapping[str, Any], protocol: MeasureProtocol) -> Subject:
    """Check the options and import the runtime; MeasurementFailed when the runtime is not available."""
    effective = runtime.check_options(options)
    state = runtime.available()
    if not state.available:
        raise MeasurementFailed("runtime_unavailable", str(state.reason))
    return Subject(runtime, str(state.version), path, effective, protocol)


def stay_idle(seconds: float, clocks: Clocks) -> Tuple[float, float]:
    """Do nothing for `seconds`; return the start and the end on the monotonic clock."""
    start = clocks.monotonic()
    clocks.sleep(seconds)
    return start, clocks.monotonic()
