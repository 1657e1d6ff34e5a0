"""The cost of running one stage."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass, field
from typing import NamedTuple

from vitsearch.core.stage import Stage

DEVICE = "device "
LOCAL = f"{DEVICE}local"
"""The device that this machine itself is, where a space file names none."""


class StageKind(NamedTuple):
    """Stages that need about the same memory: those of one stage on one backbone (empty: on the data alone)."""

    stage: Stage
    backbone: str


@dataclass(frozen=True)
class StageCost:
    """What one run of a stage took: CPU-seconds of the worker or the device that ran it, the versions of the libraries
    that it used, when it started (seconds since 1970), how long it took, and where it ran: `worker HOST/PID` or
    `device NAME`. `run_id` is that of the run, which the results name that it has made.

    `backbone` is that of the stage, empty where it works on the data alone. `peak_memory_mb` (10^6 bytes) is what
    its worker took at most, without pages of files; None where that is not measured.
    """

    cpu_seconds: float
    versions: dict[str, str] = field(default_factory=dict)
    started_at: float = 0.0
    wall_seconds: float = 0.0
    ran_on: str = ""
    run_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    backbone: str = ""
    peak_memory_mb: float | None = None

    @classmethod
    def of_device(cls, name: str, cpu_seconds: float, seconds: float, versions: dict[str, str]) -> StageCost:
        """Of a device that has just answered; its clock need not be ours."""
        return cls(cpu_seconds, versions, time.time() - seconds, seconds, f"{DEVICE}{name}")
