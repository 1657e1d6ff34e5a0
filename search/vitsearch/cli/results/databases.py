"""The output of `vitsearch db`."""

from __future__ import annotations

from vitsearch.cli.tables import counted, disk
from vitsearch.search.admin.copying import Copied, CopiedStudy
from vitsearch.storage.ledger import Versions
from vitsearch.study.database.versions import Upgraded
from vitsearch_evaluators.base.printable import printable


def upgraded_text(done: Upgraded) -> str:
    tables = {"results": done.results, "trials": done.trials}
    if not any(versions.is_change for versions in tables.values()):
        known = ", ".join(f"{name} {versions.after}" for name, versions in tables.items())
        return printable(f"{done.storage} is up to date ({known}): nothing to do.")
    return "\n".join(printable(f"{done.storage}: {name} {_change(versions)}") for name, versions in tables.items())


def _change(versions: Versions) -> str:
    if not versions.is_change:
        return f"already at version {versions.after}"
    return f"from {versions.before} to {versions.after}" if versions.before else f"made at version {versions.after}"


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
