"""The console of all commands. Names, reasons and messages come from devices, models and programs."""

from __future__ import annotations

import re
import shutil
import sys
import textwrap
from collections.abc import Iterable
from typing import Any

import typer
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from vitsearch_evaluators.base.printable import printable, printable_lines


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
    """Print lines of prose. A terminal gets them wrapped between words, under their indentation, and a pipe as they
    are. Not for commands that a person copies: wrapped, they would not be one line."""
    stream = sys.stderr if err else sys.stdout
    lines = printable_lines(text).split("\n")
    if stream.isatty():
        lines = [part for line in lines for part in wrapped_line(line, shutil.get_terminal_size().columns)]
    typer.echo("\n".join(lines), err=err)


def wrapped_line(line: str, width: int) -> list[str]:
    """A line in parts of at most ``width`` characters, but for words that are longer."""
    indentation = line[: len(line) - len(line.lstrip())]
    parts = textwrap.wrap(
        line.lstrip(),
        width,
        initial_indent=indentation,
        subsequent_indent=indentation,
        break_long_words=False,
        break_on_hyphens=False,
        replace_whitespace=False,
    )
    return parts or [""]


def plain(text: str) -> Text:
    """One line of text that is printed literally, markup such as ``[/x]`` included."""
    return Text(printable(text))
