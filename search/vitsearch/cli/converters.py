"""`vitsearch install-converter`: the environment of a converter."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from vitsearch.cli.arguments import AsJson
from vitsearch.core.json_value import json_text
from vitsearch_agent.base.printable import printable


def install_converter(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="The converter that a message or 'vitsearch doctor' names.",
            show_default=False,
        ),
    ],
    as_json: AsJson = False,
) -> None:
    """Install what writes the files of a runtime.

    It gets an environment of its own, because it pins other versions of our libraries. VITSEARCH_CONVERTERS names the
    folder; default: in the user's cache.
    """
    from vitsearch.export import converters

    converters.install(name, _verifier(name), lambda text: typer.echo(printable(text), err=as_json))
    if as_json:
        from vitsearch.cli.printed import PrintedConverter

        typer.echo(json_text(PrintedConverter(name)))


def _verifier(name: str) -> Callable[[Path], None]:
    """What tries a converter once; `UnknownName` for one that does not exist."""
    from vitsearch.core import targets
    from vitsearch.export import converters
    from vitsearch.registry import loaded

    converters.folder_of(name)
    verify: Callable[[Path], None] = loaded(targets.converters()[name].verify)
    return verify
