"""``vitsearch check``: what the file alone shows is said before the libraries that build models are loaded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import typer

from vitsearch.cli.tables import counted
from vitsearch.errors import SpaceError
from vitsearch_evaluators.base.printable import printable_lines


def of_file(space: Path, overrides: Sequence[str]) -> tuple[str, ...]:
    """Print the problems of a space file that need neither data nor models, and return their lines."""
    from vitsearch.space import read_draft

    problems = tuple(read_draft(space, overrides).lines())
    if problems:
        typer.echo(printable_lines(str(SpaceError(str(space), problems))), err=True)
    return problems


@contextmanager
def saying_only_what_is_new(said: Sequence[str]) -> Iterator[None]:
    """Of the problems that end the block, print those that were not said yet."""
    try:
        yield
    except SpaceError as error:
        if not said:
            raise
        more = [problem for problem in error.problems if problem not in said]
        if more:
            text = "\n".join([f"{error.where}: {counted(len(more), 'more problem')}", *(f"  {one}" for one in more)])
            typer.echo(printable_lines(text), err=True)
        raise typer.Exit(error.exit_code) from None
