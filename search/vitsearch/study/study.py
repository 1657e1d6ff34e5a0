"""A study: its trials and the attributes stored beside them. Optuna draws the plans from a copy in memory.

Several drivers may have the same study open. Each signs the trials that it runs. Trials of a driver that
died on this machine return to WAITING with their number and parameters, and their finished stages are found in
the ledger. Trials of a driver on another machine are reaped by heartbeat, and their parameters are enqueued again.
"""

from __future__ import annotations

import json
import logging
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState

from vitsearch.core.decoding import damaged, parsed
from vitsearch.core.device_identity import NamedDevice, stored_devices
from vitsearch.core.figures import Metrics
from vitsearch.core.fleet import Fleet, stored_fleets
from vitsearch.core.plan import Plan
from vitsearch.core.policy import POLICY
from vitsearch.core.record import PRUNED, Keys, Record
from vitsearch.errors import StudyError
from vitsearch.space import SearchSpace
from vitsearch.space.changes import SpaceChange
from vitsearch.storage.driver_id import DriverId
from vitsearch.storage.ledger import Engine, StudyTable
from vitsearch.study.database.opening import (
    GRACE_S,
    closed_on_error,
    holds_studies,
    open_studies,
    open_studies_to_read,
)
from vitsearch.study.database.optuna_copy import OptunaCopy
from vitsearch.study.database.stored_forms import record_of
from vitsearch.study.database.trial_forms import Parameters, StoredTrial, comparable, drawn_params, frozen
from vitsearch.study.database.view import StudyView
from vitsearch.study.database.word_lists import WordLists
from vitsearch.study.identity import adopt_space, refuse_other_space
from vitsearch.study.places import Places
from vitsearch.study.plan_pool import PlanParameters
from vitsearch.study.sampling import PlanSpace
from vitsearch.study.suggest import OptunaSuggest, StoredAnswers, make_sampler
from vitsearch.study.time_left import TrialSpan

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class OpenTrial:
    """An open trial, and what Optuna calls it. `record` is set when there is nothing to run: the file no longer has a
    choice that was drawn. `notes` are what the sampler has noted of it now; nothing of one that was asked before.
    `is_proposal`: the sampler has drawn all of it."""

    number: int
    trial: Trial
    record: Record | None
    plan: Any
    notes: Mapping[str, Any] = field(default_factory=dict)
    is_proposal: bool = True


class _ListGrew(Exception):
    """A word that no trial had was added to a list while a trial was drawn."""


class Study:
    """Opened by `open` to run it, by `read` to read it, by `change_existing` for all else."""

    def __init__(self, name: str, engine: Engine) -> None:
        self.name = name
        self._view = StudyView(engine, name)
        self._metric_names = list(self._view.objectives)
        self._lock = threading.Lock()
        self._word_lists = WordLists(self._view)
        self._optuna = OptunaCopy(name, self._view.objectives, self._frozen)
        self._lists_of_copy = self._word_lists.revision
        self._records: dict[int, Record] = {}
        self._in_order: dict[int, Record] = {}
        self._times: dict[int, tuple[float, float]] = {}
        self.space_change: SpaceChange | None = None
        """What `open` has changed in the space of a study that was there."""

    @classmethod
    def open(cls, space: SearchSpace) -> Study:
        """Create the study or join it, to go on with this space. Other objectives are refused, with the difference."""
        study = cls.join(space)
        try:
            study.adopt(space)
        except BaseException:
            study.close()
            raise
        return study

    @classmethod
    def join(cls, space: SearchSpace) -> Study:
        """Create the study or join it. It keeps the space that it has: the run may still be refused."""
        engine = open_studies(space.storage)
        with closed_on_error(engine):
            StudyTable(engine).add(space.study, space.objectives)
            study = cls(space.study, engine)
            if "space" in study.attributes:
                refuse_other_space(study, space)
            else:
                adopt_space(study, space)
            study._seed_sampler(space)
        return study

    def adopt(self, space: SearchSpace) -> None:
        """Go on with this space; `space_change` is what it has changed."""
        self.space_change = adopt_space(self, space)

    @classmethod
    def read(cls, storage_url: str, name: str) -> Study:
        """Open an existing study, which stays as it is; `StudyError` lists the studies of the database."""
        if not holds_studies(storage_url):
            raise StudyError(f"no study {name!r} in this database; it holds: none")
        return cls._existing(open_studies_to_read(storage_url), name)

    @classmethod
    def change_existing(cls, storage_url: str, name: str) -> Study:
        """Open an existing study to change it, without a run; raises as `read`."""
        return cls._existing(open_studies(storage_url), name)

    @classmethod
    def _existing(cls, engine: Engine, name: str) -> Study:
        with closed_on_error(engine):
            return cls(name, engine)

    def is_there(self) -> bool:
        """Whether the database still holds the study, which somebody may delete."""
        return self._view.is_there()

    def close(self) -> None:
        """Close the database connections."""
        self._view.close()

    @property
    def attributes(self) -> Mapping[str, Any]:
        """The stored attributes: space, space_changes, data, devices, fleets, protocol, choices, baseline,
        dropped_backbones, leaderboard, reference_point, converged, waits; of what was shipped, environments and
        longer_trainings; and retargeted:NAME."""
        return self._view.attributes()

    def remember(self, key: str, value: Any) -> None:
        self.change(key, lambda _: value)

    def change(self, key: str, change: Callable[[Any], Any]) -> Any:
        """Store what `change` makes of a stored attribute (None where there is none), and return it. Nobody else can
        change it in between; what only one driver writes is for `remember`."""
        return self._view.change_attribute(key, change)

    def space(self) -> SearchSpace:
        stored = self.attributes.get("space")
        if stored is None:
            raise StudyError(
                f"study {self.name!r} in storage {self._view.storage} holds no space file, because its first run was "
                "interrupted; run it again"
            )
        return SearchSpace.from_json(stored)

    def sample_with(self, sampler: optuna.samplers.BaseSampler) -> None:
        """Propose plans by this sampler from now on."""
        self._optuna.sampler = sampler

    # ---- asking

    def ask(self, plans: PlanSpace, driver: DriverId, running: Set[Plan] = frozenset()) -> OpenTrial:
        """The next trial: one that waits (enqueued, or left open by a driver that stopped) and that `plans` has, else a
        new one. One that `plans` lacks waits for a run whose space file has it. A proposal that may not be made
        (`PlanSpace.proposes`) or repeats one of the plans that are `running` is drawn again, at last at random. What
        holds a training comes first: others may wait for it."""
        with self._lock, _quiet():
            queue = self.queue(plans)
            first = [trial.number for trial in queue if trial.trains is not None]
            stored = self._view.start(driver, first or [trial.number for trial in queue])
            number, wanted = stored.number, stored.wanted
            self._word_lists.catch_up()  # after the trials were read: they may have longer lists
            trial, suggest, plan = self._drawn(number, plans, wanted)
            if not wanted and (plan in running or not plans.proposes(plan)):
                trial, suggest, plan = self._draw_another(number, plans, running)
            notes = self._optuna.notes(number)
            self._view.write(number, drawn_params(trial.params, trial.distributions), notes)
        if suggest.off_space:
            reason = f"the space file no longer has {', '.join(suggest.off_space)}"
            record = Record("off_space", plan, reason, constraints={"in_space": 1.0})
            return OpenTrial(number, trial, record, plan, is_proposal=not wanted)
        return OpenTrial(number, trial, None, plan, {} if stored.params else notes, not wanted)

    def _drawn(
        self, number: int, plans: PlanSpace, wanted: Mapping[str, Any] = MappingProxyType({})
    ) -> tuple[Trial, OptunaSuggest, Plan]:
        """Draw a trial. Where a list grows meanwhile, all trials get the longer one first."""
        while True:
            if self._lists_of_copy != self._word_lists.revision:
                self._optuna.forget()
                self._lists_of_copy = self._word_lists.revision
            trial = self._optuna.ask(self._view.trials, number)
            suggest = OptunaSuggest(trial, self._choices, wanted)
            try:
                return trial, suggest, plans.plan(suggest)
            except _ListGrew:
                continue

    def _choices(self, name: str, choices: tuple[str, ...]) -> tuple[str, ...]:
        words = self._word_lists.choices(name, choices)
        if self._lists_of_copy != self._word_lists.revision:
            raise _ListGrew
        return words

    def _draw_another(self, number: int, plans: PlanSpace, running: Set[Plan]) -> tuple[Trial, OptunaSuggest, Plan]:
        """Draw the plan of a trial again until it may be proposed and is none of these; else the last one drawn."""
        usual = self._optuna.sampler
        at_random, policy = make_sampler("random", number), POLICY.asking
        try:
            for sampler in [usual] * policy.redraws + [at_random] * policy.redraws_at_random:
                self._optuna.sampler = sampler
                self._optuna.forget()
                trial, suggest, plan = self._drawn(number, plans)
                if plan not in running and plans.proposes(plan):
                    break
            return trial, suggest, plan
        finally:
            self._optuna.sampler = usual

    def enqueue(self, parameters: Mapping[str, Any], why: str) -> None:
        """Ask these parameters next, unless a waiting trial has them. Trials that run or have ended do not count."""
        if comparable(parameters) not in {comparable(trial.wanted) for trial in self._trials(TrialState.WAITING)}:
            self._view.enqueue(parameters, why)

    def enqueue_untried(self, places: Places, plan: Plan, why: str) -> None:
        """Ask for a plan next, unless a trial has it or waits with it. One that has ended under a file of other choices
        has another plan, though it may have the same parameters."""
        parameters = places.plans.parameters(plan)
        key = comparable(parameters)
        if key in places.tried(self.records()) or key in self._under_way(places.plans):
            return
        self._view.enqueue(parameters, why)

    def _under_way(self, plans: PlanSpace) -> set[Parameters]:
        """The parameters of the trials that run or wait. Of those that run here, whose file is this one, also the
        choices that their numbers count as; of others it is not known between which choices they were drawn."""
        here = _drawn_plans(self._view.running_here(), plans)
        wanted = (trial.wanted for trial in self._view.known_unfinished())
        return {comparable(each) for each in (*wanted, *map(plans.parameters, here))}

    def claim_training(self, number: int, weights_key: str, most: int) -> bool:
        """Whether the trial `number` may be trained: all drivers together train `most` weights. Weights that are
        trained already, or are being trained, take no more. A trial that another driver has taken for lost may not."""
        with self._lock:
            return self._view.claim(number, weights_key, most)

    def holds_training(self, number: int) -> bool:
        """Whether the trial `number`, which runs here, is one of those that may be trained: perhaps for a driver that
        has left it."""
        return self._view.own_trains(number)

    def trained_elsewhere(self) -> int:
        """How many trials other drivers train now."""
        return sum(trial.trains is not None for trial in self._view.running_elsewhere())

    def runs_elsewhere(self) -> bool:
        """Whether other drivers run trials, as far as the study was read last."""
        return bool(self._view.running_elsewhere())

    def plans_elsewhere(self, plans: PlanSpace) -> set[Plan]:
        """The plans of the trials that other drivers run."""
        return _drawn_plans(self._view.running_elsewhere(), plans)

    def has_other_driver_here(self) -> bool:
        """Whether another driver on this machine runs trials, as far as the study was read last."""
        owners = (trial.driver for trial in self._view.running_elsewhere())
        return any(owner.lives_here() for owner in owners if owner is not None)

    # ---- telling

    def tell(self, trial: OpenTrial, record: Record) -> bool:
        """Write the record with the state. False for a trial that another driver has ended, which is left unchanged."""
        with self._lock:
            state, _ = self._state(record)
            if not self._view.finish(trial.number, state, json.dumps(record.to_json())):
                return False
            self._records[trial.number] = record
            return True

    def has_ended(self, trial: OpenTrial) -> bool:
        """Whether the trial has ended, as far as the study was read last: told here, or taken for lost elsewhere."""
        return self._view.trials[trial.number].state.is_finished()

    def add(self, plans: PlanSpace, record: Record) -> int:
        """Add a trial that was asked for elsewhere and has ended; return its number."""
        with self._lock:
            self._word_lists.catch_up()
            answers = StoredAnswers(plans.parameters(record.plan), self._word_lists.choices)
            plans.plan(answers)
            state, _ = self._state(record)
            params = drawn_params(answers.parameters, answers.distributions)
            number = self._view.add(state, params, json.dumps(record.to_json()))
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
        for number, text in self._view.new_records(self._records):
            self._records[number] = self._record(number, text)
        if len(self._in_order) != len(self._records):
            new = sorted(self._records.keys() - self._in_order.keys())
            are_last = new[0] > next(reversed(self._in_order), -1)
            self._in_order = self._in_order | {number: self._records[number] for number in new}
            if not are_last:
                self._in_order = dict(sorted(self._in_order.items()))
        return self._in_order

    def baseline(self) -> Record | None:
        """The baseline as the newest run has measured it; None before that."""
        stored = self.attributes.get("baseline")
        if stored is None:
            return None
        plan, metrics = Plan.from_json(stored["plan"]), Metrics.from_json(stored["metrics"])
        return Record("confirmed", plan, keys=Keys(**stored["keys"]), metrics=metrics)

    def times(self) -> dict[int, tuple[float, float]]:
        """When each finished trial started and ended, by its number: seconds since 1970 by the clock of its driver."""
        self._view.sync()
        for trial in self._view.trials:
            start, end = trial.started_at, trial.ended_at
            if trial.state.is_finished() and trial.record is not None and start is not None and end is not None:
                self._times[trial.number] = start, end
        return dict(sorted(self._times.items()))

    def spans(self, trained: Collection[int]) -> list[TrialSpan]:
        """When each finished trial started and ended, in all runs of the study.

        `trained` are the numbers of those whose plan was trained.
        """
        return [TrialSpan(*times, number in trained) for number, times in self.times().items()]

    def revision(self) -> object:
        """Differs from an earlier one if a trial is new, or has another state."""
        self._view.sync()
        trials = self._view.trials
        return len(trials), tuple(Counter(trial.state.name for trial in trials).items())

    def queue(self, plans: PlanSpace) -> list[StoredTrial]:
        """The trials that wait for a run of these plans: they were enqueued, or left open by a driver that stopped. One
        that was in training belongs to every run: it holds one of the trainings of the study, and ends as `off_space`
        where the file lacks it."""
        return self._of_run(self._trials(TrialState.WAITING), plans)

    def known_queue(self, plans: PlanSpace) -> list[StoredTrial]:
        """The same as the study was read last."""
        return self._of_run(self._view.known_in_state(TrialState.WAITING), plans)

    @staticmethod
    def _of_run(waiting: Sequence[StoredTrial], plans: PlanSpace) -> list[StoredTrial]:
        return [trial for trial in waiting if trial.trains is not None or not plans.lacks(trial.wanted)]

    def waiting_outside(self, plans: PlanSpace) -> dict[int, str]:
        """What the plans lack of the trials that wait for another run, by number."""
        own = {trial.number for trial in self.queue(plans)}
        others = [trial for trial in self._trials(TrialState.WAITING) if trial.number not in own]
        return {trial.number: ", ".join(plans.lacks(trial.wanted)) for trial in others}

    def unfinished(self) -> int:
        return self._view.unfinished()

    def as_optuna(self) -> list[FrozenTrial]:
        """All trials as Optuna knows them, with what else is stored of each as user attributes."""
        self._view.sync()
        self._word_lists.catch_up()
        return [self._frozen(trial, _user_attributes(trial)) for trial in self._view.trials]

    def optuna_storage(self) -> optuna.storages.InMemoryStorage:
        """The study as it is now, for a program that knows Optuna's studies."""
        storage = optuna.storages.InMemoryStorage()
        directions = [StudyDirection[direction.upper()] for direction in self._view.objectives.values()]
        copy = optuna.create_study(storage=storage, study_name=self.name, directions=directions)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", category=optuna.exceptions.ExperimentalWarning)
            copy.set_metric_names(self._metric_names)
        for trial in self.as_optuna():
            copy.add_trial(trial)
        return storage

    def _frozen(self, trial: StoredTrial, user_attrs: Mapping[str, Any] = MappingProxyType({})) -> FrozenTrial:
        values, constraints = None, {}
        if trial.record is not None and trial.state.is_finished():
            record = self._records.get(trial.number) or self._record(trial.number, trial.record)
            values, constraints = self._state(record)[1], record.constraints
        if (trial.state == TrialState.COMPLETE) != (values is not None):
            raise damaged(f"storage {self._view.storage}: trial {trial.number}", "its record is not one of its state")
        return frozen(trial, self._word_lists.of, values, constraints, user_attrs)

    def _record(self, number: int, text: str) -> Record:
        where = f"storage {self._view.storage}: record of trial {number}"
        return record_of(parsed(text, where), where)

    def _trials(self, state: TrialState) -> list[StoredTrial]:
        return self._view.in_state(state)

    # ---- other drivers, and drivers that died

    def beat(self, open_trials: Sequence[OpenTrial]) -> None:
        """Record a heartbeat for these trials."""
        with self._lock:
            self._view.beat([trial.number for trial in open_trials])

    def release(self, trial: OpenTrial) -> None:
        """Return an open trial to the queue with its number and parameters, at a clean stop; not one that another
        driver has taken for lost and ended."""
        with self._lock:
            self._view.release(trial.number)

    def recover(self) -> int:
        """Return the trials of dead drivers to the queue; return how many kept their number.

        Those of this machine come first: once they are found stale they lose their number.
        """
        with self._lock:
            orphans = [trial for trial in self._trials(TrialState.RUNNING) if _is_orphan(trial)]
            taken_back = sum(self._view.take_back(trial) for trial in orphans)
            self._view.replace_stale(GRACE_S)
        return taken_back

    def _seed_sampler(self, space: SearchSpace) -> None:
        """Count the runs: with one seed, two of them, and a resumed one, would draw the same plans once more."""
        runs = self.change("runs", lambda stored: (stored or 0) + 1)
        self.sample_with(make_sampler(space.search.sampler, space.search.seed + runs - 1))

    # ---- its devices

    @property
    def fleets(self) -> dict[str, Fleet]:
        """The fleets on which models were measured, by device id."""
        return stored_fleets(self.attributes)

    @property
    def devices(self) -> dict[str, NamedDevice]:
        """The devices that have measured for the study, those of `vitsearch retarget` too, by name."""
        return stored_devices(self.attributes)

    @property
    def judged_by(self) -> str:
        """The digest of the images, and of what outputs are judged by, under which evaluations are stored; empty before
        the data was read."""
        return str(self.attributes.get("judged_by", ""))

    @property
    def is_emulated(self) -> bool:
        """Whether the devices of its space are emulated."""
        names = self.space().device_names
        return any(device.latest.kind == "emulated" for name, device in self.devices.items() if name in names)


def _is_orphan(trial: StoredTrial) -> bool:
    return trial.driver is not None and trial.driver.is_dead_here()


def _drawn_plans(trials: Iterable[StoredTrial], plans: PlanSpace) -> set[Plan]:
    """The plans of the trials that are drawn and have a backbone of the file."""
    backbones, parameters = plans.backbones(), PlanParameters(plans)
    drawn = [trial.drawn for trial in trials if trial.params]
    return {parameters.plan(each) for each in drawn if each.get("backbone", backbones[0]) in backbones}


def _user_attributes(trial: StoredTrial) -> dict[str, Any]:
    record = None if trial.record is None else json.loads(trial.record)
    driver = None if trial.driver is None else trial.driver.to_json()
    attributes = {"driver": driver, "trains": trial.trains, "enqueued": trial.enqueued, "record": record}
    return {name: value for name, value in attributes.items() if value is not None}


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence Optuna where a waiting trial asks for a number that the file no longer has."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Fixed parameter .* is out of range")
        yield
