"""A study in memory, kept up to date with the database.

A finished trial is read once. `StudyView.sync` picks up what other drivers have done; between two of them nothing
is read. Not for several threads at once.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from time import time
from typing import Any

from optuna.trial import TrialState

from vitsearch.core.decoding import damaged, decoded, parsed
from vitsearch.errors import StudyError
from vitsearch.storage.driver_id import DriverId
from vitsearch.storage.ledger import Engine, StudyRow, StudyTable, TrialRow, TrialRows, shown
from vitsearch.storage.sightings import Sightings
from vitsearch.study.database.stored_forms import attribute_of_study
from vitsearch.study.database.trial_forms import StoredTrial, stored_trial

SPACE = "space"
"""The attribute that has the space file."""


class StudyView:
    """The one study that a driver has open."""

    def __init__(self, engine: Engine, name: str) -> None:
        self._engine, self._name = engine, name
        self.storage = shown(engine)
        self._studies = StudyTable(engine)
        study = self._studies.find(name)
        if study is None:
            names = ", ".join(self._studies.names()) or "none"
            raise StudyError(f"no study {name!r} in this database; it holds: {names}")
        self._study_id = study.id
        self.objectives = _objectives(study, self.storage)
        self._file = _file_of(engine)
        self._rows = TrialRows(engine, study.id)
        self.trials: list[StoredTrial] = []
        """By number."""
        self._is_read = False
        self._unfinished: set[int] = set()
        self._own: set[int] = set()
        self._ended: list[int] = []
        self._handed_out = 0
        self._attributes: dict[str, tuple[str, Any]] = {}
        self._silent: Sightings[tuple[int, float]] = Sightings()

    # ---- keeping up with the database

    def sync(self) -> None:
        """Read the trials that are new, those whose state has changed and those that run elsewhere."""
        states = self._rows.states(min([*self._unfinished, len(self.trials)]))
        self._take_in(number for number, state in states.items() if self._is_news(number, state))
        self._is_read = True

    def _is_news(self, number: int, state: str) -> bool:
        if number >= len(self.trials):
            return True
        if self.trials[number].state.is_finished():  # for good, also where its state was damaged
            return False
        return state != self.trials[number].state.name or (state == "RUNNING" and number not in self._own)

    def _take_in(self, numbers: Iterable[int]) -> None:
        self._know_metrics()
        for row in self._rows.read(set(numbers)):
            self._keep(stored_trial(row, self.storage))

    def _keep(self, trial: StoredTrial) -> None:
        if trial.number == len(self.trials):
            self.trials.append(trial)
        else:
            self.trials[trial.number] = trial
        if not trial.state.is_finished():
            self._unfinished.add(trial.number)
            return
        self._ended.append(trial.number)
        self._unfinished.discard(trial.number)
        self._own.discard(trial.number)

    # ---- attributes of the study

    def attributes(self) -> Mapping[str, Any]:
        """Each is parsed again only when its text has changed; not to be changed."""
        stored = sorted(self._rows.attributes().items(), key=lambda item: item[0] != SPACE)
        self._attributes = {key: self._parsed(key, text) for key, text in stored}
        return {key: value for key, (_, value) in self._attributes.items()}

    def attribute(self, key: str) -> Any:
        """One of them; None where there is none."""
        self._know_metrics(key)
        text = self._rows.attribute(key)
        if text is None:
            return None
        self._attributes[key] = self._parsed(key, text)
        return self._attributes[key][1]

    def _know_metrics(self, key: str = "") -> None:
        """Read the space before anything that has figures: it knows the metrics of a task of the user's own."""
        if key != SPACE and SPACE not in self._attributes:
            self.attribute(SPACE)

    def change_attribute(self, key: str, change: Callable[[Any], Any]) -> Any:
        """As `TrialRows.change_attribute`."""
        return self._rows.change_attribute(key, change)

    def _parsed(self, key: str, text: str) -> tuple[str, Any]:
        before = self._attributes.get(key)
        if before is not None and before[0] == text:
            return before
        return text, attribute_of_study(key, text, self.storage)

    # ---- reading trials

    def unfinished(self) -> int:
        return self._rows.count(("RUNNING", "WAITING"))

    def in_state(self, state: TrialState) -> list[StoredTrial]:
        """The trials that run, or those that wait, as they are now."""
        self.sync()
        return self.known_in_state(state)

    def known_in_state(self, state: TrialState) -> list[StoredTrial]:
        """The same as the database was read last."""
        return [trial for trial in self.known_unfinished() if trial.state == state]

    def known_unfinished(self) -> list[StoredTrial]:
        """The trials that run or wait, as the database was read last."""
        if not self._is_read:
            self.sync()
        return [self.trials[number] for number in sorted(self._unfinished)]

    def running_here(self) -> list[StoredTrial]:
        """The trials that this driver runs."""
        return [self.trials[number] for number in sorted(self._own)]

    def running_elsewhere(self) -> list[StoredTrial]:
        """The trials that other drivers run, as they were when the database was read last."""
        return [trial for trial in self.known_in_state(TrialState.RUNNING) if trial.number not in self._own]

    def own_trains(self, number: int) -> bool:
        """Whether a trial runs here and is one of those that may be trained."""
        return number in self._own and self.trials[number].trains is not None

    def new_records(self, read: Container[int]) -> Iterator[tuple[int, str]]:
        """The number and the record of the finished trials that are not `read` yet. Before anything else of the
        trials was read, this reads nothing else."""
        self._know_metrics()
        if not self._is_read:
            yield from self._rows.records(read)
            return
        self.sync()
        new = [self.trials[number] for number in self._ended[self._handed_out :] if number not in read]
        self._handed_out = len(self._ended)
        yield from ((trial.number, trial.record) for trial in new if trial.record is not None)

    # ---- asking and telling

    def start(self, driver: DriverId, candidates: Sequence[int]) -> StoredTrial:
        """The trial that runs here next (see `TrialRows.start`), as it is stored before it is drawn."""
        self._know_metrics()
        row = self._rows.start(json.dumps(driver.to_json()), candidates)
        if row.number > len(self.trials):  # others were added since the database was read
            self.sync()
        else:
            self._keep(stored_trial(row, self.storage))
        self._own.add(row.number)
        return self.trials[row.number]

    def write(self, number: int, params: Mapping[str, Any], notes: Mapping[str, Any]) -> None:
        """What a trial was asked."""
        fixed = self.trials[number].fixed
        self._rows.write(number, json.dumps(params), json.dumps(notes), None if fixed is None else json.dumps(fixed))
        self._keep(replace(self.trials[number], params=params, notes=notes))

    def finish(self, number: int, state: TrialState, record: str) -> bool:
        """Write the record of a trial with its state; False where another driver has ended it."""
        ended_at = time()
        is_told = self._rows.finish(number, state.name, record, ended_at)
        if is_told and not self.trials[number].state.is_finished():
            self._keep(replace(self.trials[number], state=state, record=record, ended_at=ended_at))
        else:
            self._take_in([number])
        return is_told

    def enqueue(self, parameters: Mapping[str, Any], why: str) -> None:
        self._rows.enqueue(json.dumps(dict(parameters)), why)
        self.sync()

    def add(self, state: TrialState, params: Mapping[str, Any], record: str) -> int:
        """A trial that has ended elsewhere; its number."""
        return self._rows.add(state.name, json.dumps(params), record)

    def claim(self, number: int, weights_key: str, most: int) -> bool:
        """Let a trial train: see `TrialRows.claim`."""
        if not self._rows.claim(number, weights_key, most):
            self.sync()  # another driver may have taken the trial for lost
            return False
        self._keep(replace(self.trials[number], trains=weights_key))
        return True

    # ---- trials that stop, and drivers that died

    def release(self, number: int) -> None:
        """Let a trial wait again, unless it has ended."""
        self._rows.release(number)
        self._own.discard(number)
        self._take_in([number])

    def take_back(self, trial: StoredTrial) -> bool:
        """Let a trial of a dead driver wait again, unless another driver runs it by now."""
        assert trial.driver is not None
        is_back = self._rows.take_back(trial.number, json.dumps(trial.driver.to_json()))
        if is_back:
            self._own.discard(trial.number)
        self._take_in([trial.number])
        return is_back

    def replace_stale(self, grace_s: float) -> None:
        """End the trials whose driver gives no sign of life, and enqueue their parameters: those for which this was
        so in earlier calls already. After an outage all drivers are silent at first."""
        lost = [number for number, _ in self._silent.overdue(self._rows.stale(grace_s).items())]
        if lost and self._rows.replace_stale(grace_s, lost, self._parameters):
            self.sync()

    def _parameters(self, row: TrialRow) -> str:
        trial = stored_trial(row, self.storage)
        return json.dumps(trial.drawn or dict(trial.parameters))

    def beat(self, numbers: Sequence[int]) -> None:
        """Say that these trials are alive."""
        self._rows.beat(numbers)

    # ---- the database

    def is_there(self) -> bool:
        """Whether the database still holds the study: somebody may delete it, alone or with the file that it is in."""
        if _file_of(self._engine) != self._file:
            return False  # the connections still read the old file
        study = self._studies.find(self._name)
        return study is not None and study.id == self._study_id

    def close(self) -> None:
        """Close the database connections."""
        self._engine.dispose()


def _objectives(study: StudyRow, storage: str) -> dict[str, str]:
    where = f"storage {storage}: objectives of the study"
    objectives = decoded(dict, parsed(study.objectives, where), where, dict[str, str])
    if not objectives or not set(objectives.values()) <= {"maximize", "minimize"}:
        raise damaged(where, "allowed: names with maximize or minimize")
    return objectives


def _file_of(engine: Engine) -> tuple[int, int] | None:
    """The device and the inode of a SQLite file; None for a server, and where there is no file."""
    url = engine.url
    try:
        status = os.stat(url.database or "") if url.get_backend_name() == "sqlite" else None
    except OSError:
        return None
    return None if status is None else (status.st_dev, status.st_ino)
