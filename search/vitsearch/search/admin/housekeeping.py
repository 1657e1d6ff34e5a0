"""Which studies there are, what they take on disk; delete one; free the files that no result names.

Only what a run writes is deleted: the files of a place with our note (`vitsearch.storage.ownership_notes`) that have a
digest as their name, and of the folder of a study what `StudyFolders` names. No link is followed.
The results of a database (its ledger) and its files are shared by its studies. So a study that is the only one of its
SQLite file is deleted with the file; of several, or on a server, the trials and the own folder of one are deleted, and
the results stay.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from vitsearch.errors import StudyError
from vitsearch.search.study_folders import StudyFolders
from vitsearch.storage.files import FileStore, Store, StoredFile, is_digest, is_unnamed
from vitsearch.storage.ledger import (
    Ledger,
    LiveRun,
    StudySummary,
    database_files,
    files_folder,
    sqlite_file,
    summaries,
)
from vitsearch.storage.ownership_notes import NOTE
from vitsearch.storage.stores import other_users, store_of
from vitsearch.study.database.opening import delete_study, study_names
from vitsearch.study.lookup import find
from vitsearch_agent.base import locks
from vitsearch_agent.base.locks import user_name

AGENT_COPIES = ("blobs", "partial")
"""The folders of an agent with copies of models, each named by its digest: whoever needs one sends it again."""
END_S = 180.0
POLL_S = 0.5

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class StoredDatabase:
    """A SQLite file with its studies. `database_bytes` and `files_bytes` are what all of them take on disk."""

    path: Path
    studies: tuple[StudySummary, ...]
    database_bytes: int
    files_bytes: int


@dataclass(frozen=True)
class PrintedSummary:
    """A study of a database."""

    name: str
    """Name of the study."""
    trials: int
    """All trials."""
    models: int
    """Trials with a result."""
    open: int
    """Trials that run or wait."""
    last_run: str | None
    """End of the last run (ISO 8601)."""

    @classmethod
    def of(cls, study: StudySummary) -> PrintedSummary:
        seconds = study.last_run
        last_run = None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
        return cls(study.name, study.trials, study.models, study.open, last_run)


@dataclass(frozen=True)
class PrintedDatabase:
    """A database with its studies."""

    database: Path
    """The .db file."""
    database_bytes: int
    """On disk."""
    files_bytes: int
    """Of the folder of its files."""
    studies: tuple[PrintedSummary, ...]
    """Its studies."""

    @classmethod
    def of(cls, database: StoredDatabase) -> PrintedDatabase:
        studies = tuple(map(PrintedSummary.of, database.studies))
        return cls(database.path, database.database_bytes, database.files_bytes, studies)


@dataclass(frozen=True)
class Freed:
    """Files that were deleted (or would be), and their bytes."""

    files: int
    bytes: int

    def __add__(self, other: Freed) -> Freed:
        return Freed(self.files + other.files, self.bytes + other.bytes)


@dataclass(frozen=True)
class Deletion:
    """What deleting a study takes away. `others` are the studies that stay in its database. `keeps_results`: so do
    the results of its trials, because others share them, or because the database is on a server."""

    study: str
    storage: str
    summary: StudySummary | None
    bytes: int
    others: tuple[str, ...]
    keeps_results: bool
    live_runs: tuple[LiveRun, ...]
    kept_files: str | None = None
    """Where files stay: on another place than beside the database, or in a folder without our note."""


def databases(folder: Path) -> list[StoredDatabase]:
    """The databases in `folder` that hold a study. They are only read; what cannot be read is left out with a
    warning. Raises `StudyError` where there is no such folder."""
    if not folder.is_dir():
        raise StudyError(f"{folder} is not a folder; studies are in the folder in which 'vitsearch run' was started")
    stored = []
    for path in sorted(folder.glob("*.db")):
        try:
            studies = summaries(path)
        except StudyError as error:
            logger.warning("left out: %s", error)
            continue
        if studies:
            sizes = sum(_size(file) for file in database_files(path)), _size(path.with_suffix(".files"))
            stored.append(StoredDatabase(path, tuple(studies), *sizes))
    return stored


def plan_deletion(where: str) -> Deletion:
    """What `delete` would take away. Raises `StudyError` for a study that does not
    exist, and for one whose files another database has too."""
    location = find(where)
    home, file = StudyFolders(files_folder(location.storage).resolve(), location.name), sqlite_file(location.storage)
    if file is not None and file.is_symlink():
        raise StudyError(f"{file} is a link; delete the study in the file to which it leads: {file.resolve()}")
    summaries_by_name = {summary.name: summary for summary in summaries(file) or []} if file is not None else {}
    names = list(summaries_by_name) if file is not None else study_names(location.storage)
    if location.name not in names:
        place = file or "this database"
        raise StudyError(f"no study {location.name!r} in {place}; it holds: {', '.join(names) or 'none'}")
    others = tuple(name for name in names if name != location.name)
    keeps_results = file is None or bool(others)
    with closing(Ledger.to_read(location.storage)) as ledger:
        elsewhere = ledger.inventory.files_place()
        is_own_folder = elsewhere is None or not elsewhere.address
        if is_own_folder and not keeps_results and (users := other_users(ledger)):
            raise StudyError(
                f"the files of {location.storage} are also those of {', '.join(users)}: delete those first"
            )
        live_runs = tuple(ledger.inventory.live_runs(location.name))
    kept = elsewhere.address if elsewhere is not None and elsewhere.address else None
    if home.shared.is_dir() and not home.is_ours:
        kept = str(home.shared)
    size = sum(map(_size, home.paths()))
    if file is not None and not others:
        size = sum(_size(path) for path in (*database_files(file), *home.shared_paths()))
    return Deletion(
        location.name,
        location.storage,
        summaries_by_name.get(location.name),
        size,
        others,
        keeps_results,
        live_runs,
        kept,
    )


def end_runs(deletion: Deletion, note: Callable[[str], None]) -> None:
    """Tell the live runs of a study that it is deleted, and wait until they have ended. `note` gets a line for each.

    Raises `StudyError` when one goes on for `END_S` all the same.
    """
    with closing(Ledger.open(deletion.storage)) as ledger:
        ledger.inventory.request_stop(deletion.study, _by_this_process())
        for run in ledger.inventory.live_runs(deletion.study):
            note(f"waiting until the run {run.describe()} has ended, which takes up to a minute")
        deadline = time.monotonic() + END_S
        while runs := ledger.inventory.live_runs(deletion.study):
            if time.monotonic() > deadline:
                goes_on = f"the run {runs[0].describe()} has not ended"
                raise StudyError(f"study {deletion.study!r}: {goes_on}; end it there first")
            time.sleep(POLL_S)


def delete(deletion: Deletion) -> None:
    """Delete a study: its files before its rows, so that a deletion which was interrupted can be repeated.

    Raises `StudyError`, and deletes nothing, while it is run here or elsewhere.
    """
    file = sqlite_file(deletion.storage)
    home = StudyFolders(files_folder(deletion.storage).resolve(), deletion.study)
    is_whole = file is not None and not deletion.keeps_results
    with _alone([home]):
        with closing(Ledger.to_read(deletion.storage)) as ledger:  # a full disk takes no write before files are gone
            refuse_live(deletion.study, ledger.inventory.live_runs(deletion.study))
        if is_whole and file is not None:
            home.remove_shared()
            if (link := files_folder(deletion.storage)).is_symlink() and not link.exists():
                link.unlink()
            for path in database_files(file):
                path.unlink(missing_ok=True)
            return
        home.remove()
        delete_study(deletion.storage, deletion.study)


def refuse_live(study: str, runs: Sequence[LiveRun]) -> None:
    """Raise `StudyError` where a run of a study goes on."""
    if runs:
        active = f"a run is active ({runs[0].describe()})"
        raise StudyError(f"study {study!r}: {active}; stop it first, or add --force to stop it and delete the study")


def _by_this_process() -> str:
    return f"by {user_name()} on {socket.gethostname()} (vitsearch studies delete --force)"


def clean(where: str, dry_run: bool) -> Freed:
    """Delete the files in the store of a study's database that none of its results names: those of results that were
    dropped, and what killed processes left, copies of models in the folder of the local agent among them. With
    `dry_run`, count them.

    Raises `StudyError` while a study of the database is run, here or elsewhere: a run writes a
    file before the result that names it.
    """
    location = find(where)
    shared, file = files_folder(location.storage).resolve(), sqlite_file(location.storage)
    names = study_names(location.storage) if file is None else [summary.name for summary in summaries(file) or []]
    homes = [StudyFolders(shared, name) for name in names]
    ledger = Ledger.to_read(location.storage)
    try:
        with _alone(homes):
            store = store_of(ledger)
            if not store.is_ours() and not store.is_empty():
                raise StudyError(
                    f"the place {store.address} has no note of vitsearch ({NOTE}), so nothing in it is deleted"
                )
            there = store.unnamed([])  # before it is asked who works and what is named: a file comes before its row
            if claims := ledger.inventory.live_claims():
                running = f"a run on another machine makes {claims} results now"
                raise StudyError(f"study {location.name!r}: {running}; wait until it has ended")
            if others := other_users(ledger):
                shared_with = f"is shared with {', '.join(others)}"
                raise StudyError(f"the store {store.address} {shared_with}: which files those need is not known")
            named = ledger.inventory.named_files()
            unnamed = _freed_of(store, [file for file in there if is_unnamed(file.place, named)], dry_run)
            scratch = [home.scratch for home in homes if home.scratch.root in home.paths()]
            left = sum((_freed_of(folder, folder.unnamed([]), dry_run) for folder in scratch), unnamed)
            agents = [FileStore(home.agent) for home in homes if home.agent in home.paths()]
            return sum((_freed_of(agent, _copies(agent.root), dry_run) for agent in agents), left)
    finally:
        ledger.close()


def _copies(agent: Path) -> list[StoredFile]:
    """The models in the folder of an agent that was killed; one that runs drops its own when it ends."""
    if locks.holder(os.fspath(agent / locks.STATE)) is not None:
        return []
    paths = [path for folder in AGENT_COPIES for path in sorted((agent / folder).glob("*"))]
    return [
        StoredFile(f"{path.parent.name}/{path.name}", path.lstat().st_size)
        for path in paths
        if is_digest(path.name) and path.is_file() and not path.is_symlink()
    ]


def _freed_of(store: Store, files: Collection[StoredFile], dry_run: bool) -> Freed:
    for file in files if not dry_run else ():
        store.delete(file)
    return Freed(len(files), sum(file.bytes for file in files))


@contextmanager
def _alone(homes: Iterable[StudyFolders]) -> Iterator[None]:
    """Keep runs on this machine out for the block."""
    with ExitStack() as closing:
        for home in homes:
            if home.has_own:
                closing.enter_context(home.alone())
        yield


def _size(path: Path) -> int:
    """The bytes of a file, or of all files below a folder; 0 where there is none. No link is followed."""
    if not path.is_dir() or path.is_symlink():
        return path.lstat().st_size if os.path.lexists(path) else 0
    return sum(Path(where, name).lstat().st_size for where, _, names in os.walk(path) for name in names)
