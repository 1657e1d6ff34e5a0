"""Lines of prose in a terminal that is narrower than they are."""

import shutil
import textwrap
from typing import List, TextIO


def for_stream(text: str, stream: TextIO) -> str:
    """Return the lines wrapped between words, under their indentation, for a terminal, and as they are for a pipe.

    Not for commands that a person copies: wrapped, they would not be one line.
    """
    if not stream.isatty():
        return text
    width = shutil.get_terminal_size().columns
    return "\n".join(part for line in text.split("\n") for part in wrapped_line(line, width))


def wrapped_line(line: str, width: int) -> List[str]:
    """Return a line in parts of at most `width` characters, but for words that are longer."""
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
