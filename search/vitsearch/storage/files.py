"""Where files of a study live: named by the sha256 of their bytes, ``put`` and ``get``, nothing else."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from vitsearch.errors import StoreError
from vitsearch_evaluators.base.canonical_json import file_digest


@dataclass(frozen=True)
class FileStore:
    """A folder that all workers see. Two characters of the digest spread the files over folders.

    Guarantees: what ``put`` named can be read by ``get`` under that name, byte for byte, from every
    worker of the study; a second ``put`` of the same bytes is free; a crash leaves no half file.
    """

    root: Path

    def put(self, path: Path) -> str:
        """Copy the file in and return its sha256."""
        sha256 = file_digest(str(path))
        target = self._path(sha256)
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            handle, partial = tempfile.mkstemp(dir=target.parent, prefix=".partial-")
            os.close(handle)
            try:
                shutil.copyfile(path, partial)
                os.chmod(partial, 0o644)  # mkstemp's 0600 would keep other users' workers out
                os.replace(partial, target)
            except BaseException:
                Path(partial).unlink(missing_ok=True)
                raise
        return sha256

    def get(self, sha256: str) -> Path:
        """A readable local path; :class:`StoreError` when the store does not hold it."""
        path = self._path(sha256)
        if not path.exists():
            raise StoreError(
                f"artifact {sha256[:12]} is not in the store {self.root}: was the folder moved or emptied?"
            )
        return path

    def holds(self, sha256: str) -> bool:
        return self._path(sha256).exists()

    def _path(self, sha256: str) -> Path:
        return self.root / sha256[:2] / sha256[2:]


class Loans:
    """Files of a store that are used once and dropped. Two plans may need the same bytes at the same time: the
    last that returns a file drops it."""

    def __init__(self, store: FileStore) -> None:
        self._store = store
        self._users: Counter[str] = Counter()

    @contextmanager
    def lent(self, sha256: str) -> Iterator[None]:
        """Nobody drops the file meanwhile, should it be there; it stays when its use ends in an error."""
        self._users[sha256] += 1
        try:
            yield
        finally:
            self._users[sha256] -= 1
        if not self._users[sha256] and self._store.holds(sha256):
            self._store.get(sha256).unlink()
