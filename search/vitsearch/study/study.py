"""A study: Optuna's trials and the attributes stored beside them. The only module that asks and tells Optuna.

Several drivers may have the same study open. Each signs the trials that it runs. Trials of a driver that
died on this machine return to WAITING with their number and parameters, and their finished stages are found in
the ledger. Trials of a driver on another machine are reaped by heartbeat, and their parameters are enqueued again.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, Trial, TrialState

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
from vitsearch.study.database.opening import (
    closed_on_error,
    holds_studies,
    names_in,
    open_tables,
    open_tables_to_read,
    quiet,
)
from vitsearch.study.database.stored_forms import record_of
from vitsearch.study.database.trial_forms import fixed
from vitsearch.study.database.view import StudyView
from vitsearch.study.database.word_lists import WordLists
from vitsearch.study.identity import adopt_space
from vitsearch.study.plan_pool import PlanParameters
from vitsearch.study.sampling import PlanSpace
from vitsearch.study.suggest import OptunaSuggest, StoredAnswers, make_sampler
from vitsearch.study.time_left import Span

TRAINS = "trains"
"""The user attribute with the weights that a trial trains, from the moment at which it was chosen."""
DRIVER = "driver"
"""The user attribute with the driver that runs a trial."""
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Asked:
    """An open trial. `record` is set when there is nothing to run: the file no longer has a choice that was drawn.
    `notes` are what Optuna and the sampler have noted of it now; nothing of one that was asked before.
    `is_proposal`: the sampler has drawn all of it."""

    trial: Trial
    record: Record | None
    plan: Any
    notes: Mapping[str, Any] = field(default_factory=dict)
    is_proposal: bool = True

    @property
    def number(self) -> int:
        return self.trial.number


class Study:
    """Opened by `open` to run it, by `read` to read it, by `change_existing` for all else."""

    def __init__(self, name: str, storage: RDBStorage) -> None:
        self._view = StudyView(storage, name)
        with quiet():
            self._study = optuna.load_study(study_name=name, storage=self._view)
        self._metric_names = self._study.metric_names or []
        self._lock = threading.Lock()
        self._word_lists = WordLists(self._view)
        self._records: dict[int, Record] = {}
        self._in_order: dict[int, Record] = {}
        self._times: dict[int, tuple[float, float]] = {}
        self.space_change: SpaceChange | None = None
        """What `open` has changed in the space of a study that was there."""

    @classmethod
    def open(cls, space: SearchSpace) -> Study:
        """Create the study or join it. Other objectives are refused, with the difference."""
        storage = open_tables(space.storage)
        with closed_on_error(storage):
            if space.study not in names_in(storage):
                with quiet():
                    optuna.create_study(
                        study_name=space.study,
                        storage=storage,
                        directions=list(space.objectives.values()),
                        load_if_exists=True,
                    )
            study = cls(space.study, storage)
            study._name_objectives(list(space.objectives))
            study.space_change = adopt_space(study, space)
            study._seed_sampler(space)
        return study

    @classmethod
    def read(cls, storage_url: str, name: str) -> Study:
        """Open an existing study, which stays as it is; `StudyError` lists the studies of the database."""
        if not holds_studies(storage_url):
            raise StudyError(f"no study {name!r} in this database; it holds: none")
        return cls._existing(open_tables_to_read(storage_url), name)

    @classmethod
    def change_existing(cls, storage_url: str, name: str) -> Study:
        """Open an existing study to change it, without a run; raises as `read`."""
        return cls._existing(open_tables(storage_url), name)

    @classmethod
    def _existing(cls, storage: RDBStorage, name: str) -> Study:
        with closed_on_error(storage):
            names = names_in(storage)
            if name not in names:
                raise StudyError(f"no study {name!r} in this database; it holds: {', '.join(names) or 'none'}")
            return cls(name, storage)

    def is_there(self) -> bool:
        """Whether the database still holds the study, which somebody may delete."""
        return self._view.is_there()

    def close(self) -> None:
        """Close the database connections."""
        self._view.close()

    @property
    def name(self) -> str:
        return self._study.study_name

    @property
    def attributes(self) -> Mapping[str, Any]:
        """The stored attributes: space, space_changes, data, devices, fleets, protocol, choices, baseline,
        leaderboard, reference_point, converged, waits; of what was shipped, environments and longer_trainings; and
        retargeted:NAME."""
        return self._view.attributes()

    def remember(self, key: str, value: Any) -> None:
        self._study.set_user_attr(key, value)

    def change(self, key: str, change: Callable[[Any], Any]) -> Any:
        """Store what `change` makes of a stored attribute (None where there is none), and return it. Nobody else can
        change it in between; what only one driver writes is for `remember`."""
        return self._view.change_attribute(key, change)

    def space(self) -> SearchSpace:
        stored = self.attributes.get("space")
        if stored is None:
            raise StudyError(
                f"study {self.name!r} in storage {self._view.storage} has no space: its first run was cut off"
            )
        return SearchSpace.from_json(stored)

    def sample_with(self, sampler: optuna.samplers.BaseSampler) -> None:
        """Propose plans by this sampler from now on."""
        self._study.sampler = sampler

    # ---- asking

    def ask(self, plans: PlanSpace, driver: DriverId, running: Set[Plan] = frozenset()) -> Asked:
        """The next trial: one that waits (enqueued, or left open by a driver that stopped), else a new one. A proposal
        that repeats one of the plans that are `running` is drawn again, at last at random."""
        with self._lock, quiet(), self._view.asking({DRIVER: driver.to_json()}):
            self._word_lists.catch_up()  # after the trials were read: they may have longer lists
            trial = self._study.ask()
            stored = self._view.get_trial(trial._trial_id)
            is_drawn, waited_with = not stored.params, dict(fixed(stored))
            is_proposal = is_drawn and not waited_with
            try:
                suggest = OptunaSuggest(trial, self._word_lists.choices, waited_with)
                plan = plans.plan(suggest)
                notes = stored.system_attrs if is_drawn else {}
                if is_proposal and plan in running:
                    trial, suggest, plan = self._draw_another(trial, plans, running)
                    notes = {}
            finally:
                self._view.write(trial._trial_id)
        if suggest.off_space:
            reason = f"the space file no longer has {', '.join(suggest.off_space)}"
            record = Record("off_space", plan, reason, constraints={"in_space": 1.0})
            return Asked(trial, record, plan, is_proposal=is_proposal)
        return Asked(trial, None, plan, notes, is_proposal)

    def _draw_another(self, trial: Trial, plans: PlanSpace, running: Set[Plan]) -> tuple[Trial, OptunaSuggest, Plan]:
        """Draw the plan of a trial again until it is none of these; the last one drawn where all are."""
        usual = self._study.sampler
        at_random, policy = make_sampler("random", trial.number), POLICY.asking
        try:
            for sampler in [usual] * policy.redraws + [at_random] * policy.redraws_at_random:
                self._study.sampler = sampler
                self._view.forget_params(trial._trial_id)
                trial = Trial(self._study, trial._trial_id)
                suggest = OptunaSuggest(trial, self._word_lists.choices)
                plan = plans.plan(suggest)
                if plan not in running:
                    break
            return trial, suggest, plan
        finally:
            self._study.sampler = usual

    def enqueue(self, parameters: Mapping[str, Any], why: str, again: bool = False) -> None:
        """Ask these parameters next, unless a trial has them; with `again`, unless a waiting trial has them."""
        asked = dict(parameters)
        with quiet():
            if again and any(fixed(trial) == asked for trial in self._trials((TrialState.WAITING,))):
                return
            if not again and self._view.holds(asked):
                return
            self._study.enqueue_trial(asked, user_attrs={"enqueued": why})

    def claim_training(self, number: int, weights_key: str, most: int) -> bool:
        """Whether the trial `number` may be trained: all drivers together train `most` weights. Weights that are
        trained already, or are being trained, take no more. A trial that another driver has taken for lost may not."""
        with self._lock, quiet():
            running = self._running(number)
            return running is not None and self._view.claim(running, TRAINS, weights_key, most)

    def holds_training(self, number: int) -> bool:
        """Whether the trial `number`, which runs here, is one of those that may be trained: perhaps for a driver that
        has left it."""
        return self._view.own_has(number, TRAINS)

    def _running(self, number: int) -> int | None:
        """The id of a trial that runs; None where it does not."""
        running = self._trials((TrialState.RUNNING,))
        return next((trial._trial_id for trial in running if trial.number == number), None)

    def trained_elsewhere(self) -> int:
        """How many trials other drivers train now."""
        return sum(TRAINS in trial.user_attrs for trial in self._view.running_elsewhere())

    def runs_elsewhere(self) -> bool:
        """Whether other drivers run trials, as far as the study was read last."""
        return bool(self._view.running_elsewhere())

    def plans_elsewhere(self, plans: PlanSpace) -> set[Plan]:
        """The plans of the trials that other drivers run."""
        known, parameters = plans.backbones(), PlanParameters(plans)
        running = [trial.params for trial in self._view.running_elsewhere() if trial.params]
        return {parameters.plan(drawn) for drawn in running if drawn.get("backbone", known[0]) in known}

    def has_other_driver_here(self) -> bool:
        """Whether another driver on this machine runs trials, as far as the study was read last."""
        owners = (trial.user_attrs.get(DRIVER) for trial in self._view.running_elsewhere())
        return any(DriverId.from_json(owner).lives_here() for owner in owners if owner is not None)

    # ---- telling

    def tell(self, asked: Asked, record: Record) -> bool:
        """Write the record with the state. False for a trial that another driver has ended, which is left unchanged."""
        with self._lock, quiet():
            try:
                asked.trial.set_user_attr("record", record.to_json())
                known = asked.trial.constraints
                for name, value in record.constraints.items():
                    if name not in known:
                        asked.trial.set_constraint(name, value)
                state, values = self._state(record)
                self._study.tell(asked.trial, values=values, state=state)
            except UpdateFinishedTrialError:
                return False
            self._records[asked.number] = record
            return True

    def has_ended(self, asked: Asked) -> bool:
        """Whether the trial has ended, as far as the study was read last: told here, or taken for lost elsewhere."""
        return self._view.get_trial(asked.trial._trial_id).state.is_finished()

    def add(self, plans: PlanSpace, record: Record) -> int:
        """Add a trial that was asked for elsewhere and has ended; return its number."""
        with self._lock, quiet():
            self._word_lists.catch_up()
            answers = StoredAnswers(plans.parameters(record.plan), self._word_lists.choices)
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
            self._records[number] = record_of(record, f"storage {self._view.storage}: record of trial {number}")
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
        for trial in self._trials(FINISHED):
            start, end = trial.datetime_start, trial.datetime_complete
            if trial.number not in self._times and "record" in trial.user_attrs and start and end:
                self._times[trial.number] = start.timestamp(), end.timestamp()
        return dict(sorted(self._times.items()))

    def spans(self, trained: Collection[int]) -> list[Span]:
        """When each finished trial started and ended, in all runs of the study.

        `trained` are the numbers of those whose plan was trained.
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
        """Return an open trial to the queue with its number and parameters, at a clean stop; not one that another
        driver has taken for lost and ended."""
        with self._lock, suppress(UpdateFinishedTrialError):
            self._view.set_trial_state_values(asked.trial._trial_id, TrialState.WAITING)

    def recover(self) -> int:
        """Return the trials of dead drivers to the queue; return how many kept their number.

        Those of this machine come first: once they are found stale they lose their number.
        """
        with self._lock, quiet():
            orphans = [trial for trial in self._trials((TrialState.RUNNING,)) if _is_orphan(trial)]
            taken_back = sum(self._view.take_back(trial, DRIVER) for trial in orphans)
            optuna.storages.fail_stale_trials(self._study)
        return taken_back

    def _name_objectives(self, names: list[str]) -> None:
        """Whoever made the study may not have come so far yet, or was killed before."""
        if not self._metric_names:
            with quiet():
                self._study.set_metric_names(names)
            self._metric_names = names

    def _seed_sampler(self, space: SearchSpace) -> None:
        """Count the runs: with one seed, two of them, and a resumed one, would draw the same plans once more."""
        runs = self.change("runs", lambda stored: (stored or 0) + 1)
        self._study.sampler = make_sampler(space.search.sampler, space.search.seed + runs - 1)

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
    def is_emulated(self) -> bool:
        """Whether the devices of its space are emulated."""
        names = self.space().device_names
        return any(one.latest.kind == "emulated" for name, one in self.devices.items() if name in names)


def _is_orphan(trial: FrozenTrial) -> bool:
    owner = trial.user_attrs.get(DRIVER)
    return owner is not None and DriverId.from_json(owner).is_dead_here()
