"""Arguments and options that commands share, and the values that they are read into. It imports nothing heavy, so that
help stays fast."""

from __future__ import annotations

import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from vitsearch.storage.addresses import shown_argument
from vitsearch_agent.base.printable import printable

FOLDER = Path("studies")


def stored_names(incomplete: str) -> list[str]:
    """The names of studies in `studies/` that begin like this, for the completion of a shell."""
    return sorted(path.stem for path in FOLDER.glob("*.db") if path.stem.startswith(incomplete))


StudyName = Annotated[
    str,
    typer.Argument(
        metavar="STUDY",
        help="A name (found in studies/), a .db file or storage URL (with #NAME if it holds several), or a space file.",
        show_default=False,
        autocompletion=stored_names,
    ),
]


def command_text(*arguments: str) -> str:
    """A command of vitsearch as a person may copy it into a shell, without the passwords of URLs."""
    return printable(shlex.join(["vitsearch", *map(shown_argument, arguments)]))


def same_command() -> str:
    """The command that is running."""
    return command_text(*sys.argv[1:])


@contextmanager
def resumable() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM end a command that the same command resumes, and say so."""

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except KeyboardInterrupt:
        typer.echo(f"Stopped; nothing is lost. Resume with: {same_command()}", err=True)
        raise typer.Exit(130) from None
    finally:
        signal.signal(signal.SIGTERM, before)


AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


class Form(StrEnum):
    """How models are printed."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"
    MARKDOWN = "markdown"
    PERF_YAML = "perf-yaml"


@dataclass(frozen=True)
class Query:
    """Which models `vitsearch front` prints: all or those of the front, a condition, an order; and the device on which
    they were measured, None for that of the study."""

    every: bool = False
    where: str | None = None
    sort: str | None = None
    device: str | None = None
