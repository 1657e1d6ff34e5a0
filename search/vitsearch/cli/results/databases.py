"""The output of `vitsearch db`."""

from __future__ import annotations

from vitsearch.cli.tables import counted, disk
from vitsearch.search.admin.copying import Copied, CopiedStudy
from vitsearch.study.database.opening import Prepared
from vitsearch_evaluators.base.printable import printable


def prepared_text(done: Prepared) -> str:
    what = "tables were made" if done.is_new else "all tables are there"
    return printable(f"{done.storage}: {what} (version {done.version}).")


def copied_text(done: Copied) -> str:
    lines = [_study(study) for study in done.studies] or ["No study to copy."]
    files = f"{counted(done.files, 'file')} ({disk(done.files_bytes)})"
    lines.append(f"{counted(done.results, 'result')} and {files} were added to {done.destination}.")
    if done.files_gone:
        gone = counted(done.files_gone, "file")
        lines.append(f"Gone from the store of {done.source}: {gone}. A run that needs them makes them again.")
    return "\n".join(map(printable, lines))


def _study(study: CopiedStudy) -> str:
    trials = counted(study.trials, "trial")
    if not study.is_new:
        return f"Study {study.study} ({trials}) is there already, and is the same."
    waiting = f", of which {study.open} wait for a run there" if study.open else ""
    return f"Study {study.study} was copied: {trials}{waiting}."
