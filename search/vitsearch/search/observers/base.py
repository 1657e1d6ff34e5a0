"""What an observer is: a plugin that reports runs somewhere, and the values that it gets when a run ends."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from vitsearch.pipeline.progress import Progress, Silent
from vitsearch.space import SearchSpace
from vitsearch.storage.ledger import Ledger
from vitsearch.study.front import Front, read_front
from vitsearch.study.study import Study


@dataclass(frozen=True)
class FinalFront:
    """The front of a study by what is measured now, and its hypervolume (None without a reference point)."""

    front: Front
    hypervolume: float | None

    @classmethod
    def read(cls, study: Study, ledger: Ledger) -> FinalFront:
        front = read_front(study, ledger)
        return cls(front, front.hypervolume(study.attributes.get("reference_point") or {}))


@dataclass(frozen=True)
class ShippedModel:
    """A bundle: its `name`, the model card and the `archive`, and the figures that it promises. `trial` is None
    for the baseline."""

    name: str
    trial: int | None
    artifact_key: str
    card: Path
    archive: Path
    figures: Mapping[str, float]


class RunObserver(Progress, Protocol):
    """What is told of one run. Its calls must return at once: what takes longer belongs into a thread."""

    def finished(self, read_front: Callable[[], FinalFront]) -> None:
        """Report that the search has ended, not by an error.

        Args:
            read_front: Reads the front as it is now; to be called before this returns.
        """
        ...


class SilentRun(Silent):
    """A `RunObserver` that does nothing: subclass it and override what is reported."""

    def finished(self, read_front: Callable[[], FinalFront]) -> None:
        pass


class Observer(Protocol):
    """Something that runs report to, made without arguments. Its module is imported when its name is used."""

    def missing(self) -> str | None:
        """Say what has to be installed before the observer can be used.

        Returns:
            A sentence with the command; None when nothing is missing.
        """
        ...

    def observe(
        self, setting: str, space: SearchSpace, note: Callable[[str], None]
    ) -> AbstractContextManager[RunObserver]:
        """Open what a run of a space reports to, and close it after the block.

        Args:
            setting: Where it reports to, as the user wrote it behind `--observer NAME=`.
            space: The space of the run. Its study may not exist yet.
            note: Shows a line to the user, such as an address that was chosen.

        Returns:
            A context manager that gives the observer of the run. Errors of the block pass through it.

        Raises:
            ResourceError: The setting cannot be used. A server that does not answer is no reason: the search goes on.
        """
        ...


@runtime_checkable
class BundleObserver(Observer, Protocol):
    """An observer that also takes what `vitsearch ship` writes."""

    def send_bundle(self, setting: str, space: SearchSpace, front: FinalFront, shipped: ShippedModel) -> None:
        """Add a bundle. It is written by then, so whatever goes wrong here may be raised.

        Args:
            setting: Where to, as the user wrote it behind `--observer NAME=`.
            space: The space of the study.
            front: The front as it is now.
            shipped: The bundle.
        """
        ...
