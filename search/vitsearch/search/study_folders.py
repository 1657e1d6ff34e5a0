"""The folders of a study, and the lock of the runs that use them."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from vitsearch.core import study_name
from vitsearch.errors import StudyError
from vitsearch.space import SearchSpace
from vitsearch.stages import PseudoLabels, ReferenceModel, Workspace
from vitsearch.storage.files import FileStore, Store
from vitsearch.storage.ledger import files_folder
from vitsearch.storage.ownership_notes import NOTE, adopt_new, has_note
from vitsearch_agent.base import locks


@dataclass(frozen=True)
class StudyFolders:
    """`shared` belongs to all studies of one database, `own` to one of them.

    studies/x.db                   the database, with the results of every stage
    studies/x.files/VITSEARCH.txt  says that the folder is ours
    studies/x.files/artifacts/     the files that those results name, unless the database has them elsewhere
    studies/x.files/cache/         decoded images
    studies/x.files/runs/NAME/     of one study: the state of its agent, files that are measured once, the lock, logs
    """

    shared: Path
    study: str

    @classmethod
    def of(cls, space: SearchSpace) -> StudyFolders:
        return cls(files_folder(space.storage).resolve(), space.study)

    @property
    def own(self) -> Path:
        return self.shared / "runs" / study_name.checked(self.study)

    @property
    def agent(self) -> Path:
        return self.own / "agent"

    @property
    def scratch(self) -> FileStore:
        """Models that are deleted after their measurement, and trainings of bases that go on."""
        return FileStore(self.own / "scratch")

    @property
    def logs(self) -> Path:
        """The log of each run, and stderr of stages that crashed."""
        return self.own / "logs"

    def workspace(self, space: SearchSpace, data: dict[str, Any], store: Store) -> Workspace:
        """What the stages of `space` work in, with the data set as workers read it."""
        section = space.labelled_by
        labels = None if section is None else PseudoLabels(section.network, section.preprocessing)
        return Workspace(
            data,
            store,
            self.scratch,
            self.shared / "cache",
            space.networks,
            labels,
            space.task_source,
            _reference(space),
        )

    # ---- deleting

    @property
    def is_ours(self) -> bool:
        """Whether the shared folder has our note: nothing is deleted in one without it."""
        return has_note(self.shared)

    @property
    def has_own(self) -> bool:
        """Whether the study has a folder in which something may be deleted: with our note above it, behind no link."""
        return self.is_ours and _is_folder(self.shared / "runs") and _is_folder(self.own)

    def paths(self) -> list[Path]:
        """What a run writes into the folder of the study. No link is among them."""
        if not self.has_own:
            return []
        folders = [self.own / name for name in ("agent", "logs", "scratch")]
        locks = [path for path in self.own.glob("*.lock") if path.is_file() and not path.is_symlink()]
        return [*filter(_is_folder, folders), *locks]

    def remove(self) -> None:
        """Delete what runs have written into the folder of the study, and the folder if nothing else is in it."""
        paths = self.paths()
        for path in paths:
            _remove(path)
        if paths:
            _remove_empty(self.own)

    def shared_paths(self) -> list[Path]:
        """What the runs of all studies of the database write into the shared folder."""
        if not self.is_ours:
            return []
        return list(filter(_is_folder, (self.shared / name for name in ("artifacts", "cache", "runs"))))

    def remove_shared(self) -> None:
        """Delete what the runs of all studies of the database have written, and each folder if nothing else is in
        it."""
        if not self.is_ours:
            return
        runs = self.shared / "runs"
        names = [path.name for path in runs.iterdir()] if _is_folder(runs) else []
        for name in names:
            if study_name.is_name(name):
                StudyFolders(self.shared, name).remove()
        if _is_folder(self.shared / "artifacts"):
            FileStore(self.shared / "artifacts").remove_all()
        if _is_folder(self.shared / "cache"):
            _remove(self.shared / "cache")
        _remove_empty(runs)
        if not [path for path in self.shared.iterdir() if path.name != NOTE]:
            (self.shared / NOTE).unlink(missing_ok=True)
            _remove_empty(self.shared)

    # ---- who works here

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep runs of this study on this machine out for the block.

        Raises `StudyError` when one is under way, and when the folder cannot be written. Runs on other
        machines may share the database.
        """
        with self._holding(locks.try_lock):
            yield

    @contextmanager
    def running(self, note: Callable[[str], None]) -> Iterator[None]:
        """Be one of the runs of this study on this machine for the block; `note` gets a line about another.

        Raises `StudyError` when the folder cannot be written, or when a command uses it alone.
        """
        if other := locks.holder(self._lock):
            note(f"another run of study {self.study!r} is active ({_by(other)}); this run joins it")
        with self._holding(locks.share_lock):
            yield

    @property
    def _lock(self) -> str:
        return os.fspath(self.own / f"{socket.gethostname()}.lock")

    @contextmanager
    def _holding(self, take: Callable[[str, str], IO[Any] | None]) -> Iterator[None]:
        try:
            adopt_new(self.shared)
            if link := next((path for path in (self.own.parent, self.own) if path.is_symlink()), None):
                raise StudyError(f"study {self.study!r}: {link} is a link; the folder of a study must not be one")
            self.own.mkdir(parents=True, exist_ok=True)
            lock = take(self._lock, self.study)
        except OSError as error:
            raise StudyError(
                f"study {self.study!r}: its files cannot be written to {self.own}: {error.strerror}"
            ) from error
        if lock is None:
            holder = locks.holder(self._lock)
            raise StudyError(f"study {self.study!r} is used {_by(holder)}; {_advice(holder)}")
        with lock:
            yield


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)  # which follows no link
    else:
        path.unlink(missing_ok=True)


def _remove_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()


def _by(holder: locks.Holder | None) -> str:
    if holder is None:
        return "by another process"
    return f"by {holder.user} (pid {holder.pid} on {holder.host}) since {holder.since}"


def _advice(holder: locks.Holder | None) -> str:
    how = "" if holder is None else f" (kill -INT {holder.pid})"
    return (
        f"wait until that has ended, or stop it with Ctrl-C{how}, then run this command again: nothing is lost, and "
        "the command that was stopped resumes when it is run again"
    )


def _reference(space: SearchSpace) -> ReferenceModel | None:
    model = space.reference
    return None if model is None else ReferenceModel(model.backbone, model.weights)
