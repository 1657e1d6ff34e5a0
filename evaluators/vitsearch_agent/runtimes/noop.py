"""A runtime that ignores the model and keeps the CPU busy for a given time or amount of work.

It is for tests, for measuring the agent's own overhead, and for machines without a real runtime.
"""

import hashlib
import time
from typing import Any, Dict, Mapping, Optional

from vitsearch_agent.base import json_reader
from vitsearch_agent.errors import InvalidRequest, MeasurementFailed
from vitsearch_agent.runtimes.base import Availability, Runtime, Session
from vitsearch_agent.wire.device_info import ANY_ARTIFACT
from vitsearch_agent.wire.measure_protocol import Shapes

_BUSY_US_DEFAULT = 200
_read_busy_us = json_reader.integer(0, 10**6)
_read_hash_kib = json_reader.integer(1, 10**6)


class NoopSession(Session):
    def __init__(self, busy_us: int, batch: int) -> None:
        self.batch = batch
        self._busy_s = busy_us / 1e6

    def run(self) -> None:
        # CPU time, not wall time: a run costs the same on a busy machine, as a model does.
        end = time.process_time() + self._busy_s
        while time.process_time() < end:
            pass

    def close(self) -> None:
        pass


class HashSession(Session):
    """A run hashes a fixed amount of data, so a slower device takes longer."""

    def __init__(self, hash_kib: int, batch: int) -> None:
        self.batch = batch
        self._block = bytes(1024)
        self._hash_kib = hash_kib

    def run(self) -> None:
        digest = hashlib.sha256()
        for _ in range(self._hash_kib):
            digest.update(self._block)
        digest.digest()

    def close(self) -> None:
        pass


class NoopRuntime(Runtime):
    """Options: `busy_us`, the CPU time of a run in microseconds, or `hash_kib`, the KiB that a run hashes."""

    name = "noop"
    ignores_model = True

    def survives_fork(self, options: Mapping[str, Any]) -> bool:
        return True  # it is all in Python

    def check_options(self, options: Mapping[str, Any]) -> Dict[str, Any]:
        unknown = sorted(set(options) - {"busy_us", "hash_kib"})
        if unknown:
            raise InvalidRequest(f"options.{unknown[0]}: noop has no such option; it has busy_us and hash_kib")
        if len(options) == 2:
            raise InvalidRequest("options: noop takes busy_us or hash_kib, not both")
        if "hash_kib" in options:
            return {"hash_kib": _read_hash_kib(options["hash_kib"], "options.hash_kib")}
        busy_us = options.get("busy_us", _BUSY_US_DEFAULT)
        return {"busy_us": _read_busy_us(busy_us, "options.busy_us")}

    def available(self) -> Availability:
        return Availability(True, None, "1", (), (ANY_ARTIFACT,))

    def load(
        self, path: str, options: Mapping[str, Any], threads: int, batch: Optional[int], shapes: Shapes
    ) -> Session:
        if shapes:
            raise MeasurementFailed("incompatible_artifact", "noop does not read the model, so it takes no shapes")
        with open(path, "rb") as stream:
            stream.read()
        if "hash_kib" in options:
            return HashSession(options["hash_kib"], batch or 1)
        return NoopSession(options["busy_us"], batch or 1)
