"""`vitsearch db`: make the tables of a database, copy studies from one database into another."""

from __future__ import annotations

from typing import Annotated

import typer

from vitsearch.cli.results.study_commands import AsJson, stored_names
from vitsearch.core.json_value import json_text

app = typer.Typer(help="Prepare a database; copy studies into another.", no_args_is_help=True)

DATABASE = "storage URL (sqlite:///FILE, postgresql+psycopg://...) or a .db file"


@app.command()
def prepare(
    storage: Annotated[str, typer.Argument(metavar="STORAGE", help=f"A {DATABASE}.", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """Make the tables of studies and results in an empty database.

    A run makes them itself where it may. A database that another version of this program made is refused.
    """
    from vitsearch.cli.results.databases import prepared_text
    from vitsearch.study.database.opening import prepare as prepared
    from vitsearch.study.lookup import find_database

    done = prepared(find_database(storage))
    typer.echo(json_text(done) if as_json else prepared_text(done))


@app.command()
def copy(
    source: Annotated[
        str,
        typer.Argument(
            metavar="FROM",
            help=f"A study (a name, a space file, or #NAME behind its database), or for all studies a {DATABASE}.",
            show_default=False,
            autocompletion=stored_names,
        ),
    ],
    destination: Annotated[
        str, typer.Argument(metavar="TO", help=f"A {DATABASE}; a new file is made.", show_default=False)
    ],
    files: Annotated[
        str | None,
        typer.Option(
            metavar="PLACE",
            help="Where the files of a new database go: a folder, s3://..., gs://..., sftp://...; default: those that "
            "VITSEARCH_FILES names, else a folder beside it.",
            show_default=False,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Copy studies into another database.

    With their results and files: they can be read and resumed there. A run may go on meanwhile; its open trials wait in
    the copy. A copy that was interrupted leaves no part of a study, and the same command completes it. Where TO has
    another version of a study, nothing is copied.
    """
    from vitsearch.cli.results.databases import copied_text
    from vitsearch.search.admin.copying import copy

    done = copy(source, destination, files)
    typer.echo(json_text(done) if as_json else copied_text(done))
