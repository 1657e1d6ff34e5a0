"""A runtime that computes nothing: it keeps the processor busy for as long as it is told.

For tests, for measuring the agent's own overhead, and for machines without any real runtime.
"""

import time
from typing import Any, Dict, Mapping

from vitsearch_evaluators import strict
from vitsearch_evaluators.errors import InvalidRequest
from vitsearch_evaluators.runtimes.base import Availability, Runtime, Session

_BUSY_US_DEFAULT = 200
_read_busy_us = strict.integer(0, 10**6)


class NoopSession(Session):
    def __init__(self, busy_us: int) -> None:
        self._busy_s = busy_us / 1e6

    def run(self) -> None:
        # CPU time, not wall time: like a model, a run costs the same when others disturb it.
        end = time.process_time() + self._busy_s
        while time.process_time() < end:
            pass

    def close(self) -> None:
        pass


class NoopRuntime(Runtime):
    """Options: `busy_us`, the CPU time of a run in microseconds."""

    name = "noop"

    def check_options(self, options: Mapping[str, Any]) -> Dict[str, Any]:
        unknown = sorted(set(options) - {"busy_us"})
        if unknown:
            raise InvalidRequest(f"options.{unknown[0]}: noop has no such option; it has busy_us")
        busy_us = options.get("busy_us", _BUSY_US_DEFAULT)
        return {"busy_us": _read_busy_us(busy_us, "options.busy_us")}

    def available(self) -> Availability:
        return Availability(True, None, "1", ())

    def load(self, path: str, options: Mapping[str, Any], threads: int, batch: int) -> Session:
        with open(path, "rb") as stream:
            stream.read()
        return NoopSession(options["busy_us"])
