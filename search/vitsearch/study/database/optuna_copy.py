"""A study as Optuna knows it: in memory, by Optuna's public interface alone. It draws the plans; what is asked and told
is stored in our own tables.

Samplers read the whole study for each plan, and a trial of Optuna is hard to change once it is there. So the copy
follows the database where a trial is added, drawn or told, and is made anew where anything else has happened to one: a
trial waits again, or another driver has taken one that waited. Trials have the numbers that they have in the database,
because samplers draw by number.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import optuna
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState

from vitsearch.study.database.trial_forms import FIXED, StoredTrial

ADDS_NOTHING = "auto:"
"""How the notes of our own sampler begin: it does not read them again."""

optuna.logging.set_verbosity(optuna.logging.ERROR)


class OptunaCopy:
    """`as_optuna` makes a trial of Optuna from a stored one."""

    def __init__(
        self, name: str, objectives: Mapping[str, str], as_optuna: Callable[[StoredTrial], FrozenTrial]
    ) -> None:
        self.sampler: BaseSampler = RandomSampler()
        self._name = name
        self._directions = [StudyDirection[direction.upper()] for direction in objectives.values()]
        self._as_optuna = as_optuna
        self._draws_nothing = RandomSampler()
        self.forget()

    def forget(self) -> None:
        """Make the copy anew when it is used next."""
        self._study = optuna.create_study(study_name=self._name, directions=self._directions, sampler=self.sampler)
        self._trials: list[Trial | StoredTrial] = []
        """By number; the trials of Optuna are those that can still be told."""
        self._unfinished: set[int] = set()
        self._waiting: set[int] = set()

    def ask(self, trials: Sequence[StoredTrial], number: int) -> Trial:
        """One of the `trials` of the database, which runs here from now on: the others decide what is drawn."""
        if not self._follow(trials, number):
            self.forget()
            self._follow(trials, number)
        self._study.sampler = self.sampler
        trial = self._study.ask()
        if trial.number != number:
            raise RuntimeError(f"trial {number} of the database is trial {trial.number} of Optuna's copy")
        self._waiting.discard(number)
        self._unfinished.add(number)
        self._trials[number:] = [trial, *self._trials[number + 1 :]]
        return trial

    def notes(self, number: int) -> dict[str, Any]:
        """What the sampler has noted of a trial."""
        notes = self._study.get_trials(deepcopy=False)[number].system_attrs
        return {name: value for name, value in notes.items() if name != FIXED}

    def _follow(self, trials: Sequence[StoredTrial], number: int) -> bool:
        """Show what is new, so that Optuna's next trial has this number; False where that is not possible."""
        for unfinished in sorted(self._unfinished - {number}):
            if not self._update(trials[unfinished]):
                return False
        if number < len(self._trials):
            if number != min(self._waiting, default=None):
                return False
        elif self._waiting:
            return False
        for trial in trials[len(self._trials) :]:
            if trial.number != number:
                self._show(trial, number)
            elif trial.wanted or number < len(trials) - 1:
                self._enqueue(trial)
        return True

    def _update(self, trial: StoredTrial) -> bool:
        """Bring an unfinished trial up to date; False where that is not possible."""
        shown = self._trials[trial.number]
        if isinstance(shown, StoredTrial):
            return (shown.state, shown.fixed, shown.params) == (trial.state, trial.fixed, trial.params)
        if trial.state.is_finished():
            ended = self._as_optuna(trial)
            for name, value in ended.constraints.items():
                shown.set_constraint(name, value)
            self._study.tell(shown, ended.values, ended.state)
            self._trials[trial.number] = trial
            self._unfinished.discard(trial.number)
            return True
        return trial.state == TrialState.RUNNING and shown.params == trial.drawn

    def _show(self, trial: StoredTrial, next_number: int) -> None:
        """Add a trial. Optuna asks the first one that waits: one before the next is shown as one that runs."""
        is_queued = trial.state == TrialState.WAITING and trial.number > next_number
        is_simple = all(name.startswith(ADDS_NOTHING) for name in trial.notes)
        if is_queued:
            self._enqueue(trial)
        elif trial.state == TrialState.RUNNING and is_simple and not self._waiting:
            self._trials.append(self._running(trial))
        else:
            waits = trial.state == TrialState.WAITING
            runs = replace(trial, state=TrialState.RUNNING, started_at=trial.started_at or 0.0) if waits else trial
            self._study.add_trial(self._as_optuna(runs))
            self._trials.append(trial)
        if not trial.state.is_finished():
            self._unfinished.add(trial.number)

    def _enqueue(self, trial: StoredTrial) -> None:
        self._study.enqueue_trial(trial.wanted)
        self._trials.append(trial)
        self._waiting.add(trial.number)
        self._unfinished.add(trial.number)

    def _running(self, trial: StoredTrial) -> Trial:
        """A trial that runs already, so that it can be told later."""
        self._study.sampler = self._draws_nothing
        self._study.enqueue_trial(trial.wanted)
        return self._study.ask(self._as_optuna(trial).distributions)
