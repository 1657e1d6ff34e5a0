"""The processors of a machine that measures and trains."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

CAN_PIN = hasattr(os, "sched_setaffinity")
"""Whether this system can keep a process on some of the processors."""


@dataclass(frozen=True)
class Cores:
    """The processors that measure, and those on which workers stay meanwhile; the same when there are no others."""

    device: tuple[int, ...]
    trainers: tuple[int, ...]

    @property
    def all(self) -> tuple[int, ...]:
        return tuple(sorted({*self.device, *self.trainers}))

    @property
    def are_apart(self) -> bool:
        """Whether the device has cores that no worker needs."""
        return not set(self.device) & set(self.trainers)

    @classmethod
    def shared(cls, threads: int = 1) -> Cores:
        """Divide the cores of this process: the last ones measure, one for each thread, and the others train."""
        allowed = (
            sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
        )
        return cls(tuple(allowed[-threads:]), tuple(allowed[:-threads] or allowed))

    @contextmanager
    def kept_free(self) -> Iterator[None]:
        """This process, and what it starts meanwhile, keeps off the device's cores."""
        if not CAN_PIN:
            yield
            return
        before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, self.trainers)
        try:
            yield
        finally:
            os.sched_setaffinity(0, before)
