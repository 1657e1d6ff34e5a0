"""The console of all commands. Names, reasons and messages come from devices, models and programs."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from typing import Any

import typer
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from vitsearch_agent.base.printable import printable, printable_lines
from vitsearch_agent.base.wrapping import for_stream


class Terminal(Console):
    """A console to which no text can send a control character: what is not visible is shown as an escape.

    Text wraps between words only: an address or a path that is longer than a line stays in one piece.
    """

    def print(self, *objects: Any, **options: Any) -> None:
        options.setdefault("overflow", "ignore")
        options.setdefault("crop", False)
        super().print(*objects, **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        if (
            isinstance(renderable, Text)
            and options is not None
            and options.overflow == "ignore"
            and not options.no_wrap
        ):
            renderable = _wrapped(renderable, options.max_width)  # rich would not wrap at all
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(printable_lines(segment.text), segment.style)


def _wrapped(text: Text, width: int) -> Text:
    lines: list[Text] = []
    for line in text.split(allow_blank=True):
        breaks, column = [], 0
        for word in re.finditer(r"\s*\S+\s*", line.plain):
            if column and column + cell_len(word.group().rstrip()) > width:
                breaks.append(word.start())
                column = 0
            column += cell_len(word.group())
        lines += line.divide(breaks)
    for line in lines:
        line.rstrip()
    return Text("\n", end=text.end).join(lines)


def say(text: str, err: bool = False) -> None:
    """Print lines of prose, wrapped between words on a terminal. Not for commands that a person copies."""
    typer.echo(for_stream(printable_lines(text), sys.stderr if err else sys.stdout), err=err)


def plain(text: str) -> Text:
    """One line of text that is printed literally, markup such as `[/x]` included."""
    return Text(printable(text))
