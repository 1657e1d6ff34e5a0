"""``vitsearch studies``: the studies in a folder, what they take on disk, and how to get rid of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="List studies with their size on disk, delete them, free files that no result names.")

StudyName = Annotated[
    str,
    typer.Argument(
        metavar="STUDY",
        help="A name (found in studies/), a .db file or storage URL (with #NAME if it holds several), or a space file.",
        show_default=False,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.callback(invoke_without_command=True)
def studies(context: typer.Context, as_json: AsJson = False) -> None:
    """List studies with their size on disk, delete them, free files that no result names. Without a command: list."""
    if context.invoked_subcommand is None:
        list_studies(Path("studies"), as_json)


@app.command("list")
def list_studies(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where the .db files are.")] = Path("studies"),
    as_json: AsJson = False,
) -> None:
    """List the studies in a folder: trials, last run, size on disk."""
    from vitsearch.cli.results.studies import print_databases
    from vitsearch.search.finished.housekeeping import databases

    found = databases(folder)
    typer.echo(json.dumps([one.to_json() for one in found], indent=2)) if as_json else print_databases(folder, found)


@app.command()
def delete(
    study: StudyName,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Delete a study: its trials and, unless other studies share them, its results and files. Asks first."""
    from vitsearch.cli.results.studies import deletion_text
    from vitsearch.search.finished import housekeeping

    planned = housekeeping.plan_deletion(study)
    if not yes:
        typer.echo(deletion_text(planned), err=True)
        typer.confirm("Delete it?", abort=True, err=True)
    housekeeping.delete(planned)
    deleted = {"deleted": planned.study, "freed_bytes": planned.bytes, "others": list(planned.others)}
    typer.echo(json.dumps(deleted, indent=2) if as_json else f"Study {planned.study} was deleted.")


@app.command()
def clean(
    study: StudyName,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count what would be deleted.")] = False,
    as_json: AsJson = False,
) -> None:
    """Delete the files of a study's database that none of its results names, and show what that freed."""
    from vitsearch.cli.results.studies import freed_text
    from vitsearch.search.finished.housekeeping import clean

    freed = clean(study, dry_run)
    typer.echo(json.dumps(freed.to_json() | {"dry_run": dry_run}, indent=2) if as_json else freed_text(freed, dry_run))
