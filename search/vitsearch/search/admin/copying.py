"""Copy studies with their results and files from one database into another.

Order of writing: files, results, studies, each study in one transaction. A copy that is interrupted leaves no part of a
study, and what it has written already is found when it is started again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from vitsearch.errors import StudyError
from vitsearch.storage.addresses import masked
from vitsearch.storage.files import Store
from vitsearch.storage.ledger import Destination, Ledger, ResultRows, StudyRows, snapshot, sqlite_file
from vitsearch.storage.stores import adopt_store, store_of
from vitsearch.study.database.opening import study_names
from vitsearch.study.lookup import find_all, find_database
from vitsearch_agent.artifacts import model_files

OF_A_RUN = ("waits",)
"""Attributes of a study that say what a run of it does at the moment."""


@dataclass(frozen=True)
class CopiedStudy:
    """A study in its new database."""

    study: str
    """Name of the study."""
    trials: int
    """All trials."""
    open: int
    """Trials that wait for a run."""
    is_new: bool
    """False where it was there already, with equal trials and runs."""


@dataclass(frozen=True)
class Copied:
    """What a copy has added to a database."""

    source: str
    """The database that was copied, without its password."""
    destination: str
    """The other database, without its password."""
    studies: tuple[CopiedStudy, ...]
    """Each study that was asked for."""
    results: int
    """Results of stages that were added."""
    files: int
    """Files that were added."""
    files_bytes: int
    """Their size."""
    files_gone: int
    """Files that results name and the old store has lost: the stages that make them run again where they are needed."""


def copy(source: str, destination: str, files: str | None = None) -> Copied:
    """Copy a study, or all studies of a database, as they are at this moment; a run of them may go on meanwhile.
    `files` is where the files of a new database go (`adopt_store`).

    Raises `StudyError`, and copies nothing, where the destination has another study of the
    same name.
    """
    (old, name), new = find_all(source), find_database(destination)
    if _place(old) == _place(new):
        raise StudyError(f"{masked(new)} is the database that is copied")
    studies, results = _read(old, name)
    with closing(Ledger.to_read(old)) as old_ledger, closing(Ledger.open(new)) as ledger:
        added = _studies_lacking(studies, new)
        store = adopt_store(ledger, files, os.environ)
        done = _copy_files(results, store_of(old_ledger), store)
        with closing(Destination.open(new)) as written:
            count = written.add_results(results, store.address)
            for study in added:
                written.add_study(study)
    new_names = {study.name for study in added}
    copied = tuple(CopiedStudy(study.name, len(study.trials), study.open, study.name in new_names) for study in studies)
    return Copied(masked(old), masked(new), copied, count, *done)


def _place(storage: str) -> str | Path:
    file = sqlite_file(storage)
    return storage if file is None else file.resolve()


def _read(storage: str, name: str | None) -> tuple[list[StudyRows], ResultRows]:
    """The studies to copy, with the results that they need."""
    names_there = study_names(storage)  # refuses a database of another version
    if name is not None and name not in names_there:
        raise StudyError(f"no study {name!r} in this database; it holds: {', '.join(names_there) or 'none'}")
    with closing(Ledger.to_read(storage)), snapshot(storage) as seen:
        names = seen.names if name is None else [name]
        return [seen.study(study_name, OF_A_RUN) for study_name in names], seen.results(names)


def _studies_lacking(studies: Sequence[StudyRows], storage: str) -> list[StudyRows]:
    """The studies that a database lacks. Raises `StudyError` for those of which it has another version."""
    there = set(study_names(storage))
    with snapshot(storage) as seen:
        stored = {study.name: seen.study(study.name, OF_A_RUN) for study in studies if study.name in there}
    refused = [
        _refusal(study, stored[study.name], storage) for study in studies if stored.get(study.name, study) != study
    ]
    if refused:
        raise StudyError("\n".join(refused))
    return [study for study in studies if study.name not in stored]


def _refusal(here: StudyRows, there: StudyRows, storage: str) -> str:
    place = f"{masked(storage)}#{there.name}"
    return (
        f"{place} is another version of study {here.name!r}: it has {len(there.trials)} trials in {len(there.runs)} "
        f"runs, the one to copy has {len(here.trials)} in {len(here.runs)}. To replace it, run first: "
        f"vitsearch studies delete {place}"
    )


def _copy_files(named: ResultRows, old: Store, new: Store) -> tuple[int, int, int]:
    """Copy the files that a store lacks."""
    copied, gone = [], 0
    for digests, find, put in ((named.files(), old.get, new.put), (named.models(), old.model, new.put_model)):
        for sha256 in digests:
            if new.is_shared(sha256):
                continue
            if old.holds(sha256):
                copied.append(_copy_file(sha256, find, put))
            else:
                gone += 1
    return len(copied), sum(copied), gone


def _copy_file(sha256: str, find: Callable[[str], Path], put: Callable[[Path], object]) -> int:
    put(path := find(sha256))
    return sum(os.path.getsize(file) for file in model_files(str(path)).values())
