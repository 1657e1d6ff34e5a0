"""Which studies there are, what they take on disk; delete one; free the files that no result names.

The results of a database (its ledger) and its files are shared by its studies. So a study that is the only one of its
SQLite file is deleted with the file; of several, or on a server, the trials and the own folder of one are deleted, and
the results stay.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Collection, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from vitsearch.errors import StudyError
from vitsearch.search.home import Home
from vitsearch.storage.files import Store, StoredFile, is_unnamed
from vitsearch.storage.ledger import Ledger, StudySummary, files_folder, sqlite_file, summaries
from vitsearch.storage.stores import other_users, store_of
from vitsearch.study.database.opening import delete_study, study_names
from vitsearch.study.lookup import find

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class StoredDatabase:
    """A SQLite file with its studies. ``database_bytes`` and ``files_bytes`` are what all of them take on disk."""

    path: Path
    studies: tuple[StudySummary, ...]
    database_bytes: int
    files_bytes: int

    def to_json(self) -> dict[str, Any]:
        studies = [asdict(one) | {"last_run": _when(one.last_run)} for one in self.studies]
        sizes = {"database_bytes": self.database_bytes, "files_bytes": self.files_bytes}
        return {"database": str(self.path), **sizes, "studies": studies}


def _when(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


@dataclass(frozen=True)
class Freed:
    """Files that were deleted (or would be), and their bytes."""

    files: int
    bytes: int

    def __add__(self, other: Freed) -> Freed:
        return Freed(self.files + other.files, self.bytes + other.bytes)

    def to_json(self) -> dict[str, int]:
        return asdict(self)


@dataclass(frozen=True)
class Deletion:
    """What deleting a study takes away. ``others`` are the studies that stay in its database. ``keeps_results``: so do
    the results of its trials, because others share them, or because the database is on a server."""

    study: str
    storage: str
    summary: StudySummary | None
    bytes: int
    others: tuple[str, ...]
    keeps_results: bool
    kept_files: str | None = None
    """Where files stay that are in no folder of this database."""


def databases(folder: Path) -> list[StoredDatabase]:
    """The databases in ``folder`` that hold a study. They are only read; what cannot be read is left out with a
    warning. Raises :class:`~vitsearch.errors.StudyError` where there is no such folder."""
    if not folder.is_dir():
        raise StudyError(f"{folder} is not a folder; studies are in the folder in which 'vitsearch run' was started")
    found = []
    for path in sorted(folder.glob("*.db")):
        try:
            studies = summaries(path)
        except StudyError as error:
            logger.warning("left out: %s", error)
            continue
        if studies:
            sizes = sum(_size(file) for file in _database_files(path)), _size(path.with_suffix(".files"))
            found.append(StoredDatabase(path, tuple(studies), *sizes))
    return found


def plan_deletion(where: str) -> Deletion:
    """What :func:`delete` would take away. Raises :class:`~vitsearch.errors.StudyError` for a study that does not
    exist, and for one whose files another database has too."""
    found = find(where)
    home, file = Home(files_folder(found.storage).resolve(), found.name), sqlite_file(found.storage)
    known = {one.name: one for one in summaries(file) or []} if file is not None else {}
    names = list(known) if file is not None else study_names(found.storage)
    if found.name not in names:
        place = file or "this database"
        raise StudyError(f"no study {found.name!r} in {place}; it holds: {', '.join(names) or 'none'}")
    others = tuple(name for name in names if name != found.name)
    keeps_results = file is None or bool(others)
    with closing(Ledger.open(found.storage)) as ledger:
        elsewhere = ledger.inventory.files_place()
        is_own_folder = elsewhere is None or not elsewhere.address
        if is_own_folder and not keeps_results and (users := other_users(ledger)):
            raise StudyError(f"the files of {found.storage} are also those of {', '.join(users)}: delete those first")
    size = _size(home.own)
    if file is not None and not others:
        size = sum(_size(path) for path in _database_files(file)) + _size(home.shared)
    return Deletion(
        found.name,
        found.storage,
        known.get(found.name),
        size,
        others,
        keeps_results,
        elsewhere.address or None if elsewhere else None,
    )


def delete(deletion: Deletion) -> None:
    """Delete a study. Raises :class:`~vitsearch.errors.StudyError` while it is run on this machine."""
    file = sqlite_file(deletion.storage)
    home = Home(files_folder(deletion.storage).resolve(), deletion.study)
    if file is not None and not deletion.keeps_results:
        with _alone([home]):
            for path in _database_files(file):
                path.unlink(missing_ok=True)
            shutil.rmtree(home.shared, ignore_errors=True)
        return
    with _alone([home]):
        delete_study(deletion.storage, deletion.study)
        ledger = Ledger.open(deletion.storage)
        try:
            ledger.inventory.forget_runs(deletion.study)
        finally:
            ledger.close()
        shutil.rmtree(home.own, ignore_errors=True)


def clean(where: str, dry_run: bool) -> Freed:
    """Delete the files in the store of a study's database that none of its results names: those of results that were
    dropped, and what killed processes left. With ``dry_run``, count them.

    Raises :class:`~vitsearch.errors.StudyError` while a study of the database is run, here or elsewhere: a run writes a
    file before the result that names it.
    """
    found = find(where)
    shared, file = files_folder(found.storage).resolve(), sqlite_file(found.storage)
    names = study_names(found.storage) if file is None else [one.name for one in summaries(file) or []]
    ledger = Ledger.open(found.storage)
    try:
        with _alone([Home(shared, name) for name in names if (shared / "runs" / name).is_dir()]):
            store = store_of(ledger)
            there = store.unnamed([])  # before it is asked who works and what is named: a file comes before its row
            if claims := ledger.inventory.live_claims():
                running = f"a run on another machine makes {claims} results now"
                raise StudyError(f"study {found.name!r}: {running}; wait until it has ended")
            if others := other_users(ledger):
                shared_with = f"is shared with {', '.join(others)}"
                raise StudyError(f"the store {store.address} {shared_with}: which files those need is not known")
            named = ledger.inventory.named_files()
            unnamed = _freed_of(store, [one for one in there if is_unnamed(one.place, named)], dry_run)
            left = [path for name in names for path in _files(shared / "runs" / name / "scratch")]
            return unnamed + _freed(left, dry_run)
    finally:
        ledger.close()


def _freed_of(store: Store, files: Collection[StoredFile], dry_run: bool) -> Freed:
    for file in files if not dry_run else ():
        store.delete(file)
    return Freed(len(files), sum(file.bytes for file in files))


def _freed(paths: Iterable[Path], dry_run: bool) -> Freed:
    count = size = 0
    for path in paths:
        count, size = count + 1, size + path.stat().st_size
        if not dry_run:
            path.unlink(missing_ok=True)
    return Freed(count, size)


@contextmanager
def _alone(homes: Iterable[Home]) -> Iterator[None]:
    """Keep runs on this machine out for the block."""
    with ExitStack() as closing:
        for home in homes:
            closing.enter_context(home.alone())
        yield


def _database_files(path: Path) -> list[Path]:
    """A SQLite file with its log and index."""
    return [one for one in (path, Path(f"{path}-wal"), Path(f"{path}-shm")) if one.exists()]


def _files(folder: Path) -> Iterator[Path]:
    for where, _, names in os.walk(folder):
        yield from (Path(where, name) for name in names)


def _size(path: Path) -> int:
    """The bytes of a file, or of all files below a folder; 0 where there is none."""
    if path.is_file():
        return path.stat().st_size
    return sum(one.stat().st_size for one in _files(path) if one.is_file())
