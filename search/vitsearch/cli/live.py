"""The live view of a run: stages, trials, counts, time left, the front as it grows. Plain lines without a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TextIO

from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn
from rich.progress import Progress as Bar
from rich.text import Text

from vitsearch.cli.rows import Rows
from vitsearch.cli.tables import counted
from vitsearch.cli.terminal import Terminal
from vitsearch.core.activity import duration
from vitsearch.core.plan import Plan, plan_text
from vitsearch.core.record import Record
from vitsearch.core.stage import Stage
from vitsearch.pipeline.progress import PlainLines, Progress, describe, on_front
from vitsearch_agent.base.printable import printable

LONG_S = 30.0
"""From here on the view shows how long a stage has been running."""


@contextmanager
def progress(objectives: tuple[str, ...], plain: bool, stream: TextIO | None = None) -> Iterator[Progress]:
    """The view of a run. `stream` takes plain lines; default: standard output."""
    if plain:
        yield PlainLines(objectives, stream or sys.stdout)
        return
    view = LiveView(objectives)
    with Live(view, console=view.console, refresh_per_second=2, transient=True):
        yield view


class LiveView:
    """Finished trials scroll by above; below are the front so far, the running stages, counts and the time left."""

    def __init__(self, objectives: tuple[str, ...]) -> None:
        self.console = Terminal()
        self._objectives = objectives
        self._running: dict[Stage, list[float]] = {}
        self._records: dict[int, Record] = {}
        self._waits: str | None = None
        self._doing: Mapping[str, str] = {}
        self._left = ""
        self._start = time.monotonic()
        self._bars = Bar(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), console=self.console)
        self._tasks: dict[str, TaskID] = {}

    @contextmanager
    def stage(self, stage: Stage) -> Iterator[None]:
        started = time.monotonic()
        self._running.setdefault(stage, []).append(started)
        try:
            yield
        finally:
            self._running[stage].remove(started)

    def note(self, text: str) -> None:
        self.console.print(printable(text), style="dim", markup=False, highlight=False)

    def doing(self, stages: Mapping[str, str]) -> None:
        self._doing = stages

    def waits(self, text: str | None) -> None:
        self._waits = text

    def counted(self, what: str, done: int, wanted: int | None) -> None:
        if what not in self._tasks:
            self._tasks[what] = self._bars.add_task(what)
        self._bars.update(self._tasks[what], completed=done, total=wanted)

    def left(self, text: str) -> None:
        self._left = text

    def earlier_trials(self, records: Mapping[int, Record]) -> None:
        self._records.update(records)
        self.note(f"known from earlier runs: {counted(len(records), 'trial')}")

    def started(self, number: int, plan: Plan) -> None:
        pass

    def ended(self, number: int, record: Record) -> None:
        style = "bold" if record.is_confirmed else "red" if record.outcome == "failed" else "dim"
        line = printable(f"trial {number:3d}  {describe(record, self._objectives)}")
        self.console.print(line, style=style, markup=False, highlight=False)
        self._records[number] = record

    def __rich__(self) -> RenderableType:
        waits = [Text(printable(self._waits), style="yellow")] if self._waits else []
        elapsed = f"{duration(time.monotonic() - self._start)} elapsed"
        times = ", ".join(part for part in (elapsed, self._left) if part)
        front = [self._front(best)] if (best := on_front(self._records, self._objectives)) else []
        now = [Text(f"now: {stages}")] if (stages := self._stages()) else []
        doing = [Text(printable(f"  {name}, {how_far}")) for name, how_far in self._doing.items()]
        return Group(*front, *now, *doing, *waits, self._bars, Text(times))

    def _stages(self) -> str:
        """The running stages that have no line of their own; how many there are of each, and how long the longest has
        been running."""
        now, named = time.monotonic(), {name.partition(": ")[0] for name in self._doing}
        texts = []
        for stage, starts in self._running.items():
            if starts and stage.words not in named:
                longest_s = now - min(starts)
                count = f" x{len(starts)}" if len(starts) > 1 else ""
                texts.append(f"{stage.words}{count}" + (f" ({duration(longest_s)})" if longest_s >= LONG_S else ""))
        return ", ".join(texts)

    def _front(self, best: Mapping[int, Record]) -> Rows:
        rows = [
            [str(number), plan_text(record.plan), *(f"{record.metrics.value(name):.4g}" for name in self._objectives)]
            for number, record in best.items()
        ]
        return Rows(["trial", "plan", *self._objectives], rows, ["plan"], f"front so far: {len(best)}")
