"""The output of `vitsearch install-converter`."""

from __future__ import annotations

import typer

from vitsearch.export.litert import converters
from vitsearch_evaluators.base.printable import printable


def install(name: str, to_stderr: bool = False) -> None:
    """Make the environment of a converter; `UnknownName` for one that does not exist. Its
    progress may go to standard error."""
    from vitsearch.export.litert import litert_file

    converters.install(name, litert_file.verify, lambda text: typer.echo(printable(text), err=to_stderr))
