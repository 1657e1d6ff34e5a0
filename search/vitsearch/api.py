"""The Python API. ``import vitsearch as vs`` gives these names; everything else is internal."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vitsearch.pipeline.progress import Progress
    from vitsearch.search.driver import SearchEnd
    from vitsearch.ship.choice import Wanted
    from vitsearch.ship.ship import Bundle
    from vitsearch.ship.ship import Options as ShipOptions
    from vitsearch.space import Judged, SearchSpace
    from vitsearch.study.front import Front


def load_space(path: str | os.PathLike[str], *overrides: str) -> SearchSpace:
    """Read a space file and apply ``KEY=VALUE`` overrides.

    Raises :class:`vitsearch.errors.SpaceError` with every problem of the file, among them values that no
    backbone or runtime supports. Warns of values that only the overrides made unusable.
    """
    judged = judged_space(path, overrides)
    for warning in judged.warnings:
        warnings.warn(warning, stacklevel=2)
    return judged.require().space


def judged_space(path: str | os.PathLike[str], overrides: Sequence[str]) -> Judged:
    """A space file with its problems and warnings, after everything in it was checked."""
    # timm and torch: only for those who load a space
    from vitsearch import backbones
    from vitsearch.space import judge

    return judge(path, overrides, backbones.supports)


def run(
    space: SearchSpace, *, address: str | None = None, retry_failed: bool = False, progress: Progress | None = None
) -> SearchEnd:
    """Search until the study is complete, and resume it when it was interrupted.

    ``address`` is that of a running Ray cluster (host:port); ``retry_failed`` tries failed plans again. Reports
    to ``progress`` (default: plain lines on standard output). Ctrl-C ends the run cleanly and raises
    KeyboardInterrupt.
    """
    # ray, optuna and torch: only for those who search
    from vitsearch.pipeline.progress import PlainLines
    from vitsearch.search.run import Options
    from vitsearch.search.run import run as run_space

    return run_space(space, progress or PlainLines(tuple(space.objectives)), Options(address, retry_failed))


@dataclass(frozen=True)
class StoredStudy:
    """A study in its database, to read. Each call opens the database and closes it again."""

    where: str

    def front(self) -> Front:
        """The Pareto front: feasible trained models that nothing dominates, by cost."""
        from vitsearch.study.front import read_front  # optuna and sqlalchemy: only for those who read a study
        from vitsearch.study.lookup import opened

        with opened(self.where) as (study, ledger):
            return read_front(study, ledger)

    def status(self) -> dict[str, Any]:
        """Outcomes, leaderboard and cost so far, as ``vitsearch status --json`` prints them."""
        from vitsearch.study.lookup import opened  # optuna and sqlalchemy: only for those who read a study
        from vitsearch.study.status import status

        with opened(self.where) as (study, ledger):
            return status(study, ledger)

    def ship(
        self,
        wanted: Wanted,
        options: ShipOptions | None = None,
        progress: Progress | None = None,
    ) -> Bundle:
        """Write the bundle of one model, as ``vitsearch ship`` does. Reports to ``progress`` (default: nothing)."""
        # optuna, sqlalchemy, and ray where something is missing: only for those who ship
        from vitsearch.pipeline.progress import Silent
        from vitsearch.ship.ship import Options, ship

        return ship(self.where, wanted, options or Options(), progress or Silent())


def open_study(where: str | os.PathLike[str]) -> StoredStudy:
    """A study by its name (in ``studies/``), its ``.db`` file, its space file, or a storage URL with ``#NAME``.

    Raises :class:`vitsearch.errors.StudyError` where there is none.
    """
    from vitsearch.study.lookup import opened  # optuna and sqlalchemy: only for those who read a study

    stored = StoredStudy(os.fspath(where))
    with opened(stored.where):
        return stored
