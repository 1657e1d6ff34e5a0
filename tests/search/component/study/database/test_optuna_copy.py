"""The study as Optuna knows it, in memory beside its database: what samplers draw there is what they would draw from a
study of Optuna's own, also while other drivers change the database."""

from __future__ import annotations

import json

import optuna
import pytest
from optuna.samplers import NSGAIISampler, RandomSampler, TPESampler
from optuna.trial import TrialState
from sqlalchemy import event

from support.studies import ME, stored_study
from vitsearch.storage.ledger import StudyTable, open_database, require_trials
from vitsearch.study.database.optuna_copy import OptunaCopy
from vitsearch.study.database.trial_forms import drawn_params, frozen
from vitsearch.study.database.view import StudyView

WORDS = ("a", "b")
STATEMENTS = 16
"""Of one trial that is asked and told; Optuna's own storage needs 43."""
SAMPLERS = {
    "random": lambda: RandomSampler(seed=0),
    "tpe": lambda: TPESampler(n_startup_trials=3, seed=0),
    "tpe_relative": lambda: TPESampler(n_startup_trials=3, multivariate=True, seed=0),
    "nsga2": lambda: NSGAIISampler(population_size=3, seed=0),
}


class Driver:
    """Asks and tells trials of two parameters; their record is a list of the values and the constraint."""

    def __init__(self, engine, sampler=None):
        self.engine = engine
        self.view = StudyView(engine, "s")
        self.copy = OptunaCopy("s", self.view.objectives, self._frozen)
        self.copy.sampler = sampler or RandomSampler(seed=0)

    def _frozen(self, trial):
        if trial.record is None or not trial.state.is_finished():
            return frozen(trial, lambda name: WORDS, None, {}, {})
        values, constraint = json.loads(trial.record)
        return frozen(
            trial,
            lambda name: WORDS,
            values if trial.state == TrialState.COMPLETE else None,
            {"limit": constraint},
            {},
        )

    def start(self):
        waiting = [trial.number for trial in self.view.in_state(TrialState.WAITING)]
        return self.view.start(ME, waiting).number

    def ask(self):
        number = self.start()
        trial = self.copy.ask(self.view.trials, number)
        draw(trial)
        self.view.write(number, drawn_params(trial.params, trial.distributions), self.copy.notes(number))
        return trial

    def tell(self, trial, state=TrialState.COMPLETE):
        values, constraint = result(trial.params)
        return self.view.finish(trial.number, state, json.dumps([values, constraint]))

    def shown(self):
        """What samplers see."""
        self.copy.ask(self.view.trials, self.start())
        return self.copy._study.get_trials()[:-1]


def draw(trial):
    trial.suggest_float("x", 0.0, 1.0)
    trial.suggest_categorical("word", WORDS)


def result(params):
    x, is_a = params["x"], params["word"] == "a"
    return [x + is_a, (1 - x) ** 2], x - 0.75


@pytest.fixture
def opened(storage):
    """Opens the study as one more driver would."""
    engines = []

    def open_(sampler=None):
        engines.append(open_database(storage, require_trials))
        if StudyTable(engines[-1]).find("s") is None:
            stored_study(engines[-1], "s")
        return Driver(engines[-1], sampler)

    yield open_
    for engine in engines:
        engine.dispose()


def state_of(number):
    return TrialState.PRUNED if number % 4 == 3 else TrialState.COMPLETE


def of_optuna(sampler, trials):
    """What a study of Optuna's own draws."""
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
    for number in range(trials):
        trial = study.ask()
        draw(trial)
        values, constraint = result(trial.params)
        trial.set_constraint("limit", constraint)
        state = state_of(number)
        study.tell(trial, values if state == TrialState.COMPLETE else None, state)
    return [trial.params for trial in study.trials]


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_sampler_draws_what_it_would_draw_from_a_study_of_optuna(opened, name):
    driver = opened(SAMPLERS[name]())
    for number in range(12):
        driver.tell(driver.ask(), state_of(number))
    assert [trial.drawn for trial in driver.view.trials] == of_optuna(SAMPLERS[name](), 12)


@pytest.mark.parametrize("name", SAMPLERS)
def test_it_draws_the_same_from_a_copy_that_is_made_anew(opened, name):
    driver = opened(SAMPLERS[name]())
    for number in range(12):
        driver.copy.forget()
        driver.tell(driver.ask(), state_of(number))
    assert [trial.drawn for trial in driver.view.trials] == of_optuna(SAMPLERS[name](), 12)


def test_a_trial_takes_few_statements_and_makes_no_new_copy(opened, monkeypatch):
    driver, statements = opened(), []
    driver.tell(driver.ask())
    monkeypatch.setattr(driver.copy, "forget", lambda: pytest.fail("the copy is made anew"))
    event.listen(driver.engine, "before_cursor_execute", lambda *args: statements.append(args[2]))
    driver.tell(driver.ask())
    assert len(statements) <= STATEMENTS


def test_several_trials_that_run_at_once_are_followed(opened, monkeypatch):
    driver = opened()
    monkeypatch.setattr(driver.copy, "forget", lambda: pytest.fail("the copy is made anew"))
    running = [driver.ask() for _ in range(3)]
    for _ in range(4):
        driver.tell(running.pop(1))
        running.append(driver.ask())
    states = [trial.state.name for trial in driver.shown()]
    assert (states.count("COMPLETE"), states.count("RUNNING")) == (4, 3)


def test_trials_of_another_driver_are_followed_as_they_change(opened, monkeypatch):
    mine, other = opened(), opened()
    theirs = other.ask()
    mine.tell(mine.ask())
    assert [trial.state.name for trial in mine.shown()] == ["RUNNING", "COMPLETE"]
    assert mine.copy._study.get_trials()[0].params == theirs.params
    monkeypatch.setattr(mine.copy, "forget", lambda: pytest.fail("the copy is made anew"))
    other.tell(theirs)
    shown = mine.shown()[0]
    assert (shown.state, shown.values) == (TrialState.COMPLETE, result(theirs.params)[0])
    assert shown.constraints == {"limit": result(theirs.params)[1]}


def test_two_drivers_give_different_numbers(opened):
    first, second = opened(), opened()
    assert [driver.ask().number for driver in (first, second, first, second)] == [0, 1, 2, 3]


def test_what_waits_is_asked_in_turn_with_its_number(opened):
    driver = opened()
    driver.tell(driver.ask())
    for x in (0.25, 0.5):
        driver.view.enqueue({"x": x}, "why")
    drawn = [driver.ask() for _ in range(3)]
    assert [trial.number for trial in drawn] == [1, 2, 3]
    assert [trial.params["x"] for trial in drawn[:2]] == [0.25, 0.5]


def test_what_waits_and_another_driver_takes_is_not_asked_here(opened):
    first, second = opened(), opened()
    for x in (0.25, 0.5, 0.75):
        first.view.enqueue({"x": x}, "why")
    drawn = [driver.ask() for driver in (first, second, first, second)]
    assert [trial.number for trial in drawn] == [0, 1, 2, 3]
    assert [trial.params["x"] for trial in drawn[:3]] == [0.25, 0.5, 0.75]


def test_a_released_trial_goes_on_with_what_it_had_before_new_ones(opened):
    driver = opened()
    released, other = driver.ask(), driver.ask()
    driver.view.release(released.number)
    driver.tell(other)
    again = opened(RandomSampler(seed=9)).ask()
    assert (again.number, again.params) == (released.number, released.params)
    assert driver.ask().number == 2


def test_a_number_outside_of_its_bounds_is_shown(opened):
    driver = opened()
    driver.view.enqueue({"x": 1.5}, "the file had it before")
    with pytest.warns(UserWarning, match="out of range"):
        open_trial = driver.ask()
    driver.tell(open_trial)
    driver.copy.forget()
    assert driver.shown()[0].params["x"] == 1.5


def test_the_trials_of_other_drivers_are_told_apart(opened):
    mine, other = opened(), opened()
    mine.ask()
    theirs = other.ask()
    assert other.view.claim(theirs.number, "weights", most=1)
    mine.view.sync()
    (running,) = mine.view.running_elsewhere()
    assert (running.number, running.trains) == (theirs.number, "weights")
    assert other.view.own_trains(theirs.number)
    assert not mine.view.own_trains(theirs.number)


def test_attributes_of_the_study_are_those_that_are_stored_now(opened):
    mine, other = opened().view, opened().view
    other.change_attribute("choices", lambda _: {"word": ["a"]})
    assert (mine.attribute("choices"), mine.attribute("none")) == ({"word": ["a"]}, None)
    other.change_attribute("choices", lambda _: {"word": ["a", "b"]})
    assert mine.attributes() == {"choices": {"word": ["a", "b"]}}
