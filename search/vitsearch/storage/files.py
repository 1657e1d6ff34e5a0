"""The files of studies, named by the sha256 of their bytes: what every store guarantees, and the store in a folder."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from vitsearch.errors import StoreError
from vitsearch.storage.atomic_files import PART, replacing
from vitsearch.storage.ownership_notes import NOTE, has_note, is_empty, put_note
from vitsearch_agent.artifacts import model_files
from vitsearch_agent.base.canonical_json import digest, file_digest
from vitsearch_agent.wire.job_spec import ARTIFACT_NAMES, ARTIFACTS

MODEL_SUFFIXES = tuple(Path(names[0]).suffix for names in ARTIFACTS.values())
"""Of the file that a runtime opens."""

USERS = "databases"
"""The folder of a store with a note for each database that uses it."""
TRIED = b"written by vitsearch to try whether it can write here; may be deleted\n"
_DIGEST = re.compile(r"[0-9a-f]{64}")
_SUFFIXES = "|".join(sorted({re.escape(Path(name).suffix) for name in ARTIFACT_NAMES}))
_PLACE = re.compile(rf"[0-9a-f]{{2}}/[0-9a-f]{{62}}({_SUFFIXES})?(-\w+{re.escape(PART)})?")
_DATABASE = re.compile(r"[0-9a-f]{32}")
_compared: dict[Path, tuple[tuple[int, int, int], ...]] = {}
"""Files whose content this process has compared with their names: inode, bytes and time of change of each then."""


@dataclass(frozen=True)
class StoredModel:
    """A model in a store; `size_bytes` is that of all its files."""

    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class StoredFile:
    """A file of a store by its place there, such as `ab/cdef.onnx`."""

    place: str
    bytes: int


class Store(Protocol):
    """Where the files of studies are. A value: it travels to the workers with their jobs.

    Guarantees: what `put` has stored, `get` finds under that name on every machine that reaches the store; a second
    `put` of the same bytes copies nothing; a crash leaves no incomplete file under a digest's name. Files are read
    by their path, so `get` brings a file to this machine if need be. A file whose content is not what its name says is
    none: the store does not hold it, and the next `put` replaces it.
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
        """The path of a file on this machine. Raises `StoreError` when the store does not hold it."""

    def model(self, sha256: str) -> Path:
        """The path of a model's file on this machine, with its other files beside it. Raises `StoreError` when
        the store does not hold it."""

    def holds(self, sha256: str) -> bool:
        """Whether this machine finds the file or the model."""

    def is_shared(self, sha256: str) -> bool:
        """Whether every machine finds it: what only this one has kept does not count."""

    def find_model(self, sha256: str) -> Path | None:
        """The path of a model's file where it is on this machine already, else None."""

    def unnamed(self, named: Collection[str]) -> list[StoredFile]:
        """Files with a digest as their name that is none of `named`, and those that a killed process left
        unfinished. Files with other names are not ours."""

    def delete(self, file: StoredFile) -> None:
        """Delete a file, if it is there."""

    def prepare(self) -> None:
        """Make the place ours, by a note. Raise `StoreError`, at once, where it cannot be reached or written."""

    def try_out(self) -> None:
        """Write one small file at the place and delete it: nothing is left, and the place becomes nobody's. Raise
        `StoreError`, at once, where that fails."""

    def is_ours(self) -> bool:
        """Whether the place has our note: nothing is deleted in one without it."""

    def is_empty(self) -> bool:
        """Whether nothing is at the place."""

    def register(self, database: str, about: str) -> None:
        """Note that a database uses the store; `about` is what people read."""

    def users(self) -> dict[str, str]:
        """The databases that use the store, with what people read of each."""


def name_of(path: Path) -> str:
    """The digest under which a store has a file, or a model with the files that belong to it."""
    digests = {name: file_digest(file) for name, file in model_files(str(path)).items()}
    return digest(digests) if len(digests) > 1 else digests.popitem()[1]


def is_whole(path: Path, sha256: str) -> bool:
    """Whether a file, or a model with the files that belong to it, is there and what its name says. Its content is read
    once in each process, and again when it has changed."""
    try:
        states = [os.stat(file) for file in model_files(str(path)).values()]
        stamps = tuple((state.st_ino, state.st_size, state.st_mtime_ns) for state in states)
        if _compared.get(path) != stamps:
            if name_of(path) != sha256:
                return False
            _compared[path] = stamps
    except OSError:  # a disk may fail to give it
        return False
    return True


def place_of(sha256: str) -> str:
    """Where a store has a file, without the suffix of a model. The first two characters spread files over folders.

    Raises `StoreError` for what is no digest: a database may be anybody's, and this becomes a path.
    """
    if not _DIGEST.fullmatch(sha256):
        raise StoreError(f"the database names a file {sha256[:80]!r}; allowed: a SHA-256, 64 of 0-9 and a-f")
    return f"{sha256[:2]}/{sha256[2:]}"


def is_digest(name: str) -> bool:
    """Whether a name is a SHA-256."""
    return _DIGEST.fullmatch(name) is not None


def is_place(place: str) -> bool:
    """Whether a store writes files there: whole ones, or unfinished ones."""
    return _PLACE.fullmatch(place) is not None


def is_unnamed(place: str, named: Collection[str]) -> bool:
    """Whether the file at a `place` of a store is none of `named`, or unfinished."""
    return place.endswith(PART) or place[:2] + place[3:65] not in named


def user_place(database: str) -> str:
    """Where a store has the note of a database that uses it. Raises `StoreError` for what is no name of one."""
    if not _DATABASE.fullmatch(database):
        raise StoreError(f"the database calls itself {database[:80]!r}; allowed: 32 of 0-9 and a-f")
    return f"{USERS}/{database}"


@dataclass(frozen=True)
class FileStore:
    """A `Store` in a folder that all workers see."""

    root: Path

    @property
    def address(self) -> str:
        return str(self.root)

    @property
    def is_remote(self) -> bool:
        return False

    def put(self, path: Path) -> str:
        sha256 = file_digest(str(path))
        if self.find_file(sha256) is None:
            self._copy(path, self._path(sha256))
        return sha256

    def put_model(self, path: Path) -> StoredModel:
        sha256 = name_of(path)
        files = [Path(file) for file in model_files(str(path)).values()]
        if not is_whole(self._path(sha256).with_suffix(path.suffix), sha256):
            for file in reversed(files):  # the model file last: with it the model is complete
                self._copy(file, self._path(sha256).with_suffix(file.suffix))
        return StoredModel(sha256, sum(file.stat().st_size for file in files))

    def _copy(self, path: Path, target: Path) -> None:
        with path.open("rb") as source, replacing(target) as copy:
            shutil.copyfileobj(source, copy)

    def model(self, sha256: str) -> Path:
        if (path := self.whole_model(sha256)) is None:
            raise self._lacks("model", sha256, self.find_model(sha256))
        return path

    def whole_model(self, sha256: str) -> Path | None:
        """As `find_model`, if its files are what its name says."""
        path = self.find_model(sha256)
        return path if path is not None and is_whole(path, sha256) else None

    def _lacks(self, what: str, sha256: str, path: Path | None) -> StoreError:
        if path is not None and path.exists():
            reason = "its content is not what its name says; the next 'vitsearch run' makes it again"
            return StoreError(f"{what} {sha256[:12]} is damaged: {path}: {reason}")
        return StoreError(f"{what} {sha256[:12]} is not in the store {self.root}: was the folder moved or emptied?")

    def drop_model(self, sha256: str) -> None:
        """Delete a model if it is there."""
        path = self.find_model(sha256)
        for file in model_files(str(path)).values() if path else ():
            Path(file).unlink(missing_ok=True)

    def find_model(self, sha256: str) -> Path | None:
        paths = (self._path(sha256).with_suffix(suffix) for suffix in MODEL_SUFFIXES)
        return next((path for path in paths if os.path.isfile(path)), None)

    def get(self, sha256: str) -> Path:
        if (path := self.find_file(sha256)) is None:
            raise self._lacks("artifact", sha256, self._path(sha256))
        return path

    def find_file(self, sha256: str) -> Path | None:
        """The path of a file that is no model; None when the store does not hold it."""
        path = self._path(sha256)
        return path if is_whole(path, sha256) else None

    def holds(self, sha256: str) -> bool:
        return self.find_file(sha256) is not None or self.whole_model(sha256) is not None

    def is_shared(self, sha256: str) -> bool:
        return self.holds(sha256)

    def unnamed(self, named: Collection[str]) -> list[StoredFile]:
        return [file for file in self.files() if is_unnamed(file.place, named)]

    def files(self) -> Iterator[StoredFile]:
        """The files that a store writes here. No link is followed."""
        for folder in sorted(_entries(self.root), key=lambda entry: entry.name):
            if len(folder.name) == 2 and folder.is_dir(follow_symlinks=False):
                for entry in sorted(_entries(folder.path), key=lambda entry: entry.name):
                    if is_place(place := f"{folder.name}/{entry.name}") and entry.is_file(follow_symlinks=False):
                        yield StoredFile(place, entry.stat(follow_symlinks=False).st_size)

    def delete(self, file: StoredFile) -> None:
        folder, _, name = file.place.partition("/")
        try:
            handle = os.open(self.root / folder, os.O_DIRECTORY | os.O_NOFOLLOW)
        except (FileNotFoundError, NotADirectoryError):
            return
        try:
            os.unlink(name, dir_fd=handle)
        except FileNotFoundError:
            pass
        finally:
            os.close(handle)

    def remove_all(self) -> None:
        """Delete every file that a store writes here, and each folder if nothing else is in it."""
        for file in list(self.files()):
            self.delete(file)
        for path in (self.root / USERS).glob("*"):
            if _DATABASE.fullmatch(path.name):
                path.unlink()
        if has_note(self.root):
            (self.root / NOTE).unlink()
        for folder in (*self.root.glob("*"), self.root):
            with suppress(OSError):  # other files are in it, or it is no folder
                folder.rmdir()

    def prepare(self) -> None:
        try:
            put_note(self.root)
        except OSError as error:
            raise StoreError(f"files {self.root} cannot be written: {error.strerror}") from error

    def try_out(self) -> None:
        folder = nearest_folder(self.root)
        try:
            with tempfile.TemporaryFile(dir=folder) as file:
                file.write(TRIED)
                file.flush()
        except OSError as error:
            raise StoreError(f"files {self.root} cannot be written: {folder}: {error.strerror}") from error

    def is_ours(self) -> bool:
        return has_note(self.root)

    def is_empty(self) -> bool:
        return is_empty(self.root)

    def register(self, database: str, about: str) -> None:
        with replacing(self.root / user_place(database)) as note:
            note.write(about.encode())

    def users(self) -> dict[str, str]:
        notes = [path for path in sorted((self.root / USERS).glob("*")) if _DATABASE.fullmatch(path.name)]
        return {path.name: path.read_text() for path in notes if path.is_file()}

    def _path(self, sha256: str) -> Path:
        return self.root / place_of(sha256)


def nearest_folder(path: Path) -> Path:
    """The path, or the nearest one above it that is there: where what is missing will be made."""
    while not os.path.lexists(path) and path != path.parent:
        path = path.parent
    return path


def _entries(folder: str | Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except (FileNotFoundError, NotADirectoryError):
        return []


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
