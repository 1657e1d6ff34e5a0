"""The files of studies, named by the sha256 of their bytes: what every store guarantees, and the store in a folder."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from vitsearch.errors import StoreError
from vitsearch.storage.atomic_files import PART, replacing
from vitsearch_evaluators.artifacts import model_files
from vitsearch_evaluators.base.canonical_json import digest, file_digest

MODEL_SUFFIXES = (".onnx", ".xml", ".tflite", ".mlmodel")
"""Of the file that a runtime opens."""


ABOUT = b"""Files of vitsearch studies. The name of a file is the sha256 of its bytes, or of those of a model's files.
The results that name them are in a database; 'vitsearch studies clean' deletes files that no result names.
"""
USERS = "databases"
"""The folder of a store with a note for each database that uses it."""


@dataclass(frozen=True)
class StoredModel:
    """A model in a store; ``size_bytes`` is that of all its files."""

    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class StoredFile:
    """A file of a store by its place there, such as ``ab/cdef.onnx``."""

    place: str
    bytes: int


class Store(Protocol):
    """Where the files of studies are. A value: it travels to the workers with their jobs.

    Guarantees: what ``put`` has stored, ``get`` finds under that name on every machine that reaches the store; a second
    ``put`` of the same bytes copies nothing; a crash leaves no incomplete file under a digest's name. Files are read
    by their path, so ``get`` brings a file to this machine if need be.
    """

    @property
    def address(self) -> str:
        """The store for people: a folder or a URL."""

    @property
    def is_remote(self) -> bool:
        """Whether a server has the files, which may take a minute to answer."""

    def put(self, path: Path) -> str:
        """Store a copy of the file and return its sha256."""

    def put_model(self, path: Path) -> StoredModel:
        """Store a copy of a model, with the files that belong to it. One file keeps its digest as its name; the name of
        several is the digest of theirs."""

    def get(self, sha256: str) -> Path:
        """The path of a file on this machine. Raises :class:`StoreError` when the store does not hold it."""

    def model(self, sha256: str) -> Path:
        """The path of a model's file on this machine, with its other files beside it. Raises :class:`StoreError` when
        the store does not hold it."""

    def holds(self, sha256: str) -> bool:
        """Whether this machine finds the file or the model."""

    def is_shared(self, sha256: str) -> bool:
        """Whether every machine finds it: what only this one has kept does not count."""

    def find_model(self, sha256: str) -> Path | None:
        """The path of a model's file where it is on this machine already, else None."""

    def unnamed(self, named: Collection[str]) -> list[StoredFile]:
        """Files whose digest is none of ``named``, and those that a killed process left unfinished."""

    def delete(self, file: StoredFile) -> None:
        """Delete a file, if it is there."""

    def prepare(self) -> None:
        """Raise :class:`StoreError`, at once, where the store cannot be reached or written."""

    def register(self, database: str, about: str) -> None:
        """Note that a database uses the store; ``about`` is what people read."""

    def users(self) -> dict[str, str]:
        """The databases that use the store, with what people read of each."""


def name_of(path: Path) -> str:
    """The digest under which a store has a file, or a model with the files that belong to it."""
    digests = {name: file_digest(file) for name, file in model_files(str(path)).items()}
    return digest(digests) if len(digests) > 1 else digests.popitem()[1]


def place_of(sha256: str) -> str:
    """Where a store has a file, without the suffix of a model. The first two characters spread files over folders."""
    return f"{sha256[:2]}/{sha256[2:]}"


def is_unnamed(place: str, named: Collection[str]) -> bool:
    """Whether the file at ``place`` of a store is none of ``named``, or unfinished."""
    folder, _, name = place.partition("/")
    return name.endswith(PART) or folder + name.partition(".")[0] not in named


@dataclass(frozen=True)
class FileStore:
    """A :class:`Store` in a folder that all workers see."""

    root: Path

    @property
    def address(self) -> str:
        return str(self.root)

    @property
    def is_remote(self) -> bool:
        return False

    def put(self, path: Path) -> str:
        sha256 = file_digest(str(path))
        self._copy(path, self._path(sha256))
        return sha256

    def put_model(self, path: Path) -> StoredModel:
        sha256 = name_of(path)
        files = [Path(file) for file in model_files(str(path)).values()]
        for file in reversed(files):  # the model file last: with it the model is complete
            self._copy(file, self._path(sha256).with_suffix(file.suffix))
        return StoredModel(sha256, sum(file.stat().st_size for file in files))

    def _copy(self, path: Path, target: Path) -> None:
        if not target.exists():
            with path.open("rb") as source, replacing(target) as copy:
                shutil.copyfileobj(source, copy)

    def model(self, sha256: str) -> Path:
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
        paths = (self._path(sha256).with_suffix(suffix) for suffix in MODEL_SUFFIXES)
        return next((path for path in paths if path.exists()), None)

    def get(self, sha256: str) -> Path:
        path = self.find_file(sha256)
        if path is None:
            raise StoreError(
                f"artifact {sha256[:12]} is not in the store {self.root}: was the folder moved or emptied?"
            )
        return path

    def find_file(self, sha256: str) -> Path | None:
        """The path of a file that is no model; None when the store does not hold it."""
        path = self._path(sha256)
        return path if path.exists() else None

    def holds(self, sha256: str) -> bool:
        return self.find_file(sha256) is not None or self.find_model(sha256) is not None

    def is_shared(self, sha256: str) -> bool:
        return self.holds(sha256)

    def unnamed(self, named: Collection[str]) -> list[StoredFile]:
        files = sorted(path for folder in self.root.glob("??") for path in folder.iterdir() if path.is_file())
        places = [(path.relative_to(self.root).as_posix(), path.stat().st_size) for path in files]
        return [StoredFile(place, size) for place, size in places if is_unnamed(place, named)]

    def delete(self, file: StoredFile) -> None:
        (self.root / file.place).unlink(missing_ok=True)

    def prepare(self) -> None:
        try:
            with replacing(self.root / "README.txt") as note:
                note.write(ABOUT)
        except OSError as error:
            raise StoreError(f"files {self.root} cannot be written: {error.strerror}") from error

    def register(self, database: str, about: str) -> None:
        with replacing(self.root / USERS / database) as note:
            note.write(about.encode())

    def users(self) -> dict[str, str]:
        return {path.name: path.read_text() for path in sorted((self.root / USERS).glob("*")) if path.suffix != PART}

    def _path(self, sha256: str) -> Path:
        return self.root / place_of(sha256)


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
