"""The live view of a run: stages, trials, the front as it grows. Plain lines where output is not a terminal."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar
from rich.table import Table
from rich.text import Text

from vitsearch.cli.terminal import Terminal
from vitsearch.core.pareto import front, loss
from vitsearch.core.plan import plan_text
from vitsearch.core.record import Record
from vitsearch.core.stage import Stage
from vitsearch.pipeline.progress import PlainLines, Progress, describe
from vitsearch.space import SearchSpace
from vitsearch_evaluators.base.printable import printable


@contextmanager
def progress(space: SearchSpace, plain: bool) -> Iterator[Progress]:
    objectives = tuple(space.objectives)
    if plain:
        yield PlainLines(objectives)
        return
    view = LiveView(objectives, space.search.trials)
    with Live(view, console=view.console, refresh_per_second=2, transient=True):
        yield view


class LiveView:
    """Finished trials scroll by above; below are the running stages, the progress bar and the front so far."""

    def __init__(self, objectives: tuple[str, ...], wanted: int) -> None:
        self.console = Terminal()
        self._objectives = objectives
        self._running: Counter[Stage] = Counter()
        self._confirmed: dict[int, Record] = {}
        self._waits: str | None = None
        self._start = time.monotonic()
        self._bar = Bar(
            TextColumn("trained"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
        )
        self._task = self._bar.add_task("trained", total=wanted, left="")

    @contextmanager
    def stage(self, stage: Stage) -> Iterator[None]:
        self._running[stage] += 1
        try:
            yield
        finally:
            self._running[stage] -= 1

    def note(self, text: str) -> None:
        self.console.print(printable(text), style="dim", markup=False, highlight=False)

    def waits(self, text: str | None) -> None:
        self._waits = text

    def ended(self, number: int, record: Record, trained: int, wanted: int) -> None:
        style = "bold" if record.trained else "red" if record.outcome == "failed" else "dim"
        line = printable(f"trial {number:3d}  {describe(record, self._objectives)}")
        self.console.print(line, style=style, markup=False, highlight=False)
        if record.trained and record.feasible:
            self._confirmed[number] = record
        self._bar.update(self._task, completed=trained, left=self._left(trained, wanted))

    def _left(self, trained: int, wanted: int) -> str:
        if not trained:
            return ""
        seconds = (time.monotonic() - self._start) / trained * (wanted - trained)
        return f"about {seconds / 60:.0f} min left" if seconds > 90 else f"about {seconds:.0f} s left"

    def __rich__(self) -> RenderableType:
        stages = ", ".join(
            stage if count == 1 else f"{stage} x{count}" for stage, count in self._running.items() if count
        )
        waits = [Text(printable(self._waits), style="yellow")] if self._waits else []
        return Group(self._front(), f"running: {stages or 'nothing'}", *waits, self._bar)

    def _front(self) -> Table:
        known = {
            n: point
            for n, record in self._confirmed.items()
            if (point := loss(self._objectives, record.metrics.values))
        }
        numbers = list(known)
        best = [numbers[index] for index in front(list(known.values()))]
        table = Table(title=f"front so far: {len(best)}", title_justify="left")
        table.add_column("trial", justify="right")
        table.add_column("plan")
        for name in self._objectives:
            table.add_column(name, justify="right")
        for number in sorted(best, key=lambda n: known[n][1:]):
            record = self._confirmed[number]
            table.add_row(
                str(number),
                plan_text(record.plan),
                *(f"{record.metrics.value(name):.4g}" for name in self._objectives),
            )
        return table
