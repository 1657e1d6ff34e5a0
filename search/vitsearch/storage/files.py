"""The files of a study, named by the sha256 of their bytes."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from vitsearch.errors import StoreError
from vitsearch.storage.atomic_files import PART, replacing
from vitsearch_evaluators.artifacts import model_files
from vitsearch_evaluators.base.canonical_json import digest, file_digest

MODEL_SUFFIXES = (".onnx", ".xml", ".tflite", ".mlmodel")
"""Of the file that a runtime opens."""


@dataclass(frozen=True)
class StoredModel:
    """A model in a store; ``size_bytes`` is that of all its files."""

    sha256: str
    size_bytes: int


def name_of(path: Path) -> str:
    """The digest under which a store has a file, or a model with the files that belong to it."""
    digests = {name: file_digest(file) for name, file in model_files(str(path)).items()}
    return digest(digests) if len(digests) > 1 else digests.popitem()[1]


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

    def put_model(self, path: Path) -> StoredModel:
        """Copy a model, with the files that belong to it, into the store. One file keeps its digest as its name; the
        name of several is the digest of theirs."""
        sha256 = name_of(path)
        files = {name: Path(file) for name, file in model_files(str(path)).items()}
        for file in reversed(files.values()):  # the model file last: with it the model is complete
            target = self._path(sha256).with_suffix(file.suffix)
            if not target.exists():
                with file.open("rb") as source, replacing(target) as copy:
                    shutil.copyfileobj(source, copy)
        return StoredModel(sha256, sum(file.stat().st_size for file in files.values()))

    def model(self, sha256: str) -> Path:
        """Return the path of a model's file, with its other files beside it. Raises :class:`StoreError` when the store
        does not hold it."""
        found = self.find_model(sha256)
        if found is None:
            raise StoreError(f"model {sha256[:12]} is not in the store {self.root}: was the folder moved or emptied?")
        return found

    def drop_model(self, sha256: str) -> None:
        """Delete a model if it is there."""
        path = self.find_model(sha256)
        for file in model_files(str(path)).values() if path else ():
            Path(file).unlink(missing_ok=True)

    def find_model(self, sha256: str) -> Path | None:
        """The path of a model's file; None when the store does not hold it."""
        paths = (self._path(sha256).with_suffix(suffix) for suffix in MODEL_SUFFIXES)
        return next((path for path in paths if path.exists()), None)

    def get(self, sha256: str) -> Path:
        """Return the local path of a file. Raises :class:`StoreError` when the store does not hold it."""
        path = self._path(sha256)
        if not path.exists():
            raise StoreError(
                f"artifact {sha256[:12]} is not in the store {self.root}: was the folder moved or emptied?"
            )
        return path

    def holds(self, sha256: str) -> bool:
        """Whether the store has the file or the model."""
        return self._path(sha256).exists() or self.find_model(sha256) is not None

    def unnamed(self, named: Collection[str]) -> list[Path]:
        """Files whose digest is none of ``named``, and those that a killed process left unfinished."""
        files = (path for folder in self.root.glob("??") for path in folder.iterdir() if path.is_file())
        return sorted(path for path in files if path.suffix == PART or _digest_of(path) not in named)

    def _path(self, sha256: str) -> Path:
        return self.root / sha256[:2] / sha256[2:]


def _digest_of(path: Path) -> str:
    return path.parent.name + path.name.partition(".")[0]


class ScratchFiles:
    """Models of a store that are deleted after use. Several plans may use the same model at the same time; the last
    one deletes it."""

    def __init__(self, store: FileStore) -> None:
        self._store = store
        self._users: Counter[str] = Counter()

    @contextmanager
    def using(self, sha256: str) -> Iterator[None]:
        """Keep the model, if it exists, for the time of the block. An error in the block keeps it afterwards too."""
        self._users[sha256] += 1
        try:
            yield
        finally:
            self._users[sha256] -= 1
        if not self._users[sha256]:
            self._store.drop_model(sha256)
