"""A study in memory: what Optuna's samplers read, kept up to date with the database, and written when a trial is told.

Optuna's own storage reads the study again for each parameter and writes each value of a trial by itself. Here a
finished trial is read once. `StudyView.sync` picks up what other drivers have done; between two of them nothing
is read. What a running trial is given waits in memory until `StudyView.write` or until its state changes, and
is then written in one transaction.
"""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable, Collection, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    check_distribution_compatibility,
)
from optuna.storages import BaseStorage, RDBStorage
from optuna.storages._heartbeat import BaseHeartbeat
from optuna.study import StudyDirection
from optuna.study._frozen import FrozenStudy
from optuna.trial import FrozenTrial, TrialState

from vitsearch.core.decoding import parsed
from vitsearch.storage.addresses import masked
from vitsearch.storage.ledger.optuna_rows import replace_distribution
from vitsearch.storage.ledger.outage import again
from vitsearch.storage.ledger.trial_rows import Facts, TrialRows
from vitsearch.study.database.opening import close_tables
from vitsearch.study.database.stored_forms import attribute_of_study
from vitsearch.study.database.trial_forms import Parameters, comparable, facts_of, fixed, frozen, local, utc, words_of

_FINISHED = tuple(state for state in TrialState if state.is_finished())


@dataclass
class _Unwritten:
    """`replaced`: keys of attributes that are in the database with another value."""

    facts: Facts = field(default_factory=Facts)
    replaced: set[str] = field(default_factory=set)


class StudyView(BaseStorage, BaseHeartbeat):
    """Optuna's storage for the one study that a driver has open. Not for several threads at once."""

    def __init__(self, backend: RDBStorage, study_name: str) -> None:
        self._backend = backend
        self._name = study_name
        self._file = _file_of(backend)
        self.storage = masked(backend.url)
        self.study_id = backend.get_study_id_from_name(study_name)
        self._directions = backend.get_study_directions(self.study_id)
        self._rows = TrialRows(backend.engine, self.study_id)
        self._trials: dict[int, FrozenTrial] = {}
        self._order: list[FrozenTrial] = []
        self._read_to = -1
        self._known: dict[str, BaseDistribution] = {}
        self._ended: list[FrozenTrial] = []
        self._handed_out = 0
        self._asked_for: set[Parameters] = set()
        self._unfinished: set[int] = set()
        self._own: set[int] = set()
        self._unwritten: dict[int, _Unwritten] = {}
        self._attributes: dict[str, tuple[str, Any]] = {}
        self._signature: Mapping[str, Any] | None = None

    # ---- keeping up with the database

    def sync(self) -> None:
        """Read the trials that are new, those whose state has changed and those that run elsewhere."""
        stored = self._rows.states(min([*self._unfinished, self._read_to + 1]))
        known = self._trials
        changed = [
            trial_id
            for trial_id, state in stored.items()
            if trial_id not in known
            or state != known[trial_id].state.name
            or (state == "RUNNING" and trial_id not in self._own)
        ]
        self._take_in(changed)
        self._read_to = max(stored, default=self._read_to)

    @contextmanager
    def asking(self, signature: Mapping[str, Any]) -> Iterator[None]:
        """For asking for a trial. Read nothing inside the block: a trial is drawn from what is known at its start. A
        trial that starts to run gets the user attributes `signature` in the same transaction: a driver that is
        killed at any moment leaves none that nobody owns."""
        self.sync()
        self._signature = signature
        try:
            yield
        finally:
            self._signature = None

    def _sync_outside(self) -> None:
        """Read what is new, unless a trial is being drawn."""
        if self._signature is None:
            self.sync()

    def reload(self) -> None:
        """Read everything again. What is not written yet is kept."""
        stored = self._rows.states(0)
        self._take_in(stored)
        self._read_to = max(stored, default=-1)

    def _take_in(self, trial_ids: Collection[int]) -> None:
        found = [frozen(row, self.storage) for row in self._rows.read(trial_ids)]
        is_known = any(trial._trial_id in self._trials for trial in found)
        for trial in found:
            self._keep(trial)
        if is_known:
            self._sort()

    def _keep(self, trial: FrozenTrial) -> None:
        trial_id = trial._trial_id
        is_next = not self._order or trial.number > self._order[-1].number
        is_new = trial_id not in self._trials
        self._trials[trial_id] = trial
        if is_new and is_next:
            self._order.append(trial)
        elif is_new:
            self._sort()
        for name, distribution in trial.distributions.items():
            if not _is_start_of(distribution, self._known.get(name)):
                self._known[name] = distribution
        if trial.state.is_finished():
            self._ended.append(trial)
            self._asked_for.add(comparable(fixed(trial)))
            self._unfinished.discard(trial_id)
            self._own.discard(trial_id)
            self._unwritten.pop(trial_id, None)
        else:
            self._unfinished.add(trial_id)

    def _sort(self) -> None:
        """By number, as samplers expect it."""
        self._order = sorted(self._trials.values(), key=lambda trial: trial.number)

    # ---- attributes of the study

    def attributes(self) -> Mapping[str, Any]:
        """The user attributes of the study. Each is parsed again only when its text has changed; not to be changed."""
        stored = self._rows.attributes()
        self._attributes = {key: self._parsed(key, text) for key, text in stored.items()}
        return {key: value for key, (_, value) in self._attributes.items()}

    def attribute(self, key: str) -> Any:
        """One of them; None where there is none."""
        text = self._rows.attribute(key)
        if text is None:
            return None
        self._attributes[key] = self._parsed(key, text)
        return self._attributes[key][1]

    def change_attribute(self, key: str, change: Callable[[Any], Any]) -> Any:
        """As `TrialRows.change_attribute`."""
        return self._rows.change_attribute(key, change)

    def _parsed(self, key: str, text: str) -> tuple[str, Any]:
        known = self._attributes.get(key)
        return known if known is not None and known[0] == text else (text, attribute_of_study(key, text, self.storage))

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        return dict(self.attributes())

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        return again(self._backend.get_study_system_attrs)(study_id)

    def set_study_user_attr(self, study_id: int, key: str, value: Any) -> None:
        self._rows.change_attribute(key, lambda _: value)

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        again(self._backend.set_study_system_attr)(study_id, key, value)

    def get_study_id_from_name(self, study_name: str) -> int:
        return again(self._backend.get_study_id_from_name)(study_name)

    def get_study_name_from_id(self, study_id: int) -> str:
        return again(self._backend.get_study_name_from_id)(study_id)

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        return self._directions

    def get_all_studies(self) -> list[FrozenStudy]:
        return again(self._backend.get_all_studies)()

    def create_new_study(self, directions: Sequence[StudyDirection], study_name: str | None = None) -> int:
        return self._backend.create_new_study(directions, study_name)

    def delete_study(self, study_id: int) -> None:
        self._backend.delete_study(study_id)

    # ---- trials

    def get_trial(self, trial_id: int) -> FrozenTrial:
        if trial_id not in self._trials:
            self._take_in([trial_id])
        return self._trials[trial_id]

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        self._sync_outside()
        among = self._order
        if states is not None and not any(state in states for state in _FINISHED):
            among = sorted((self._trials[trial_id] for trial_id in self._unfinished), key=lambda trial: trial.number)
        found = [trial for trial in among if states is None or trial.state in states]
        return copy.deepcopy(found) if deepcopy else found

    def ended_with(self, key: str, known: Container[int]) -> Iterator[tuple[int, Any]]:
        """The number and a user attribute of the finished trials whose number is not `known`. Before anything else of
        the trials was read, this reads nothing else: to make Optuna's trials takes several times as long."""
        if self._read_to == -1:
            return ((number, self._parsed_of(number, key, words)) for number, words in self._rows.ended(key, known))
        self._sync_outside()
        new = self._ended[self._handed_out :]
        self._handed_out = len(self._ended)
        return ((one.number, one.user_attrs[key]) for one in new if one.number not in known and key in one.user_attrs)

    def _parsed_of(self, number: int, key: str, text: str) -> Any:
        return parsed(text, f"storage {self.storage}: {key} of trial {number}")

    def unfinished(self) -> int:
        return self._rows.count((TrialState.RUNNING.name, TrialState.WAITING.name))

    def holds(self, parameters: Mapping[str, Any]) -> bool:
        """Whether a trial has these parameters, or was enqueued with them."""
        self._sync_outside()
        asked = comparable(parameters)
        return asked in self._asked_for or any(
            comparable(fixed(self._trials[trial_id])) == asked for trial_id in self._unfinished
        )

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        state, facts, ended_at = TrialState.RUNNING, Facts(), None
        if template_trial is not None:
            state, facts = template_trial.state, facts_of(template_trial)
            ended_at = utc(template_trial.datetime_complete)
        if state == TrialState.RUNNING:
            facts.user_attrs |= {key: json.dumps(value) for key, value in (self._signature or {}).items()}
        trial = frozen(self._rows.create(state.name, facts, ended_at), self.storage)
        self._keep(trial)
        if state == TrialState.RUNNING:
            self._own.add(trial._trial_id)
        return trial._trial_id

    def set_trial_param(
        self, trial_id: int, param_name: str, param_value_internal: float, distribution: BaseDistribution
    ) -> None:
        trial, unwritten = self._open(trial_id)
        if param_name in self._known:
            check_distribution_compatibility(self._known[param_name], distribution)
        self._known[param_name] = distribution
        unwritten.params[param_name] = param_value_internal, words_of(distribution)
        trial.distributions[param_name] = distribution
        trial.params[param_name] = distribution.to_external_repr(param_value_internal)

    def forget_params(self, trial_id: int) -> None:
        """Take back the parameters that an unfinished trial was given and that are not written yet."""
        trial, unwritten = self._open(trial_id)
        for name in unwritten.params:
            del trial.params[name], trial.distributions[name]
        unwritten.params.clear()

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        trial, unwritten = self._open(trial_id)
        self._set(trial_id, trial.user_attrs, unwritten.user_attrs, key, value)

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        trial, unwritten = self._open(trial_id)
        self._set(trial_id, trial.system_attrs, unwritten.system_attrs, key, value)

    def set_trial_intermediate_value(self, trial_id: int, step: int, intermediate_value: float) -> None:
        raise NotImplementedError("a study with several objectives has no intermediate values")

    def _open(self, trial_id: int) -> tuple[FrozenTrial, Facts]:
        """An unfinished trial, and what is known of it beyond the database."""
        trial = self.get_trial(trial_id)
        self.check_trial_is_updatable(trial_id, trial.state)
        return trial, self._unwritten.setdefault(trial_id, _Unwritten()).facts

    def _set(self, trial_id: int, known: dict[str, Any], unwritten: dict[str, str], key: str, value: Any) -> None:
        if key in known and key not in unwritten:
            self._unwritten[trial_id].replaced.add(key)
        unwritten[key] = json.dumps(value)
        known[key] = value

    def claim(self, trial_id: int, key: str, value: Any, most: int) -> bool:
        """Give a trial a user attribute at once; False, and it has none, where `most` other values of it are held:
        see `TrialRows.claim`."""
        if not self._rows.claim(trial_id, key, json.dumps(value), most):
            return False
        self.get_trial(trial_id).user_attrs[key] = value
        return True

    def own_has(self, number: int, key: str) -> bool:
        """Whether the trial of this number, which runs here, has a user attribute."""
        own = (self._trials[trial_id] for trial_id in self._own)
        return any(key in trial.user_attrs for trial in own if trial.number == number)

    def running_elsewhere(self) -> list[FrozenTrial]:
        """The trials that other drivers run, as they were when the database was read last."""
        if self._read_to == -1:
            self._sync_outside()
        unfinished = (self._trials[trial_id] for trial_id in self._unfinished - self._own)
        return [trial for trial in unfinished if trial.state == TrialState.RUNNING]

    def write(self, trial_id: int) -> None:
        """Write what a trial was given."""
        if unwritten := self._unwritten.pop(trial_id, None):
            self._rows.write(trial_id, unwritten.facts, unwritten.replaced)

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        """Write the rest of a trial and its state. Raises Optuna's error when another driver has ended it; False when
        it cannot be taken from the queue, because another driver has."""
        if state == TrialState.RUNNING:
            for key, value in (self._signature or {}).items():
                self.set_trial_user_attr(trial_id, key, value)
        unwritten = self._unwritten.pop(trial_id, None) or _Unwritten()
        unwritten.facts.values.update(enumerate(values or ()))
        stored_at = self._rows.move(trial_id, state.name, unwritten.facts, unwritten.replaced)
        if stored_at is None:
            self._take_in([trial_id])
            self.check_trial_is_updatable(trial_id, self._trials[trial_id].state)
            return False
        if state.is_finished() and trial_id in self._own:
            self._finish(self._trials[trial_id], state, values, stored_at)
            return True
        self._own.discard(trial_id)
        self._take_in([trial_id])  # whoever had it before may have given it more
        if state == TrialState.RUNNING:
            self._own.add(trial_id)
        return True

    def take_back(self, trial: FrozenTrial, signed: str) -> bool:
        """Return a trial that runs to the queue, unless another driver than the one of its user attribute `signed`
        runs it by now."""
        is_moved = self._rows.take_back(trial._trial_id, signed, json.dumps(trial.user_attrs.get(signed)))
        if is_moved:
            self._own.discard(trial._trial_id)
            self._unwritten.pop(trial._trial_id, None)
        self._take_in([trial._trial_id])
        return is_moved

    def _finish(
        self, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None, ended_at: datetime
    ) -> None:
        trial.state, trial.datetime_complete = state, local(ended_at)
        trial.values = None if values is None else list(values)
        self._keep(trial)

    def lengthen(self, name: str, old: BaseDistribution, new: BaseDistribution) -> None:
        """Give a categorical parameter a longer list. Optuna has no way to do it, so its rows are rewritten."""
        study_name = self._backend.get_study_name_from_id(self.study_id)
        replace_distribution(self._backend.engine, study_name, name, words_of(old), words_of(new))
        self._known[name] = new
        for trial in self._order:
            if trial.distributions.get(name) == old:
                trial.distributions[name] = new

    # ---- heartbeats

    def record_heartbeat(self, trial_id: int) -> None:
        self._rows.beat([trial_id])

    def beat(self, trial_ids: Sequence[int]) -> None:
        self._rows.beat(trial_ids)

    def _get_stale_trial_ids(self, study_id: int) -> list[int]:
        return again(self._backend._get_stale_trial_ids)(study_id)

    def get_heartbeat_interval(self) -> int | None:
        return self._backend.get_heartbeat_interval()

    def get_heartbeat_stale_trial_callback(self) -> Callable[[optuna.Study, FrozenTrial], None] | None:
        return self._backend.get_heartbeat_stale_trial_callback()

    def is_there(self) -> bool:
        """Whether the database still holds the study: somebody may delete it, alone or with the file that it is in."""
        if _file_of(self._backend) != self._file:
            return False  # the connections still read the old file
        try:
            return self._backend.get_study_id_from_name(self._name) == self.study_id
        except KeyError:
            return False

    def close(self) -> None:
        """Close the database connections."""
        close_tables(self._backend)


def _file_of(backend: RDBStorage) -> tuple[int, int] | None:
    """The device and the inode of a SQLite file; None for a server, and where there is no file."""
    url = backend.engine.url
    try:
        found = os.stat(url.database or "") if url.get_backend_name() == "sqlite" else None
    except OSError:
        return None
    return None if found is None else (found.st_dev, found.st_ino)


def _is_start_of(distribution: BaseDistribution, known: BaseDistribution | None) -> bool:
    """Whether a list of words was lengthened to `known` while somebody drew a trial with it."""
    if not isinstance(distribution, CategoricalDistribution) or not isinstance(known, CategoricalDistribution):
        return False
    return known.choices[: len(distribution.choices)] == distribution.choices
