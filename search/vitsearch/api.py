"""The Python API. `import vitsearch as vs` gives these names; everything else is internal."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vitsearch.errors import ResourceError

if TYPE_CHECKING:
    import pandas

    from vitsearch.core.confusion import ClassAccuracy
    from vitsearch.pipeline.progress import Progress
    from vitsearch.report.data import ReportData
    from vitsearch.search.driver import SearchEnd
    from vitsearch.search.observers.observe import Observing
    from vitsearch.ship.choice import Wanted
    from vitsearch.ship.ship import Bundle, ShipOptions
    from vitsearch.space import JudgedSpace, SearchSpace
    from vitsearch.study.front import Front, Point
    from vitsearch.study.results.comparison import Comparison
    from vitsearch.study.results.detail import TrialDetail
    from vitsearch.study.results.explanation import Explanation
    from vitsearch.study.results.exports import Conditions
    from vitsearch.study.results.nearest import Nearest
    from vitsearch.study.retargeted import Retargeted, Target
    from vitsearch.study.status import Status


def load_space(path: str | os.PathLike[str], *overrides: str) -> SearchSpace:
    """Read a space file and apply `KEY=VALUE` overrides.

    Raises `vitsearch.errors.SpaceError` with every problem of the file, among them values that no
    backbone or runtime supports. Warns of values that only the overrides made unusable.
    """
    judged = judged_space(path, overrides)
    for warning in judged.warnings:
        warnings.warn(warning, stacklevel=2)
    return judged.require().space


def judged_space(path: str | os.PathLike[str], overrides: Sequence[str]) -> JudgedSpace:
    """A space file with its problems and warnings, after everything in it was checked."""
    # timm and torch: only for those who load a space
    from vitsearch import backbones
    from vitsearch.space import judge

    return judge(path, overrides, backbones.supports)


def run(
    space: SearchSpace,
    *,
    ray_address: str | None = None,
    retry_failed: bool = False,
    progress: Progress | None = None,
    observing: Observing | None = None,
) -> SearchEnd:
    """Search until the study is complete, and resume it when it was interrupted.

    `ray_address` is that of a running Ray cluster (host:port); by default Ray runs on this machine alone.
    `retry_failed` tries failed plans again. Reports to `progress` (default: plain lines on standard output) and to
    what `observing` names (default: a log file in the folder of the study). Ctrl-C ends the run cleanly and raises
    KeyboardInterrupt.
    """
    # ray, optuna and torch: only for those who search
    from vitsearch.pipeline.progress import PlainLines
    from vitsearch.search.observers.observe import Observing
    from vitsearch.search.run import Options
    from vitsearch.search.run import run as run_space

    cluster = None if ray_address in ("", "local") else ray_address  # Ray's words for a cluster of one's own
    options = Options(cluster, retry_failed, observing or Observing())
    return run_space(space, progress or PlainLines(tuple(space.objectives)), options)


@dataclass(frozen=True)
class StoredStudy:
    """A study in its database, to read. Each call opens the database and closes it again."""

    where: str

    def device(self) -> str:
        """The name of the device on which the study was searched; `local` for the machine of the search."""
        from vitsearch.study.lookup import opened  # optuna and sqlalchemy: only for those who read a study

        with opened(self.where) as (study, _):
            return study.space().device_name

    def front(self, device: str | None = None) -> Front:
        """The Pareto front: feasible trained models that nothing dominates, by cost. `device` names a target of
        `retarget`; default: the study's own device."""
        from vitsearch.study.front import read_front  # optuna and sqlalchemy: only for those who read a study
        from vitsearch.study.lookup import opened

        with opened(self.where) as (study, ledger):
            return read_front(study, ledger, device)

    def models(self, device: str | None = None) -> Front:
        """The front with all other trained models in `others`: dominated ones, and those that break a limit."""
        from vitsearch.study.front import read_models  # optuna and sqlalchemy: only for those who read a study
        from vitsearch.study.lookup import opened

        with opened(self.where) as (study, ledger):
            return read_models(study, ledger, device)

    def nearest(self, device: str | None = None) -> Nearest:
        """Where no model is within the limits: what came nearest, and which limit to loosen by how much."""
        from vitsearch.study.lookup import opened  # optuna and sqlalchemy: only for those who read a study
        from vitsearch.study.results.nearest import read_nearest

        with opened(self.where) as (study, ledger):
            return read_nearest(study, ledger, device)

    def conditions(self, points: Sequence[Point]) -> Conditions:
        """Under what models were measured last, by their graph keys."""
        from vitsearch.study.lookup import opened  # optuna and sqlalchemy: only for those who read a study
        from vitsearch.study.results.exports import read_conditions

        with opened(self.where) as (study, ledger):
            return read_conditions(ledger, points, study.fleets)

    def show(self, trial: int | str | None) -> TrialDetail:
        """One finished trial in full: its number, `"baseline"` (or None) or `"knee"`. Raises
        `vitsearch.errors.StudyError` where there is none."""
        from vitsearch.storage.stores import store_of  # optuna and sqlalchemy: only for those who read a study
        from vitsearch.study.lookup import opened
        from vitsearch.study.results.detail import read_detail

        number = self._number(trial)
        with opened(self.where) as (study, ledger):
            return read_detail(study, ledger, store_of(ledger), number)

    def class_accuracies(self, trial: int | str | None) -> list[ClassAccuracy]:
        """What a trial's file finds of each class of the validation images, as it was counted when the file was
        exported. The trial is named as in `show`. Raises `vitsearch.errors.StudyError` where there is no
        file."""
        from vitsearch.study.lookup import opened  # optuna and sqlalchemy: only for those who read a study
        from vitsearch.study.results.detail import read_classes

        number = self._number(trial)
        with opened(self.where) as (study, ledger):
            return read_classes(study, ledger, number)

    def compare(self, first: int | str | None, second: int | str | None, paired: bool = False) -> Comparison:
        """Two models, named as in `show`. `paired` computes the answers of both
        files on the validation images now, for McNemar's test."""
        from vitsearch.study.lookup import find, opened  # optuna and sqlalchemy: only for those who read a study
        from vitsearch.study.results.comparison import read_comparison

        first, second = self._number(first), self._number(second)
        with opened(self.where) as (study, ledger):
            found = read_comparison(study, ledger, first, second)
            if not paired:
                return found
            from vitsearch.search.finished.answers import Answers  # torch: only for those who compute answers

            counted = Answers(study, ledger, find(self.where).storage).paired(first, second)
            return found.with_answers(counted)

    def _number(self, name: int | str | None) -> int | None:
        """The number of a trial that a caller names; None for the baseline."""
        from vitsearch.study.results.model_names import number_of  # optuna and sqlalchemy, as above

        return number_of(name, self.front) if isinstance(name, str) else name

    def explain(self) -> Explanation:
        """What each knob did to each objective, with intervals, and what predicted accuracies were worth."""
        from vitsearch.study.lookup import opened  # optuna and sqlalchemy: only for those who read a study
        from vitsearch.study.results.explanation import read_explanation

        with opened(self.where) as (study, ledger):
            return read_explanation(study, ledger)

    def to_frame(self) -> pandas.DataFrame:
        """All trained models as a pandas data frame: one row for each, with its trial as the index, timm's benchmark
        columns, the knobs, and each metric with the ends of its 95 % interval (`..._low`, `..._high`).

        Raises `vitsearch.errors.ResourceError` where pandas is not installed.
        """
        try:
            import pandas  # optional: only for those who want a frame
        except ImportError:
            raise ResourceError("a data frame needs pandas; run: pip install 'vitsearch[pandas]'") from None
        from vitsearch.study.results.exports import columns, rows

        found = self.models()
        points = (*found.points, *found.others)
        shown = rows(found, points, self.conditions(points))
        return pandas.DataFrame(shown, columns=None if shown else columns(found)).set_index("trial")

    def status(self) -> Status:
        """Outcomes, leaderboard, cost so far and what the study takes on disk, as `vitsearch status --json` prints
        them."""
        from vitsearch.search.finished.disk_use import disk_use
        from vitsearch.study.lookup import find, opened  # optuna and sqlalchemy: only for those who read a study
        from vitsearch.study.status import status

        with opened(self.where) as (study, ledger):
            return status(study, ledger, disk=disk_use(find(self.where), ledger))

    def report(self) -> ReportData:
        """Everything that `vitsearch report` shows; `to_json` is what its page draws from."""
        from vitsearch.report.data import read_report  # optuna and sqlalchemy: only for those who read a study
        from vitsearch.study.lookup import opened

        with opened(self.where) as (study, ledger):
            return read_report(study, ledger, self.where)

    def retarget(self, target: Target, every: bool = False, progress: Progress | None = None) -> Retargeted:
        """Measure the models on another device, or with other threads, another runtime or precision, until no other is
        likely to be on the front there (or `every` model). Nothing is trained. `front` shows the result under
        `target.name`. Reports to `progress` (default: nothing)."""
        # ray and torch: only for those who measure
        from vitsearch.pipeline.progress import Silent
        from vitsearch.search.retarget.run import retarget

        return retarget(self.where, target, every, progress or Silent())

    def ship(
        self,
        wanted: Wanted,
        options: ShipOptions | None = None,
        progress: Progress | None = None,
    ) -> Bundle:
        """Write the bundle of one model, as `vitsearch ship` does. Reports to `progress` (default: nothing)."""
        # optuna, sqlalchemy, and ray where something is missing: only for those who ship
        from vitsearch.pipeline.progress import Silent
        from vitsearch.ship.ship import ShipOptions, ship

        return ship(self.where, wanted, options or ShipOptions(), progress or Silent())


def open_study(where: str | os.PathLike[str]) -> StoredStudy:
    """A study by its name (in `studies/`), its space file, or its `.db` file or storage URL, with `#NAME` behind
    it if that holds several.

    Raises `vitsearch.errors.StudyError` where there is none.
    """
    from vitsearch.study.lookup import opened  # optuna and sqlalchemy: only for those who read a study

    stored = StoredStudy(os.fspath(where))
    with opened(stored.where):
        return stored
