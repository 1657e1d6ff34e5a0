"""How rows of values are shown in any width: no value, name or port is ever cut.

A row is one line where that fits. Where it does not, further columns are left out and named below; then columns of
words wrap between words; and where that is not enough, each row is a block: its name, and under it every value with its
heading. Psql's `\\x auto` does the same.
"""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, JustifyMethod, RenderableType
from rich.table import Table
from rich.text import Text

from vitsearch.cli.terminal import plain
from vitsearch_agent.base.printable import printable

GAP = 2
"""Spaces between columns."""
MOST_LINES = 3
"""About how many lines a cell may take before rows become blocks."""


@dataclass(frozen=True)
class Rows:
    """A table that fits.

    Attributes:
        headings: One for each column; without headings for all of them, none is shown.
        rows: The cells.
        texts: Headings of the columns of words: they may wrap, and are aligned on the left.
        title: A line above.
        needed: How many columns are always shown; the others only where they fit. None: all.
        rest: What shows the columns that are left out.
        dimmed: Rows whose first cell is one of these are less bright.
    """

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    texts: Collection[str] = ()
    title: str = ""
    needed: int | None = None
    rest: str = "--json has them"
    dimmed: Collection[str] = ()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        width = options.max_width
        rows = [list(map(printable, row)) for row in self.rows]
        columns = [
            _Column(heading, tuple(cells), self.headings[index] in self.texts)
            for index, (heading, *cells) in enumerate(zip(map(printable, self.headings), *rows, strict=True))
        ]
        if self.title:
            yield Text(printable(self.title), style="table.title")
        shown = columns[: self.needed]
        while len(shown) < len(columns) and _total(column.natural for column in columns[: len(shown) + 1]) <= width:
            shown = columns[: len(shown) + 1]
        widths = _widths(shown, width)
        if widths is None:
            yield from self._blocks(rows, width)
            return
        yield self._table(shown, widths)
        if left_out := columns[len(shown) :]:
            yield Text(
                f"not in this width: {', '.join(hidden.heading for hidden in left_out)}; {self.rest}", style="dim"
            )

    def _table(self, columns: Sequence[_Column], widths: Sequence[int]) -> Table:
        table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold")
        table.show_header = any(self.headings)
        for column, width in zip(columns, widths, strict=True):
            justify: JustifyMethod = "left" if column.wraps else "right"
            table.add_column(plain(column.heading), justify=justify, width=width, overflow="fold")
        for cells in zip(*(column.cells for column in columns), strict=True):
            table.add_row(*map(plain, cells), style=self._style(cells))
        return table

    def _blocks(self, rows: Sequence[Sequence[str]], width: int) -> Iterator[Text]:
        names = 1 + next((index for index, heading in enumerate(self.headings) if heading in self.texts), 0)
        for row in rows:
            lines = _wrapped("  ".join(row[:names]), width, "", "    ")
            line = ""
            for heading, cell in zip(self.headings[names:], row[names:], strict=True):
                pair = f"{printable(heading)}: {cell}" if heading else cell
                if cell and line and cell_len(f"  {line}   {pair}") <= width:
                    line += f"   {pair}"
                elif cell:
                    lines += _wrapped(line, width, "  ", "    ")
                    line = pair
            yield Text("\n".join([*lines, *_wrapped(line, width, "  ", "    ")]), style=self._style(row))

    def _style(self, cells: Sequence[str]) -> str:
        return "dim" if cells[0] in self.dimmed else ""


@dataclass(frozen=True)
class Pairs:
    """Names with a text each, which wraps beside its name. `pairs` are of name, text and style."""

    pairs: Sequence[tuple[str, str, str]]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        beside = max((cell_len(printable(name)) for name, _, _ in self.pairs), default=0) + GAP
        for name, text, style in self.pairs:
            lines = _wrapped(printable(text), options.max_width, " " * beside, " " * beside)
            yield Text(printable(name).ljust(beside) + "\n".join(lines)[beside:], style=style)


@dataclass(frozen=True)
class _Column:
    heading: str
    cells: tuple[str, ...]
    wraps: bool

    @property
    def natural(self) -> int:
        """The width in which nothing wraps."""
        return max(map(cell_len, (self.heading, *self.cells)))

    @property
    def least(self) -> int:
        """The least width: that of the longest word, or of the longest cell where cells do not wrap."""
        heading = max(map(cell_len, self.heading.split()), default=0)
        if not self.wraps:
            return max(heading, *map(cell_len, self.cells), 0)
        words = max((cell_len(word) for cell in self.cells for word in cell.split()), default=0)
        return max(heading, words, -(-max(map(cell_len, self.cells), default=0) // MOST_LINES))


def _total(widths: Iterator[int] | Sequence[int]) -> int:
    widths = list(widths)
    return sum(widths) + GAP * (len(widths) - 1)


def _widths(columns: Sequence[_Column], width: int) -> list[int] | None:
    """The widths of columns, the widest made narrower first; None where they do not fit."""
    widths = [column.natural for column in columns]
    for index in sorted(range(len(columns)), key=lambda index: (not columns[index].wraps, -widths[index])):
        excess = _total(widths) - width
        if excess > 0:
            widths[index] -= min(excess, widths[index] - columns[index].least)
    return widths if _total(widths) <= width else None


def _wrapped(text: str, width: int, first: str, further: str) -> list[str]:
    """Lines of whole words; a word that is longer than a line stays whole."""
    return textwrap.wrap(
        text,
        width,
        initial_indent=first,
        subsequent_indent=further,
        break_long_words=False,
        break_on_hyphens=False,
    )
