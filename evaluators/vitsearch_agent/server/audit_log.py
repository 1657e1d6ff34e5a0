"""The audit log: who requested what, and the outcome, as one JSON object per line, for the owner of the device.

    {"at": "2026-01-02T03:04:05Z", "what": "job", "address": "10.0.0.7", "owner": "study", "job": "ab...", ...}

    upload   a file arrived completely   job      a job was submitted    cancel   a client cancelled a job
    ended    a job is final              refused  a request was refused (logged once a minute for address and reason)

It never contains tokens, models or results. On a full disk only lines are lost; `lost` is their number.
"""

import json
import os
import threading
import time
from typing import Any, Callable, Dict, Tuple

from vitsearch_agent.base.canonical_json import utc_now
from vitsearch_agent.wire.job_status import JobStatus

FILE_NAME = "audit.jsonl"
FILE_MAX_BYTES = 2 << 20
FILES_KEPT = 4
_REFUSAL_S = 60.0
_REFUSALS_REMEMBERED = 256
_TEXT_MAX = 200


class AuditLog:
    """The log. Thread-safe. `path` is the newest file; older ones are `path`.1, `path`.2, ..."""

    def __init__(self, path: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._clock = clock
        self._lock = threading.Lock()
        self._lost = 0
        self._refused_at: Dict[Tuple[str, str], float] = {}

    def write(self, what: str, **fields: Any) -> None:
        """Add a line; texts are cut to 200 characters."""
        line: Dict[str, Any] = {"at": utc_now(), "what": what}
        for key, value in fields.items():
            line[key] = value[:_TEXT_MAX] if isinstance(value, str) else value
        with self._lock:
            if self._lost:
                line["lost"] = self._lost
            try:
                self._append(json.dumps(line).encode() + b"\n")
            except OSError:
                self._lost += 1
            else:
                self._lost = 0

    def refused(self, address: str, request: str, code: str) -> None:
        """Log a refusal, at most one per minute for each address and code, so that a flood displaces no lines."""
        now = self._clock()
        with self._lock:
            last = self._refused_at.get((address, code))
            if last is not None and now - last < _REFUSAL_S:
                return
            if len(self._refused_at) >= _REFUSALS_REMEMBERED:
                self._refused_at.clear()
            self._refused_at[address, code] = now
        self.write("refused", address=address, request=request, code=code)

    def ended(self, status: JobStatus) -> None:
        """Log that a job is final, with the kind of its error if it failed."""
        error = status.error or {}
        kind = error.get("details", {}).get("kind", error.get("code"))
        self.write(
            "ended", job=status.id, owner=status.owner.study, state=status.state, attempts=status.attempts, error=kind
        )

    def _append(self, line: bytes) -> None:
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            if os.fstat(descriptor).st_size + len(line) <= FILE_MAX_BYTES:
                _write_whole(descriptor, line)
                return
        finally:
            os.close(descriptor)
        self._rotate()
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            _write_whole(descriptor, line)
        finally:
            os.close(descriptor)

    def _rotate(self) -> None:
        for number in range(FILES_KEPT - 1, 0, -1):
            older = self._path if number == 1 else f"{self._path}.{number - 1}"
            if os.path.exists(older):
                os.replace(older, f"{self._path}.{number}")


def _write_whole(descriptor: int, line: bytes) -> None:
    """Write all of a line or nothing: a full disk may accept only a part of it."""
    size = os.fstat(descriptor).st_size
    if os.write(descriptor, line) < len(line):
        os.ftruncate(descriptor, size)
        raise OSError("the disk accepted only a part of a line")
