"""The files of a study, named by the sha256 of their bytes."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from vitsearch.errors import StoreError
from vitsearch.storage.atomic_files import replacing
from vitsearch_evaluators.base.canonical_json import file_digest


@dataclass(frozen=True)
class FileStore:
    """A folder that all workers see. The first two characters of the digest spread the files over subfolders.

    Guarantees: every worker of the study reads with ``get`` the bytes that ``put`` stored under that name; a second
    ``put`` of the same bytes copies nothing; a crash leaves no incomplete file under a digest's name.
    """

    root: Path

    def put(self, path: Path) -> str:
        """Copy the file into the store and return its sha256."""
        sha256 = file_digest(str(path))
        target = self._path(sha256)
        if not target.exists():
            with path.open("rb") as source, replacing(target) as copy:
                shutil.copyfileobj(source, copy)
        return sha256

    def get(self, sha256: str) -> Path:
        """Return the local path of a file. Raises :class:`StoreError` when the store does not hold it."""
        path = self._path(sha256)
        if not path.exists():
            raise StoreError(
                f"artifact {sha256[:12]} is not in the store {self.root}: was the folder moved or emptied?"
            )
        return path

    def holds(self, sha256: str) -> bool:
        """Whether the store has the file."""
        return self._path(sha256).exists()

    def _path(self, sha256: str) -> Path:
        return self.root / sha256[:2] / sha256[2:]


class ScratchFiles:
    """Files of a store that are deleted after use. Several plans may use the same file at the same time; the last
    one deletes it."""

    def __init__(self, store: FileStore) -> None:
        self._store = store
        self._users: Counter[str] = Counter()

    @contextmanager
    def using(self, sha256: str) -> Iterator[None]:
        """Keep the file, if it exists, for the time of the block. An error in the block keeps it afterwards too."""
        self._users[sha256] += 1
        try:
            yield
        finally:
            self._users[sha256] -= 1
        if not self._users[sha256] and self._store.holds(sha256):
            self._store.get(sha256).unlink()
