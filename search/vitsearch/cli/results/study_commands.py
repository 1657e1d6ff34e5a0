"""`vitsearch studies`: the studies in a folder, what they take on disk, and how to get rid of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vitsearch.core.json_value import json_text
from vitsearch_evaluators.base.printable import printable

app = typer.Typer(help="List studies and their size on disk; delete, clean.")

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
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.callback(invoke_without_command=True)
def studies(context: typer.Context, as_json: AsJson = False) -> None:
    """List studies and their size on disk; delete, clean.

    Without a command: list those in studies/.
    """
    if context.invoked_subcommand is None:
        list_studies(str(FOLDER), as_json)


@app.command("list")
def list_studies(
    place: Annotated[str, typer.Argument(metavar="FOLDER", help="Where the .db files are.")] = str(FOLDER),
    as_json: AsJson = False,
) -> None:
    """List the studies in a folder: trials, last run, size on disk."""
    from vitsearch.cli.results.studies import print_databases
    from vitsearch.errors import StudyError
    from vitsearch.search.admin.housekeeping import PrintedDatabase, databases
    from vitsearch.storage.addresses import masked

    if "://" in place:
        url = masked(place)
        raise StudyError(f"{url} is a database, not a folder; vitsearch status '{url}' shows its study or names them")
    folder = Path(place)
    stored = databases(folder)
    typer.echo(json_text(list(map(PrintedDatabase.of, stored)))) if as_json else print_databases(folder, stored)


@app.command()
def delete(
    study: StudyName,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    force: Annotated[bool, typer.Option("--force", help="End the runs of the study, here and elsewhere.")] = False,
    as_json: AsJson = False,
) -> None:
    """Delete a study; asks first.

    Its results and files go too, unless other studies share its database.
    """
    from vitsearch.cli.results.studies import deletion_text
    from vitsearch.search.admin import housekeeping

    planned = housekeeping.plan_deletion(study)
    if not force:
        housekeeping.refuse_live(planned.study, planned.live_runs)
    if not yes:
        typer.echo(deletion_text(planned), err=True)
        typer.confirm("Delete it?", abort=True, err=True)
    if force and planned.live_runs:
        housekeeping.end_runs(planned, lambda text: typer.echo(text, err=True))
    housekeeping.delete(planned)
    if as_json:
        from vitsearch.cli.printed import PrintedDeletion

        typer.echo(json_text(PrintedDeletion(planned.study, planned.bytes, planned.others)))
        return
    kept = f" Its files in {planned.kept_files} stay." if planned.kept_files else ""
    typer.echo(printable(f"Study {planned.study} was deleted.{kept}"))


@app.command()
def clean(
    study: StudyName,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count what would be deleted.")] = False,
    as_json: AsJson = False,
) -> None:
    """Delete files that no result names.

    Those of results that were dropped, and what killed runs left, copies of models in the folder of the local agent
    among them; of all studies that share the database.
    """
    from vitsearch.cli.results.studies import freed_text
    from vitsearch.search.admin.housekeeping import clean

    freed = clean(study, dry_run)
    if as_json:
        from vitsearch.cli.printed import PrintedCleaning

        typer.echo(json_text(PrintedCleaning(freed.files, freed.bytes, dry_run)))
        return
    typer.echo(freed_text(freed, dry_run))
