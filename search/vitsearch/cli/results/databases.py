"""`vitsearch db`: make the tables of a database, copy studies from one database into another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from vitsearch.cli.arguments import AsJson, stored_names
from vitsearch.core.json_value import json_text
from vitsearch_agent.base.printable import printable

if TYPE_CHECKING:
    from vitsearch.search.admin.copying import Copied, CopiedStudy
    from vitsearch.study.database.opening import Prepared

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
    from vitsearch.search.admin.copying import copy

    done = copy(source, destination, files)
    typer.echo(json_text(done) if as_json else copied_text(done))


def prepared_text(done: Prepared) -> str:
    what = "tables were made" if done.is_new else "all tables are there"
    return printable(f"{done.storage}: {what} (version {done.version}).")


def copied_text(done: Copied) -> str:
    from vitsearch.cli.tables import counted, disk

    lines = [_study(study) for study in done.studies] or ["No study to copy."]
    files = f"{counted(done.files, 'file')} ({disk(done.files_bytes)})"
    lines.append(f"{counted(done.results, 'result')} and {files} were added to {done.destination}.")
    if done.files_gone:
        gone = counted(done.files_gone, "file")
        lines.append(f"Gone from the store of {done.source}: {gone}. A run that needs them makes them again.")
    return "\n".join(map(printable, lines))


def _study(study: CopiedStudy) -> str:
    from vitsearch.cli.tables import counted

    trials = counted(study.trials, "trial")
    if not study.is_new:
        return f"Study {study.study} ({trials}) is there already, and is the same."
    waiting = f", of which {study.open} wait for a run there" if study.open else ""
    return f"Study {study.study} was copied: {trials}{waiting}."
