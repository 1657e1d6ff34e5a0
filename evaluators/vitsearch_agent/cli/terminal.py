"""Errors and the log on stderr, with every text from outside made printable."""

import logging
import re
import sys
from typing import Any

from vitsearch_agent.base.printable import printable, printable_lines
from vitsearch_agent.base.wrapping import for_stream
from vitsearch_agent.errors import AgentError

_COLOURS = re.compile("\x1b\\[[0-9;]*m")


def message_of(error: AgentError) -> str:
    """Return the message of an error, preceded by its kind if it has one."""
    kind = error.details.get("kind")
    return str(error) if kind is None else f"{kind}: {error}"


def complain(error: AgentError) -> None:
    """Print an error on one line, and below it the output of the program that it is about."""
    print(printable(f"vitsearch-agent: {message_of(error)}"), file=sys.stderr)
    output = _COLOURS.sub("", str(error.details.get("output_tail", "")))
    print(printable_lines(output), file=sys.stderr, end="")


def say(text: str) -> None:
    """Print text, with escapes for characters that the terminal's encoding does not have."""
    encoding = sys.stdout.encoding or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding))


def say_prose(text: str) -> None:
    """As `say`, wrapped between words on a terminal."""
    say(for_stream(text, sys.stdout))


def log_to_stderr(level: int) -> None:
    """Log each record on one line, with its traceback below it."""
    to_stderr = logging.StreamHandler()
    to_stderr.setFormatter(_Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=level, handlers=[to_stderr])


class _Formatter(logging.Formatter):
    def formatMessage(self, record: logging.LogRecord) -> str:
        return printable(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:
        return printable_lines(super().formatException(ei))
