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
    from vitsearch.tasks.classification.confusion import ClassAccuracy


def load_space(path: str | os.PathLike[str], *overrides: str) -> SearchSpace:
    """Read a space file and check everything in it.

    Warns of values that only the overrides made unusable.

    Args:
        path: The file. What it `extends` is read too.
        *overrides: `KEY=VALUE` for single keys, such as `search.trials=3`.

    Returns:
        The file as one frozen value, with every default filled in.

    Raises:
        SpaceError: The file or an override is not valid; lists every problem, among them values that no backbone or
            runtime supports.
    """
    judged = judged_space(path, overrides)
    for warning in judged.warnings:
        warnings.warn(warning, stacklevel=2)
    return judged.require().space


def judged_space(path: str | os.PathLike[str], overrides: Sequence[str]) -> JudgedSpace:
    """Check a space file, for callers that show its problems and warnings themselves.

    Args:
        path: The file.
        overrides: `KEY=VALUE` for single keys.

    Returns:
        The file with its problems and warnings, after everything in it was checked.
    """
    # timm and torch: only for those who load a space
    from vitsearch.backbones.catalogue import Catalogue
    from vitsearch.space import judge

    return judge(path, overrides, Catalogue.examined)


def run(
    space: SearchSpace,
    *,
    ray_address: str | None = None,
    retry_failed: bool = False,
    progress: Progress | None = None,
    observing: Observing | None = None,
) -> SearchEnd:
    """Search until the study is complete, and resume it when it was interrupted.

    Args:
        space: What to search, as `load_space` returns it.
        ray_address: The address (host:port) of a running Ray cluster; default: Ray runs on this machine alone.
        retry_failed: Whether plans that failed in earlier runs are tried again.
        progress: What is told of every step; default: plain lines on standard output.
        observing: What else the run reports to; default: a log file in the folder of the study.

    Returns:
        Why the search stopped (`reason`, as text), and whether the study is complete (`complete`).

    Raises:
        ResourceError: This machine or the cluster lacks what the space file asks for.
        NotReady: A device, a database or a file server does not answer or does not fit, or several do not.
        DataError: The data set cannot be read, or is not that of the study.
        StudyError: The study cannot be resumed with this file.
        DeviceLost: A device stays away for longer than the run waits. The same call resumes.
        KeyboardInterrupt: Ctrl-C; the run has ended cleanly. The same call resumes.
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
    """A study in its database, to read. Each call opens the database and closes it again.

    Attributes:
        where: What `open_study` was called with.
    """

    where: str

    def device(self) -> str:
        """Name the device on which the study was searched.

        Returns:
            Its name in the space file; `local` for the machine of the search.
        """
        from vitsearch.study.lookup import opened  # optuna and sqlalchemy: only for those who read a study

        with opened(self.where) as (study, _):
            return study.space().device_name

    def front(self, device: str | None = None) -> Front:
        """Read the Pareto front: the confirmed models within the limits that nothing dominates.

        Args:
            device: The name of a target of `retarget`; default: the device of the study.

        Returns:
            The models as `points`, cheapest first, beside the `baseline`; `knee` is the index of the balanced one.

        Raises:
            UnknownName: The study has no results on this device, but on others.
            StudyError: The study has results on its own device alone.
        """
        from vitsearch.study.front import read_front  # optuna and sqlalchemy: only for those who read a study
        from vitsearch.study.lookup import opened

        with opened(self.where) as (study, ledger):
            return read_front(study, ledger, device)

    def models(self, device: str | None = None) -> Front:
        """Read the front and all other confirmed models.

        Args:
            device: The name of a target of `retarget`; default: the device of the study.

        Returns:
            The front, with the models that are dominated or break a limit in `others`.

        Raises:
            UnknownName: The study has no results on this device, but on others.
            StudyError: The study has results on its own device alone.
        """
        from vitsearch.study.front import read_models  # optuna and sqlalchemy: only for those who read a study
        from vitsearch.study.lookup import opened

        with opened(self.where) as (study, ledger):
            return read_models(study, ledger, device)

    def nearest(self, device: str | None = None) -> Nearest:
        """Find what came nearest to the limits, for a study in which no model meets them.

        Args:
            device: The name of a target of `retarget`; default: the device of the study.

        Returns:
            The nearest models, nearest first, with the limits that would let them pass.

        Raises:
            UnknownName: The study has no results on this device, but on others.
            StudyError: The study has results on its own device alone.
        """
        from vitsearch.study.lookup import opened  # optuna and sqlalchemy: only for those who read a study
        from vitsearch.study.results.nearest import read_nearest

        with opened(self.where) as (study, ledger):
            return read_nearest(study, ledger, device)

    def conditions(self, points: Sequence[Point]) -> Conditions:
        """Look up under what models were measured last.

        Args:
            points: Models of `front` or `models`.

        Returns:
            The runtime, its version and the batch of the last measurement, by the graph keys of the models. A model
            that was never measured has none.
        """
        from vitsearch.study.lookup import opened  # optuna and sqlalchemy: only for those who read a study
        from vitsearch.study.results.exports import read_conditions

        with opened(self.where) as (study, ledger):
            return read_conditions(ledger, points, study.fleets)

    def show(self, trial: int | str | None) -> TrialDetail:
        """Read one finished trial in full.

        Args:
            trial: The number of a finished trial, `"baseline"` (or None) or `"knee"`.

        Returns:
            Its figures, its place (on the front, dominated by which trials, ...), its limits, file, stages and
            measurements.

        Raises:
            StudyError: There is no such finished trial.
        """
        from vitsearch.storage.stores import store_of  # optuna and sqlalchemy: only for those who read a study
        from vitsearch.study.lookup import opened
        from vitsearch.study.results.detail import read_detail

        number = self._number(trial)
        with opened(self.where) as (study, ledger):
            return read_detail(study, ledger, store_of(ledger), number)

    def class_accuracies(self, trial: int | str | None) -> list[ClassAccuracy]:
        """Read the recall of each class on the validation images for a trial's file.

        Args:
            trial: The number of a finished trial, `"baseline"` (or None) or `"knee"`.

        Returns:
            The accuracy of each class, in the order of the classes, as counted when the file was exported.

        Raises:
            StudyError: There is no such finished trial, or it has no file.
        """
        from vitsearch.study.lookup import opened  # optuna and sqlalchemy: only for those who read a study
        from vitsearch.study.results.detail import read_classes

        number = self._number(trial)
        with opened(self.where) as (study, ledger):
            return read_classes(study, ledger, number)

    def compare(self, first: int | str | None, second: int | str | None, paired: bool = False) -> Comparison:
        """Compare two models, metric by metric.

        Args:
            first: The number of a finished trial, `"baseline"` (or None) or `"knee"`.
            second: The other model, named in the same way.
            paired: Whether the answers of both files on the validation images are computed now, for McNemar's test.

        Returns:
            The metrics of both with intervals of their differences, and the knobs that differ.

        Raises:
            StudyError: There is no such finished trial, or it has no file where answers are computed.
        """
        from vitsearch.study.lookup import find, opened  # optuna and sqlalchemy: only for those who read a study
        from vitsearch.study.results.comparison import read_comparison

        first, second = self._number(first), self._number(second)
        with opened(self.where) as (study, ledger):
            comparison = read_comparison(study, ledger, first, second)
            if not paired:
                return comparison
            from vitsearch.search.predictions import StoredPredictions  # torch: only for those who compute answers

            counted = StoredPredictions(study, ledger, find(self.where).storage).paired(first, second)
            return comparison.with_answers(counted)

    def _number(self, name: int | str | None) -> int | None:
        """The number of a trial that a caller names; None for the baseline."""
        from vitsearch.study.results.model_names import number_of  # optuna and sqlalchemy, as above

        return number_of(name, self.front) if isinstance(name, str) else name

    def explain(self) -> Explanation:
        """Estimate what each knob did to each objective.

        Returns:
            The effects of the knobs with intervals, and how far predicted accuracies were off.
        """
        from vitsearch.study.lookup import opened  # optuna and sqlalchemy: only for those who read a study
        from vitsearch.study.results.explanation import read_explanation

        with opened(self.where) as (study, ledger):
            return read_explanation(study, ledger)

    def to_frame(self) -> pandas.DataFrame:
        """Put all confirmed models into a pandas data frame.

        Returns:
            One row for each model, with its trial as the index: the columns of timm's benchmarks, the knobs, and each
            metric with the ends of its 95 % interval (`..._low`, `..._high`).

        Raises:
            ResourceError: pandas is not installed.
        """
        try:
            import pandas  # optional: only for those who want a frame
        except ImportError:
            raise ResourceError("a data frame needs pandas; run: pip install 'vitsearch[pandas]'") from None
        from vitsearch.study.results.exports import columns, rows

        front = self.models()
        points = (*front.points, *front.others)
        shown = rows(front, points, self.conditions(points))
        return pandas.DataFrame(shown, columns=None if shown else columns(front)).set_index("trial")

    def status(self) -> Status:
        """Count what the study has done so far.

        Returns:
            Outcomes, leaderboard, cost so far and what the study takes on disk, as `vitsearch status --json` prints
            them.
        """
        from vitsearch.search.admin.disk_use import disk_use
        from vitsearch.study.lookup import find, opened  # optuna and sqlalchemy: only for those who read a study
        from vitsearch.study.status import status

        with opened(self.where) as (study, ledger):
            return status(study, ledger, disk=disk_use(find(self.where), ledger))

    def report(self) -> ReportData:
        """Read everything that `vitsearch report` shows.

        Returns:
            The report as one value; the page is drawn from its `to_json()`.
        """
        from vitsearch.report.data import read_report  # optuna and sqlalchemy: only for those who read a study
        from vitsearch.study.lookup import opened

        with opened(self.where) as (study, ledger):
            return read_report(study, ledger, self.where)

    def retarget(self, target: Target, every: bool = False, progress: Progress | None = None) -> Retargeted:
        """Measure the models on another device, or with other threads, another runtime or precision. Nothing is
        trained.

        Stops when no further model is likely to be on the front there. `front(target.name)` reads the result.

        Args:
            target: Where the models are to run.
            every: Whether all models are measured, also those that are unlikely to be on the front.
            progress: What is told of every step; default: nothing.

        Returns:
            The measured `models`, the `predictions` of the others, and the errors of these predictions (`fits`).

        Raises:
            StudyError: The study has no finished model.
            ResourceError: No model can run there.
            UnknownName: There is no such device or runtime.
        """
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
        """Write the bundle of one model, as `vitsearch ship` does. Measures and evaluates what is missing for it.

        Args:
            wanted: The model.
            options: Where the bundle goes and what is in it; default: a folder named after the study and the trial.
            progress: What is told of every step; default: nothing.

        Returns:
            The `folder`, the `archive` (a zip of it) and the `model` with its figures.

        Raises:
            StudyError: There is no such model, or it has no exported file.
            BundleError: A bundle cannot be written there.
            ResourceError: ssh-keygen or a reachable device is missing.
        """
        # optuna, sqlalchemy, and ray where something is missing: only for those who ship
        from vitsearch.pipeline.progress import Silent
        from vitsearch.ship.ship import ShipOptions, ship

        return ship(self.where, wanted, options or ShipOptions(), progress or Silent())


def open_study(where: str | os.PathLike[str]) -> StoredStudy:
    """Open an existing study to read it.

    Args:
        where: Its name (in `studies/`), its space file, or its `.db` file or storage URL, with `#NAME` behind it if
            that holds several.

    Returns:
        The study. Nothing stays open between its calls.

    Raises:
        StudyError: There is no such study.
    """
    from vitsearch.study.lookup import opened  # optuna and sqlalchemy: only for those who read a study

    stored = StoredStudy(os.fspath(where))
    with opened(stored.where):
        return stored
