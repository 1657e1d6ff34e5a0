"""Which process runs a trial, in enough detail to see on the same machine that the process has ended."""

from __future__ import annotations

import os
import socket
import uuid
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from vitsearch_agent.base.locks import user_name

PROC = Path("/proc")


@dataclass(frozen=True)
class DriverId:
    """The identity of a driver process. `started` (clock ticks since boot) distinguishes the process from a later
    one with the same `pid`; `machine` machines and containers that have the same host name."""

    user: str
    host: str
    machine: str
    boot: str
    pid: int
    started: str
    token: str

    @classmethod
    def current(cls) -> DriverId:
        """The identity of this process; every call draws a new `token`."""
        return cls(
            user=user_name(),
            host=socket.gethostname(),
            machine=_machine(),
            boot=_boot(),
            pid=os.getpid(),
            started=_started(os.getpid()) or "",
            token=uuid.uuid4().hex,
        )

    def is_dead_here(self) -> bool:
        """True only when it is certain: this is the same machine, and it was rebooted or the process has ended."""
        if not self.is_of_here:
            return False
        if self.boot != _boot():
            return True
        started = _started(self.pid)
        return not _alive(self.pid) if started is None else started != self.started

    def lives_here(self) -> bool:
        """Whether its process runs on this machine."""
        return self.is_of_here and not self.is_dead_here()

    @property
    def is_of_here(self) -> bool:
        """Whether its process runs, or ran, on this machine."""
        return (self.host, self.machine) == (socket.gethostname(), _machine())

    def is_same_process(self, other: DriverId) -> bool:
        """Whether both were made in one process: only their tokens differ."""
        return replace(self, token="") == replace(other, token="")

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> DriverId:
        return cls(**value)


def _machine() -> str:
    """The id of this system, and the namespace in which process ids count: containers share one with their machine, or
    have their own."""
    parts = []
    with suppress(OSError):
        parts.append(Path("/etc/machine-id").read_text().strip())
    with suppress(OSError):
        parts.append(os.readlink(PROC / "self/ns/pid"))
    return " ".join(parts)


def _boot() -> str:
    path = PROC / "sys/kernel/random/boot_id"
    return path.read_text().strip() if path.exists() else ""


def _started(pid: int) -> str | None:
    """The start time of a process, empty for a zombie; None where that cannot be read: it does not exist, the system
    has no `/proc`, or that hides the processes of other users."""
    try:
        text = (PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    state, *rest = text.rpartition(")")[2].split()
    return "" if state in "ZX" else rest[18]


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
