"""What a run reports while it runs: a protocol, and plain lines for logs. The live view is ``cli/live.py``."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol, TextIO

from vitsearch.core.plan import plan_text
from vitsearch.core.record import Record
from vitsearch.core.stage import Stage
from vitsearch_evaluators.base.printable import printable

WAITING_LINES_S = 300.0


class Progress(Protocol):
    """Called from the driver's event loop; must return at once."""

    @contextmanager
    def stage(self, stage: Stage) -> Iterator[None]:
        """A stage is running inside this block; several may at the same time."""
        ...

    def note(self, text: str) -> None: ...

    def waits(self, text: str | None) -> None:
        """What the run waits for, reported every second; None when it does not wait."""
        ...

    def ended(self, number: int, record: Record, trained: int, wanted: int) -> None: ...


class Silent:
    @contextmanager
    def stage(self, stage: Stage) -> Iterator[None]:
        yield

    def note(self, text: str) -> None:
        pass

    def waits(self, text: str | None) -> None:
        pass

    def ended(self, number: int, record: Record, trained: int, wanted: int) -> None:
        pass


@dataclass
class PlainLines:
    """One line for each thing that ended, with the seconds since the start: for logs and pipes."""

    objectives: tuple[str, ...]
    stream: TextIO = field(default_factory=lambda: sys.stdout)
    _start: float = field(default_factory=time.monotonic)
    _reported_waiting: float | None = None

    @contextmanager
    def stage(self, stage: Stage) -> Iterator[None]:
        yield

    def waits(self, text: str | None) -> None:
        """Print at once, then every five minutes."""
        now, reported = time.monotonic(), self._reported_waiting
        if text is None:
            self._reported_waiting = None
        elif reported is None or now - reported >= WAITING_LINES_S:
            self._reported_waiting = now
            self.note(text)

    def note(self, text: str) -> None:
        print(f"{time.monotonic() - self._start:7.1f} s  {printable(text)}", file=self.stream, flush=True)

    def ended(self, number: int, record: Record, trained: int, wanted: int) -> None:
        self.note(f"trial {number:3d}  {describe(record, self.objectives)}  [{trained}/{wanted} trained]")


def describe(record: Record, objectives: tuple[str, ...]) -> str:
    """A trial in one line: outcome, what was cut, what came out."""
    numbers = "  ".join(
        f"{name} {value:.4g}" for name in objectives if (value := record.metrics.value(name)) is not None
    )
    outcome = "duplicate" if record.duplicate_of is not None else record.outcome
    notes = "; ".join(record.metrics.notes.values())
    return "  ".join(part for part in (f"{outcome:<12}", plan_text(record.plan), numbers, notes, record.reason) if part)
