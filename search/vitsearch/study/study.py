"""A study: Optuna's trials and the attributes stored beside them. The only module that asks and tells Optuna.

Several drivers may have the same study open. Each signs the trials that it runs. Trials of a driver that
died on this machine return to WAITING with their number and parameters, and their finished stages are found in
the ledger. Trials of a driver on another machine are reaped by heartbeat, and their parameters are enqueued again.
"""

from __future__ import annotations

import logging
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution, distribution_to_json
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, Trial, TrialState

from vitsearch.core.figures import Metrics
from vitsearch.core.fleet import Fleet, stored_fleets
from vitsearch.core.plan import Plan
from vitsearch.core.record import PRUNED, Keys, Record
from vitsearch.data import describe_difference
from vitsearch.errors import StudyError
from vitsearch.space import SearchSpace
from vitsearch.space.changes import SpaceChange
from vitsearch.storage.driver_id import DriverId
from vitsearch.storage.ledger import engine_options, first, tune, wait_for
from vitsearch.storage.ledger.optuna_rows import replace_distribution
from vitsearch.study.sampling import PlanSpace
from vitsearch.study.suggest import OptunaSuggest, StoredAnswers, make_sampler
from vitsearch.study.time_left import Span
from vitsearch.study.versions import refuse_other_versions
from vitsearch.study.view import StudyView, fixed

TRAINS = "trains"
"""The user attribute with the weights that a trial trains, from the moment at which it was chosen."""
HEARTBEAT_S = 60
GRACE_S = 300
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)

optuna.logging.set_verbosity(optuna.logging.ERROR)
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Asked:
    """An open trial. ``record`` is set when there is nothing to run: the file no longer has a choice that was drawn.
    ``notes`` are what Optuna and the sampler have noted of it."""

    trial: Trial
    record: Record | None
    plan: Any
    notes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def number(self) -> int:
        return self.trial.number


class Study:
    """Opened by :meth:`open` to run it, or by :meth:`read` to read it."""

    def __init__(self, name: str, storage: RDBStorage) -> None:
        self._storage = storage
        self._view = StudyView(storage, name)
        with _quiet():
            self._study = optuna.load_study(study_name=name, storage=self._view)
        self._metric_names = self._study.metric_names or []
        self._lock = threading.Lock()
        self._used: dict[str, tuple[str, ...]] = {}
        self._records: dict[int, Record] = {}
        self._in_order: dict[int, Record] = {}
        self._times: dict[int, tuple[float, float]] = {}
        self.space_change: SpaceChange | None = None
        """What :meth:`open` has changed in the space of a study that was there."""

    @classmethod
    def open(cls, space: SearchSpace) -> Study:
        """Create the study or join it. Other objectives are refused, with the difference."""
        storage = _storage(space.storage)
        names = _names(storage)
        if space.study not in names:
            with _quiet():
                optuna.create_study(
                    study_name=space.study,
                    storage=storage,
                    directions=list(space.objectives.values()),
                    load_if_exists=True,
                ).set_metric_names(list(space.objectives))
        study = cls(space.study, storage)
        study._adopt_space(space)
        study._seed_sampler(space)
        return study

    @classmethod
    def read(cls, storage_url: str, name: str) -> Study:
        """Open an existing study; :class:`StudyError` lists the studies of the database."""
        storage = _storage(storage_url)
        names = _names(storage)
        if name not in names:
            raise StudyError(f"no study {name!r} in this database; it holds: {', '.join(names) or 'none'}")
        return cls(name, storage)

    @classmethod
    def names(cls, storage_url: str) -> list[str]:
        """The studies of a database."""
        storage = _storage(storage_url)
        try:
            return _names(storage)
        finally:
            storage.remove_session()
            storage.engine.dispose()

    @classmethod
    def delete(cls, storage_url: str, name: str) -> None:
        """Delete the trials of a study. The results of their stages stay in the database."""
        storage = _storage(storage_url)
        try:
            with _quiet():
                optuna.delete_study(study_name=name, storage=storage)
        finally:
            storage.remove_session()
            storage.engine.dispose()

    def close(self) -> None:
        """Close the database connections."""
        self._view.close()

    @property
    def name(self) -> str:
        return self._study.study_name

    @property
    def attributes(self) -> Mapping[str, Any]:
        """The stored attributes: space, space_changes, data, device_kind, fleets, protocol, choices, baseline,
        leaderboard, reference_point, converged, waits; of what was shipped, environments and longer_trainings; and
        retargeted:NAME."""
        return self._view.attributes()

    def remember(self, key: str, value: Any) -> None:
        self._study.set_user_attr(key, value)

    def change(self, key: str, change: Callable[[Any], Any]) -> Any:
        """Store what ``change`` makes of a stored attribute (None where there is none), and return it. Nobody else can
        change it in between; what only one driver writes is for :meth:`remember`."""
        return self._view.change_attribute(key, change)

    def space(self) -> SearchSpace:
        return SearchSpace.from_json(self.attributes["space"])

    def sample_with(self, sampler: optuna.samplers.BaseSampler) -> None:
        """Propose plans by this sampler from now on."""
        self._study.sampler = sampler

    # ---- asking

    def ask(self, plans: PlanSpace, driver: DriverId) -> Asked:
        """The next trial: one that waits (enqueued, or left open by a driver that stopped), else a new one."""
        with self._lock, _quiet():
            self._catch_up()
            with self._view.asking({"driver": driver.to_json()}):
                trial = self._study.ask()
                try:
                    suggest = OptunaSuggest(trial, self._word_choices)
                    plan = plans.plan(suggest)
                    notes = self._view.get_trial(trial._trial_id).system_attrs
                finally:
                    self._view.write(trial._trial_id)
        if suggest.off_space:
            reason = f"the space file no longer has {', '.join(suggest.off_space)}"
            return Asked(trial, Record("off_space", plan, reason, constraints={"in_space": 1.0}), plan)
        return Asked(trial, None, plan, notes)

    def enqueue(self, parameters: Mapping[str, Any], why: str, again: bool = False) -> None:
        """Ask these parameters next, unless a trial has them; with ``again``, unless a waiting trial has them."""
        asked = dict(parameters)
        with _quiet():
            if again and any(fixed(trial) == asked for trial in self._trials((TrialState.WAITING,))):
                return
            if not again and self._view.holds(asked):
                return
            self._study.enqueue_trial(asked, user_attrs={"enqueued": why})

    def claim_training(self, number: int, weights_key: str, most: int) -> bool:
        """Whether the trial ``number`` may be trained: all drivers together train ``most`` weights. Weights that are
        trained already, or are being trained, take no more."""
        with self._lock, _quiet():
            return self._view.claim(self._running(number), TRAINS, weights_key, most)

    def holds_training(self, number: int) -> bool:
        """Whether the trial ``number``, which runs here, is one of those that may be trained: perhaps for a driver that
        has left it."""
        return self._view.own_has(number, TRAINS)

    def _running(self, number: int) -> int:
        """The id of a trial that runs."""
        return next(trial._trial_id for trial in self._trials((TrialState.RUNNING,)) if trial.number == number)

    def trained_elsewhere(self) -> int:
        """How many trials other drivers train now."""
        return sum(TRAINS in trial.user_attrs for trial in self._view.running_elsewhere())

    # ---- telling

    def tell(self, asked: Asked, record: Record) -> None:
        """Write the record with the state. A trial that another driver has finished is left unchanged."""
        with self._lock, _quiet():
            try:
                asked.trial.set_user_attr("record", record.to_json())
                known = asked.trial.constraints
                for name, value in record.constraints.items():
                    if name not in known:
                        asked.trial.set_constraint(name, value)
                state, values = self._state(record)
                self._study.tell(asked.trial, values=values, state=state)
            except UpdateFinishedTrialError:
                return
            self._records[asked.number] = record

    def add(self, plans: PlanSpace, record: Record) -> int:
        """Add a trial that was asked for elsewhere and has ended; return its number."""
        with self._lock, _quiet():
            self._catch_up()
            answers = StoredAnswers(plans.parameters(record.plan), self._word_choices)
            plans.plan(answers)
            state, values = self._state(record)
            ended = optuna.trial.create_trial(
                state=state,
                values=values,
                params=answers.parameters,
                distributions=answers.distributions,
                user_attrs={"record": record.to_json()},
                constraints=record.constraints,
            )
            number = self._view.get_trial(self._view.create_new_trial(self._view.study_id, ended)).number
            self._records[number] = record
        return number

    def _state(self, record: Record) -> tuple[TrialState, list[float] | None]:
        if record.outcome == "failed":
            return TrialState.FAIL, None
        if record.outcome in PRUNED:
            return TrialState.PRUNED, None
        values = [record.metrics.value(name) for name in self._metric_names]
        if any(value is None for value in values):
            return TrialState.PRUNED, None  # the device did not measure an objective: see the reasons of record.metrics
        return TrialState.COMPLETE, [float(value) for value in values if value is not None]

    # ---- reading

    def records(self) -> Mapping[int, Record]:
        """The records of all finished trials, by number. They do not change; later calls have more of them."""
        for number, record in self._view.ended_with("record", self._records):
            self._records[number] = Record.from_json(record)
        if len(self._in_order) != len(self._records):
            self._in_order = dict(sorted(self._records.items()))
        return self._in_order

    def baseline(self) -> Record | None:
        """The baseline as it was measured first; None before that."""
        stored = self.attributes.get("baseline")
        if stored is None:
            return None
        plan, metrics = Plan.from_json(stored["plan"]), Metrics.from_json(stored["metrics"])
        return Record("confirmed", plan, keys=Keys(**stored["keys"]), metrics=metrics)

    def times(self) -> dict[int, tuple[float, float]]:
        """When each finished trial started and ended, by its number: seconds since 1970 by the clock of its driver."""
        for trial in self._trials(FINISHED):
            start, end = trial.datetime_start, trial.datetime_complete
            if trial.number not in self._times and "record" in trial.user_attrs and start and end:
                self._times[trial.number] = start.timestamp(), end.timestamp()
        return dict(sorted(self._times.items()))

    def spans(self, trained: Collection[int]) -> list[Span]:
        """When each finished trial started and ended, in all runs of the study.

        ``trained`` are the numbers of those whose plan was trained.
        """
        return [Span(*times, number in trained) for number, times in self.times().items()]

    def revision(self) -> object:
        """Differs from an earlier one if a trial is new, or has another state."""
        trials = self._study.get_trials(deepcopy=False)
        return len(trials), tuple(Counter(trial.state.name for trial in trials).items())

    def has_waiting(self) -> bool:
        """Whether a trial was enqueued, or left open by a driver that stopped, and is not asked yet."""
        return bool(self._trials((TrialState.WAITING,)))

    def unfinished(self) -> int:
        return self._view.unfinished()

    def _trials(self, states: Sequence[TrialState]) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False, states=tuple(states))

    # ---- other drivers, and drivers that died

    def beat(self, open_trials: Sequence[Asked]) -> None:
        """Record a heartbeat for these trials."""
        with self._lock:
            self._view.beat([asked.trial._trial_id for asked in open_trials])

    def release(self, asked: Asked) -> None:
        """Return an open trial to the queue with its number and parameters, at a clean stop."""
        with self._lock:
            self._view.set_trial_state_values(asked.trial._trial_id, TrialState.WAITING)

    def recover(self) -> int:
        """Return the trials of dead drivers to the queue; return how many kept their number.

        Those of this machine come first: once they are found stale they lose their number.
        """
        with self._lock, _quiet():
            orphans = [trial for trial in self._trials((TrialState.RUNNING,)) if _is_orphan(trial)]
            for trial in orphans:
                self._view.set_trial_state_values(trial._trial_id, TrialState.WAITING)
            optuna.storages.fail_stale_trials(self._study)
        return len(orphans)

    def _seed_sampler(self, space: SearchSpace) -> None:
        """Count the runs: with one seed, two of them, and a resumed one, would draw the same plans once more."""
        runs = self.change("runs", lambda stored: (stored or 0) + 1)
        self._study.sampler = make_sampler(space.search.sampler, space.search.seed + runs - 1)

    # ---- the space over time

    def _adopt_space(self, space: SearchSpace) -> None:
        stored = self.attributes.get("space")
        if stored == space.to_json():
            return
        if stored is not None:
            before = SearchSpace.from_json(stored)
            _refuse_changes(before, space)
            if (change := SpaceChange.between(before, space, len(self.records()))) is not None:
                self.space_change = change
                self.change("space_changes", lambda known: [*(known or []), change.to_json()])
        self.remember("space", space.to_json())

    def adopt_data(self, description: Mapping[str, Any]) -> None:
        """Store the identity of the study's data; on resume, other data is refused with the difference."""
        stored = self.attributes.get("data")
        if stored is None:
            self.remember("data", dict(description))
            return
        differing = describe_difference(stored, description)
        if differing:
            raise StudyError(
                f"study {self.name!r} was made with other data; give the study another name. "
                f"What differs: {'; '.join(differing)}"
            )

    def adopt_device(self, name: str, kind: str) -> None:
        """Store whether the device is physical or emulated; the other kind is refused: their numbers do not compare."""
        stored = self.attributes.get("device_kind")
        if stored is None:
            self.remember("device_kind", kind)
        elif stored != kind:
            raise StudyError(
                f"study {self.name!r} was measured on {stored} devices, but device {name} is {kind}; "
                f"give the study another name"
            )

    def adopt_fleet(self, fleet: Fleet) -> None:
        """Store the devices on which models are measured, by the id that stands for them in the keys of a trial."""
        self.change("fleets", lambda known: (known or {}) | {fleet.device_id: fleet.to_json()})

    @property
    def fleets(self) -> dict[str, Fleet]:
        """The fleets on which models were measured, by device id."""
        return stored_fleets(self.attributes)

    @property
    def is_emulated(self) -> bool:
        return bool(self.attributes.get("device_kind") == "emulated")

    def _word_choices(self, name: str, choices: tuple[str, ...]) -> tuple[str, ...]:
        """The stored order with new words behind it. Optuna refuses a longer list, so its rows are updated."""
        if set(choices) <= set(self._used.get(name, ())):
            return self._used[name]  # as stored: _catch_up has just compared them
        before: tuple[str, ...] = ()

        def lengthened(stored: dict[str, list[str]] | None) -> dict[str, list[str]]:
            nonlocal before
            before = tuple((stored or {}).get(name, ()))
            return (stored or {}) | {name: [*before, *(choice for choice in choices if choice not in before)]}

        after = tuple(self.change("choices", lengthened)[name])
        if before and after != before:
            self._grow(name, before, after)
        self._used[name] = after
        return after

    def _catch_up(self) -> None:
        """Read the study again when another driver has lengthened a list."""
        stored = self._view.attribute("choices") or {}
        if any(tuple(stored[name]) != used for name, used in self._used.items()):
            self._used.clear()
            self._view.reload()

    def _grow(self, name: str, before: tuple[str, ...], after: tuple[str, ...]) -> None:
        old, new = CategoricalDistribution(before), CategoricalDistribution(after)
        replace_distribution(
            self._storage.engine, self.name, name, distribution_to_json(old), distribution_to_json(new)
        )
        self._view.lengthen(name, old, new)


def _refuse_changes(before: SearchSpace, now: SearchSpace) -> None:
    """Refuse other objectives, data, baseline or devices of a fleet: they make the numbers of a study comparable."""
    fixed = ("objectives", "task.data", "baseline", "fleet")
    broken = [line for line in before.differences(now) if line.startswith(fixed)]
    if before.fleet_names != now.fleet_names:
        was, is_now = (", ".join(space.device_names) for space in (before, now))
        broken.append(f"devices: {was} -> {is_now}")
    if broken:
        raise StudyError(
            f"study {before.study!r} cannot continue with another objective, data set, baseline or fleet; "
            "give the study another name. What differs: " + "; ".join(broken)
        )


def _storage(url: str) -> RDBStorage:
    def requeue(study: optuna.Study, trial: FrozenTrial) -> None:
        # Parameters only: Optuna's own callback would copy the old measurements too.
        study.enqueue_trial(trial.params, user_attrs={"enqueued": f"trial {trial.number} was lost"})

    with _quiet(), first(url, "alembic_version"):  # the last one that Optuna makes
        storage = RDBStorage(
            url,
            engine_kwargs=engine_options(url),
            skip_compatibility_check=True,  # Optuna's own message names a command of Optuna's
            heartbeat_interval=HEARTBEAT_S,
            grace_period=GRACE_S,
            heartbeat_stale_trial_callback=requeue,
        )
    tune(storage.engine)
    refuse_other_versions(storage)
    wait_for(storage.engine)
    return storage


def _names(storage: RDBStorage) -> list[str]:
    """The studies of a database. Optuna's summaries would read all of their trials."""
    return [study.study_name for study in storage.get_all_studies()]


def _is_orphan(trial: FrozenTrial) -> bool:
    owner = trial.user_attrs.get("driver")
    return owner is not None and DriverId.from_json(owner).is_dead_here()


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence Optuna's warnings that heartbeats are experimental and meant for ``Study.optimize``."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", category=optuna.exceptions.ExperimentalWarning)
        warnings.filterwarnings("ignore", message="Heartbeat of storage is supposed")
        # A waiting trial may ask for a number that the file no longer has: it becomes the nearest one.
        warnings.filterwarnings("ignore", message="Fixed parameter .* is out of range")
        yield
