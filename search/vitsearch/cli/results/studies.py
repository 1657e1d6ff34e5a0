"""`vitsearch studies`: the studies in a folder, what they take on disk, and how to get rid of it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vitsearch.cli.arguments import FOLDER, AsJson, StudyName, stored_names
from vitsearch.core.json_value import json_text
from vitsearch_agent.base.printable import printable

if TYPE_CHECKING:
    from rich.console import Console

    from vitsearch.search.admin.housekeeping import Deletion, Freed, StoredDatabase
    from vitsearch.search.admin.verifying import StoredDamage

app = typer.Typer(help="List studies and their size on disk; delete, clean.")


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

    Deletes files of dropped results and leftovers of killed runs, including the local agent's copies of models, for
    all studies of the database.
    """
    from vitsearch.search.admin.housekeeping import clean

    freed = clean(study, dry_run)
    if as_json:
        from vitsearch.cli.printed import PrintedCleaning

        typer.echo(json_text(PrintedCleaning(freed.files, freed.bytes, dry_run)))
        return
    typer.echo(freed_text(freed, dry_run))


@app.command()
def verify(
    studies: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[STUDY]...",
            help="Names, .db files or storage URLs; default: all in studies/.",
            show_default=False,
            autocompletion=stored_names,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Read every row and file, and name what is damaged.

    Changes nothing: the next run makes a damaged result or file again where it needs it. Exit code 1 if anything is
    damaged.
    """
    from vitsearch.search.admin.verifying import verify

    damages = list(verify(studies or ()))
    if as_json:
        typer.echo(json_text(damages))
    else:
        typer.echo("\n".join(map(damage_text, damages)) or "Every row and every file is as it was written.")
    if damages:
        raise typer.Exit(1)


def damage_text(damage: StoredDamage) -> str:
    what = " ".join(part for part in (damage.place, damage.key) if part)
    again = "; the next 'vitsearch run' makes it again where it needs it" if damage.made_again else ""
    return printable(f"{damage.database}: {what}: {damage.what}{again}")


def print_databases(folder: Path, databases: Sequence[StoredDatabase], console: Console | None = None) -> None:
    from vitsearch.cli.rows import Rows
    from vitsearch.cli.tables import disk
    from vitsearch.cli.terminal import Terminal

    console = console or Terminal()
    if not databases:
        console.print(printable(f"No study in {folder}; start one with 'vitsearch run SPACE'."), markup=False)
        return
    rows = []
    for database in databases:
        size = disk(database.database_bytes + database.files_bytes)
        for index, study in enumerate(database.studies):
            run = "never" if study.last_run is None else f"{datetime.fromtimestamp(study.last_run, UTC):%Y-%m-%d %H:%M}"
            shown = size if index == 0 else "shared"
            rows.append(
                [study.name, str(study.trials), str(study.models), str(study.open), run, shown, database.path.name]
            )
    headings = ["study", "trials", "models", "open", "last run (UTC)", "on disk", "database"]
    console.print(Rows(headings, rows, ["study"]))
    total = sum(database.database_bytes + database.files_bytes for database in databases)
    console.print(f"{disk(total)} in {folder}", style="dim", markup=False)


def deletion_text(planned: Deletion) -> str:
    """What a person agrees to."""
    from vitsearch.cli.tables import counted, disk

    trials = "" if planned.summary is None else f" with {counted(planned.summary.trials, 'trial')}"
    text = f"Study {planned.study}{trials}: {disk(planned.bytes)} on disk are deleted and cannot be restored."
    if planned.others:
        text += f" The results of its trials stay, because they are shared with {', '.join(planned.others)}."
    elif planned.keeps_results:
        text += " The results of its trials stay in the database."
    if planned.kept_files:
        text += f" Its files in {planned.kept_files} stay."
    return printable(text)


def freed_text(freed: Freed, dry_run: bool) -> str:
    from vitsearch.cli.tables import counted, disk

    if not freed.files:
        return "Every file is named by a result: nothing to delete."
    return f"{counted(freed.files, 'file')}, {disk(freed.bytes)} {'would be' if dry_run else 'were'} deleted."
