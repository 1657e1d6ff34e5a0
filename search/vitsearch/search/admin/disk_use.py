"""What a study takes on this machine's disks, counted for a second at most."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from vitsearch.errors import StudyError
from vitsearch.search.study_folders import StudyFolders
from vitsearch.storage.files import FileStore
from vitsearch.storage.ledger import Ledger, database_files, files_folder, sqlite_file
from vitsearch.storage.stores import store_of
from vitsearch.study.database.opening import study_names
from vitsearch.study.lookup import StudyLocation
from vitsearch.study.status import DiskUse

COUNT_S = 1.0


def disk_use(location: StudyLocation, ledger: Ledger, count_s: float = COUNT_S) -> DiskUse:
    """Count what is on this machine, for at most `count_s`. Nothing is asked of a server of files."""
    home, file = StudyFolders(files_folder(location.storage).resolve(), location.name), sqlite_file(location.storage)
    count = _Count(time.monotonic() + count_s)
    database = count.sum(path.stat().st_size for path in database_files(file)) if file is not None else None
    try:
        store = store_of(ledger)
    except StudyError:  # the database names no place for files
        store = None
    files = count.sum(stored_file.bytes for stored_file in store.files()) if isinstance(store, FileStore) else None
    agent = count.sum(_sizes(home.agent))
    others = tuple(name for name in study_names(location.storage) if name != location.name)
    return DiskUse(
        database_bytes=database,
        files_bytes=files,
        files_place=store.address if store is not None else None,
        images_bytes=count.sum(_sizes(home.shared / "cache")),
        agent_bytes=agent,
        other_bytes=count.sum(size for path in (home.logs, home.scratch.root) for size in _sizes(path)),
        shared_with=others,
        is_complete=count.is_complete,
    )


class _Count:
    """Sums sizes until a moment (`time.monotonic`)."""

    def __init__(self, until_s: float) -> None:
        self._until_s = until_s
        self.is_complete = True

    def sum(self, sizes: Iterable[int]) -> int:
        total = 0
        for size in sizes:
            if time.monotonic() > self._until_s:
                self.is_complete = False
                break
            total += size
        return total


def _sizes(folder: Path) -> Iterator[int]:
    """The size of each file below a folder; none where there is no folder. No link is followed, and a file that a run
    deletes meanwhile counts nothing."""
    if folder.is_symlink():
        return
    for where, _, names in os.walk(folder):
        for name in names:
            try:
                yield os.lstat(os.path.join(where, name)).st_size
            except OSError:
                continue
