"""What a run reports while it runs: a protocol, and plain lines for logs. The live view is `cli/live.py`."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Protocol, TextIO

from vitsearch.core.pareto import front, loss
from vitsearch.core.plan import Plan, plan_text
from vitsearch.core.record import Record
from vitsearch.core.stage import Stage
from vitsearch_agent.base.printable import printable

WAITING_LINES_S = 300.0
DOING_LINES_S = 30.0
"""Between two lines about one stage that takes long."""
BASES, LEADERBOARD, TRAINED, REMEASURED = "bases", "leaderboard", "trained", "re-measured"
"""What a run counts, in the order in which it makes them."""
current_trial: ContextVar[int | None] = ContextVar("current_trial", default=None)
"""The trial for which the running task works; None outside trials. A stage that several trials want belongs to the
first: the tasks that a trial starts inherit its number."""


class Progress(Protocol):
    """Called from the driver's event loop; must return at once."""

    @contextmanager
    def stage(self, stage: Stage) -> Iterator[None]:
        """A stage is running inside this block; several may at the same time."""
        ...

    def note(self, text: str) -> None: ...

    def doing(self, stages: Mapping[str, str]) -> None:
        """The stages that take long, each with how far it is in words; reported every second."""
        ...

    def waits(self, text: str | None) -> None:
        """What the run waits for, reported every second; None when it does not wait."""
        ...

    def counted(self, what: str, done: int, wanted: int | None) -> None:
        """How many bases, leaderboard rows, ... there are by now, of how many (None: as many as fit);
        from the start on."""
        ...

    def left(self, text: str) -> None:
        """How long the run still takes, in words; reported every second."""
        ...

    def earlier_trials(self, records: Mapping[int, Record]) -> None:
        """The trials that earlier runs of the study finished; once, before this run does anything."""
        ...

    def started(self, number: int, plan: Plan) -> None:
        """A trial begins its stages. A trial whose record is known without any only ends."""
        ...

    def ended(self, number: int, record: Record) -> None: ...


class Silent:
    @contextmanager
    def stage(self, stage: Stage) -> Iterator[None]:
        yield

    def note(self, text: str) -> None:
        pass

    def doing(self, stages: Mapping[str, str]) -> None:
        pass

    def waits(self, text: str | None) -> None:
        pass

    def counted(self, what: str, done: int, wanted: int | None) -> None:
        pass

    def left(self, text: str) -> None:
        pass

    def earlier_trials(self, records: Mapping[int, Record]) -> None:
        pass

    def started(self, number: int, plan: Plan) -> None:
        pass

    def ended(self, number: int, record: Record) -> None:
        pass


class Paced:
    """Which of the things that are reported every second get a line now: each at once, then every `seconds`."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._said: dict[str, float] = {}

    def due(self, names: Iterable[str]) -> list[str]:
        """Those of `names`, which are all there are now, that get a line."""
        now, names = time.monotonic(), list(names)
        self._said = {name: self._said[name] for name in names if name in self._said}
        due = [name for name in names if name not in self._said or now - self._said[name] >= self._seconds]
        self._said.update(dict.fromkeys(due, now))
        return due


def subject_of(waiting: str) -> str:
    """What a message about a wait is about: it stays while the time in the message changes."""
    return re.sub(r"\d+", "", waiting.partition(", ")[0])


@dataclass
class PlainLines:
    """One line for each thing that ended, with the seconds since the start: for logs and pipes."""

    objectives: tuple[str, ...]
    stream: TextIO = field(default_factory=lambda: sys.stdout)
    _start: float = field(default_factory=time.monotonic)
    _waiting: Paced = field(default_factory=lambda: Paced(WAITING_LINES_S))
    _doing: Paced = field(default_factory=lambda: Paced(DOING_LINES_S))
    _counts: dict[str, str] = field(default_factory=dict)
    _left: str = ""

    @contextmanager
    def stage(self, stage: Stage) -> Iterator[None]:
        yield

    def doing(self, stages: Mapping[str, str]) -> None:
        """Print each at once, then every half minute."""
        for name in self._doing.due(stages):
            self.note(f"{name}, {stages[name]}")

    def waits(self, text: str | None) -> None:
        """Print at once, then every five minutes."""
        if text is not None and self._waiting.due([subject_of(text)]):
            self.note(text)
        elif text is None:
            self._waiting.due([])

    def note(self, text: str) -> None:
        print(f"{time.monotonic() - self._start:7.1f} s  {printable(text)}", file=self.stream, flush=True)

    def counted(self, what: str, done: int, wanted: int | None) -> None:
        """Print how many bases and leaderboard rows there are; trials have lines of their own."""
        count = f"{done}" if wanted is None else f"{done}/{wanted}"
        if what in (BASES, LEADERBOARD) and self._counts.get(what) != count:
            self.note(f"{what} {count}")
        self._counts[what] = count

    def left(self, text: str) -> None:
        self._left = text

    def earlier_trials(self, records: Mapping[int, Record]) -> None:
        models = len(on_front(records, self.objectives))
        self.note(f"known from earlier runs: {len(records)} trials, front of {models}  {self._standing()}")

    def started(self, number: int, plan: Plan) -> None:
        pass

    def ended(self, number: int, record: Record) -> None:
        self.note(f"trial {number:3d}  {describe(record, self.objectives)}  {self._standing()}")

    def _standing(self) -> str:
        trained = f"{self._counts.get(TRAINED, 0)} trained"
        return f"[{', '.join(part for part in (trained, self._left) if part)}]"


def on_front(records: Mapping[int, Record], objectives: tuple[str, ...]) -> dict[int, Record]:
    """The trained, feasible trials that no other one dominates, by the first cost."""
    losses = {
        number: point
        for number, record in records.items()
        if record.is_confirmed and record.feasible and (point := loss(objectives, record.metrics.values))
    }
    numbers = list(losses)
    best = (numbers[index] for index in front(list(losses.values())))
    return {number: records[number] for number in sorted(best, key=lambda number: losses[number][1:])}


def describe(record: Record, objectives: tuple[str, ...]) -> str:
    """A trial in one line: outcome, what was cut, what came out."""
    numbers = "  ".join(
        f"{name} {value:.4g}" for name in objectives if (value := record.metrics.value(name)) is not None
    )
    outcome = record.shown_outcome
    predicted = ""
    if record.was_trained and record.proxy is not None:
        predicted = f"(predicted {record.proxy.text})"
    notes = "; ".join(record.metrics.notes.values())
    parts = (f"{outcome:<12}", plan_text(record.plan), numbers, predicted, notes, record.reason)
    return "  ".join(part for part in parts if part)
