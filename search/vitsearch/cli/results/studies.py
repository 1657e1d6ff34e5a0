"""The output of `vitsearch studies`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from vitsearch.cli.rows import Rows
from vitsearch.cli.tables import counted, disk
from vitsearch.cli.terminal import Terminal
from vitsearch.search.admin.housekeeping import Deletion, Freed, StoredDatabase
from vitsearch_evaluators.base.printable import printable


def print_databases(folder: Path, databases: Sequence[StoredDatabase], console: Console | None = None) -> None:
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
    if not freed.files:
        return "Every file is named by a result: nothing to delete."
    return f"{counted(freed.files, 'file')}, {disk(freed.bytes)} {'would be' if dry_run else 'were'} deleted."
