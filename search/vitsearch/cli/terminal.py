"""The console of all commands. Names, reasons and messages come from devices, models and programs."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from vitsearch_evaluators.base.printable import printable, printable_lines


class Terminal(Console):
    """A console to which no text can send a control character: what is not visible is shown as an escape."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(printable_lines(segment.text), segment.style)


def plain(text: str) -> Text:
    """One line of text that is printed literally, markup such as ``[/x]`` included."""
    return Text(printable(text))
