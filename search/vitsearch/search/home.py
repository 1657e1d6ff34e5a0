"""The folders of a study, and the lock of the runs that use them."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from vitsearch.errors import StudyError
from vitsearch.pipeline.jobs import Workspace
from vitsearch.space import SearchSpace
from vitsearch.storage.files import FileStore, Store
from vitsearch.storage.ledger import files_folder
from vitsearch_evaluators.base import locks


@dataclass(frozen=True)
class Home:
    """``shared`` belongs to all studies of one database, ``own`` to one of them.

    studies/x.db                   the database, with the results of every stage
    studies/x.files/artifacts/     the files that those results name, unless the database has them elsewhere
    studies/x.files/cache/         decoded images
    studies/x.files/runs/NAME/     of one study: the state of its agent, files that are measured once, the lock, logs
    """

    shared: Path
    study: str

    @classmethod
    def of(cls, space: SearchSpace) -> Home:
        return cls(files_folder(space.storage).resolve(), space.study)

    @property
    def own(self) -> Path:
        return self.shared / "runs" / self.study

    @property
    def agent(self) -> Path:
        return self.own / "agent"

    @property
    def logs(self) -> Path:
        """The log of each run, and stderr of stages that crashed."""
        return self.own / "logs"

    def workspace(self, data: dict[str, Any], store: Store) -> Workspace:
        """What the stages work in, with the data set as workers read it."""
        return Workspace(data, store, FileStore(self.own / "scratch"), self.shared / "cache")

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep runs of this study on this machine out for the block.

        Raises :class:`StudyError` when one is under way, and when the folder cannot be written. Runs on other
        machines may share the database.
        """
        with self._holding(locks.try_lock):
            yield

    @contextmanager
    def running(self, note: Callable[[str], None]) -> Iterator[None]:
        """Be one of the runs of this study on this machine for the block; ``note`` gets a line about another.

        Raises :class:`StudyError` when the folder cannot be written, or when a command uses it alone.
        """
        if other := locks.holder(self._lock):
            note(f"study {self.study!r} is also run {_by(other)}: this run joins it")
        with self._holding(locks.share_lock):
            yield

    @property
    def _lock(self) -> str:
        return os.fspath(self.own / f"{socket.gethostname()}.lock")

    @contextmanager
    def _holding(self, take: Callable[[str, str], IO[Any] | None]) -> Iterator[None]:
        try:
            self.own.mkdir(parents=True, exist_ok=True)
            lock = take(self._lock, self.study)
        except OSError as error:
            raise StudyError(
                f"study {self.study!r}: its files cannot be written to {self.own}: {error.strerror}"
            ) from error
        if lock is None:
            raise StudyError(f"study {self.study!r} is used {_by(locks.holder(self._lock))}")
        with lock:
            yield


def _by(holder: locks.Holder | None) -> str:
    if holder is None:
        return "by another process"
    return f"by {holder.user} (pid {holder.pid} on {holder.host}) since {holder.since}"
