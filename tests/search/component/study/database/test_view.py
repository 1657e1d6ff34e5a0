"""A study in memory beside its database: what Optuna itself reads there is the same, in far fewer statements."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.trial import TrialState
from sqlalchemy import event

from vitsearch.storage.driver_id import DriverId
from vitsearch.storage.ledger import engine_options
from vitsearch.study.database.view import StudyView

pytestmark = [
    pytest.mark.filterwarnings("ignore:Heartbeat of storage"),
    pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning"),
]
STATEMENTS = 25
"""Of one trial that is asked and told; Optuna's own storage needs 70."""


@pytest.fixture
def opened(storage):
    """Opens the study as one more driver would."""
    backends = []

    def open_():
        backend = RDBStorage(storage, engine_kwargs=engine_options(storage), heartbeat_interval=60, grace_period=300)
        backends.append(backend)
        return backend

    optuna.create_study(storage=open_(), study_name="s", directions=["maximize", "minimize"])
    yield lambda: StudyView(open_(), "s")
    for backend in backends:
        backend.remove_session()
        backend.engine.dispose()


def study_of(view, sampler=None):
    return optuna.load_study(study_name="s", storage=view, sampler=sampler or optuna.samplers.RandomSampler(seed=0))


def run(study, values=(1.0, 2.0), state=None):
    trial = study.ask()
    trial.suggest_float("x", 0.0, 1.0)
    trial.suggest_categorical("word", ("a", "b"))
    trial.set_user_attr("record", {"of": trial.number})
    trial.set_constraint("limit", -0.5)
    study.tell(trial, values if state is None else None, state=state)
    return trial


def as_optuna_reads(view):
    """All trials, read by Optuna's own storage."""
    url = str(view._backend.url)
    plain = RDBStorage(url, engine_kwargs=engine_options(url))
    try:
        return plain.get_all_trials(view.study_id)
    finally:
        plain.remove_session()
        plain.engine.dispose()


def test_a_trial_that_another_driver_adds_before_ours_is_read(opened):
    own, other = opened(), opened()
    own.sync()
    theirs = run(study_of(other)).number
    own.create_new_trial(own.study_id)
    assert theirs in {trial.number for trial in own.get_all_trials(own.study_id)}


def test_optuna_reads_what_the_view_has(opened):
    view = opened()
    study = study_of(view)
    study.enqueue_trial({"x": 0.25}, user_attrs={"why": "a test"})
    run(study)
    run(study, (float("inf"), float("-inf")))
    run(study, state=TrialState.PRUNED)
    run(study, state=TrialState.FAIL)
    study.enqueue_trial({"x": 0.75})
    assert as_optuna_reads(view) == view.get_all_trials(view.study_id)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "COMPLETE", "PRUNED", "FAIL", "WAITING"]
    assert study.trials[0].params["x"] == 0.25


def test_a_new_view_reads_what_the_first_has_written(opened):
    first = opened()
    run(study_of(first))
    second = opened()
    assert second.get_all_trials(second.study_id) == first.get_all_trials(first.study_id)


def test_a_trial_takes_few_statements(opened):
    view = opened()
    study, statements = study_of(view), []
    run(study)
    event.listen(view._backend.engine, "before_cursor_execute", lambda *args: statements.append(args[2]))
    run(study)
    assert len(statements) <= STATEMENTS


def test_nothing_is_read_while_a_trial_is_asked_for(opened):
    view, statements = opened(), []
    run(study_of(view))
    with view.asking({}):
        event.listen(view._backend.engine, "before_cursor_execute", lambda *args: statements.append(args[2]))
        assert len(view.get_all_trials(view.study_id)) == 1
    assert statements == []


@pytest.mark.parametrize("is_queued", [False, True])
def test_a_trial_that_starts_to_run_has_its_signature_at_once(opened, is_queued):
    view = opened()
    study, before, now = study_of(view), DriverId.current().to_json(), DriverId.current().to_json()
    if is_queued:
        study.enqueue_trial({"x": 0.5}, user_attrs={"driver": before})
    with view.asking({"driver": now}):
        study.ask()
        (stored,) = as_optuna_reads(view)
    assert (stored.state, stored.user_attrs) == (TrialState.RUNNING, {"driver": now})


def test_what_a_trial_is_given_is_written_when_it_is_asked_for_and_not_before(opened):
    view = opened()
    trial = study_of(view).ask()
    trial.suggest_float("x", 0.0, 1.0)
    assert as_optuna_reads(view)[0].params == {}
    view.write(trial._trial_id)
    assert as_optuna_reads(view)[0].params == trial.params


def test_other_drivers_trials_are_picked_up_as_they_change(opened):
    mine, other = opened(), opened()
    trial = study_of(other).ask()
    assert mine.get_all_trials(mine.study_id)[0].state == TrialState.RUNNING
    trial.suggest_float("x", 0.0, 1.0)
    other.write(trial._trial_id)
    assert mine.get_all_trials(mine.study_id)[0].params == trial.params
    study_of(other).tell(trial, (0.5, 0.25))
    assert mine.get_all_trials(mine.study_id)[0].values == [0.5, 0.25]


def test_two_drivers_give_different_numbers(opened):
    one, other = study_of(opened()), study_of(opened())
    assert [study.ask().number for study in (one, other, one, other)] == [0, 1, 2, 3]


def test_what_waits_is_taken_by_one_driver(opened):
    one, other = study_of(opened()), study_of(opened())
    one.enqueue_trial({"x": 0.5})
    assert [one.ask().number, other.ask().number] == [0, 1]


def test_a_trial_that_another_driver_has_ended_stays_as_it_is(opened):
    view, other = opened(), opened()
    trial = study_of(view).ask()
    other.set_trial_state_values(trial._trial_id, TrialState.FAIL)
    with pytest.raises(UpdateFinishedTrialError):
        study_of(view).tell(trial, (1.0, 1.0))
    assert study_of(view).trials[0].state == TrialState.FAIL
    assert study_of(view).trials[0].values is None


def test_a_released_trial_goes_on_with_what_it_had(opened):
    view = opened()
    trial = study_of(view).ask()
    x = trial.suggest_float("x", 0.0, 1.0)
    view.set_trial_state_values(trial._trial_id, TrialState.WAITING)
    other = opened()
    again = study_of(other, optuna.samplers.RandomSampler(seed=9)).ask()
    assert (again.number, again.suggest_float("x", 0.0, 1.0)) == (trial.number, x)


def test_an_attribute_is_replaced(opened):
    view = opened()
    trial = study_of(view).ask()
    for driver in ("one", "two"):
        trial.set_user_attr("driver", driver)
        view.write(trial._trial_id)
    assert as_optuna_reads(view)[0].user_attrs == {"driver": "two"}


def test_a_parameter_of_another_kind_is_refused(opened):
    view = opened()
    run(study_of(view))
    with pytest.raises(ValueError, match="different distribution kind"):
        view.set_trial_param(study_of(view).ask()._trial_id, "x", 0.0, CategoricalDistribution(("a",)))


def test_attributes_of_the_study_are_those_that_are_stored_now(opened):
    view, other = opened(), opened()
    other.set_study_user_attr(other.study_id, "choices", {"word": ["a"]})
    assert (view.attribute("choices"), view.attribute("none")) == ({"word": ["a"]}, None)
    other.set_study_user_attr(other.study_id, "choices", {"word": ["a", "b"]})
    assert view.attributes() == {"choices": {"word": ["a", "b"]}}


def test_a_trial_that_runs_has_a_heartbeat_from_the_start(opened):
    view = opened()
    trial = study_of(view).ask()
    with view._backend.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE trial_heartbeats SET heartbeat = '2020-01-01 00:00:00'")
    assert view._get_stale_trial_ids(view.study_id) == [trial._trial_id]
    view.beat([trial._trial_id])
    assert view._get_stale_trial_ids(view.study_id) == []


@pytest.mark.parametrize(
    "sampler",
    [
        optuna.samplers.TPESampler(n_startup_trials=2, seed=0),
        optuna.samplers.NSGAIISampler(population_size=2, seed=0),
        optuna.samplers.TPESampler(n_startup_trials=2, multivariate=True, seed=0),
    ],
    ids=["tpe", "nsga2", "tpe_relative"],
)
def test_samplers_of_optuna_draw_from_it(opened, sampler):
    view = opened()
    study = study_of(view, sampler)
    for _ in range(6):
        run(study)
    assert as_optuna_reads(view) == view.get_all_trials(view.study_id)


def test_a_finished_trial_can_be_added(opened):
    view = opened()
    study_of(view).add_trial(
        optuna.create_trial(
            values=[1.0, 2.0], params={"x": 0.5}, distributions={"x": FloatDistribution(0.0, 1.0)}, user_attrs={"a": 1}
        )
    )
    assert as_optuna_reads(view) == view.get_all_trials(view.study_id)


def test_drivers_hold_together_no_more_values_than_are_allowed(opened):
    views = [opened() for _ in range(4)]
    trials = [study_of(view).ask()._trial_id for view in views]

    def claim(place: int) -> bool:
        return views[place].claim(trials[place], "trains", f"weights {place}", most=2)

    with ThreadPoolExecutor(4) as threads:
        assert sorted(threads.map(claim, range(4))) == [False, False, True, True]


def test_a_value_that_is_held_already_takes_no_more(opened):
    view = opened()
    study = study_of(view)
    first, same, other = (study.ask()._trial_id for _ in range(3))
    assert view.claim(first, "trains", "weights", most=1)
    assert view.claim(same, "trains", "weights", most=1)
    assert not view.claim(other, "trains", "other weights", most=1)


@pytest.mark.parametrize(("state", "is_free"), [(TrialState.COMPLETE, False), (TrialState.FAIL, True)])
def test_a_trial_that_has_failed_holds_nothing(opened, state, is_free):
    view = opened()
    study = study_of(view)
    first, other = study.ask(), study.ask()
    assert view.claim(first._trial_id, "trains", "weights", most=1)
    study.tell(first, (1.0, 2.0) if state == TrialState.COMPLETE else None, state=state)
    assert view.claim(other._trial_id, "trains", "other weights", most=1) == is_free


def test_a_trial_that_waits_to_go_on_still_holds_its_value(opened):
    view = opened()
    study = study_of(view)
    first, other = study.ask()._trial_id, study.ask()._trial_id
    assert view.claim(first, "trains", "weights", most=1)
    view.set_trial_state_values(first, TrialState.WAITING)
    assert not view.claim(other, "trains", "other weights", most=1)
    assert study.ask()._trial_id == first
    assert view.own_has(view.get_trial(first).number, "trains")


def test_equal_parameters_are_found_whatever_has_become_of_their_trial(opened):
    view = opened()
    study = study_of(view)
    study.enqueue_trial({"x": 0.1 + 0.2})
    assert view.holds({"x": 0.3})
    trial = study.ask()
    assert view.holds({"x": 0.3})
    trial.suggest_float("x", 0.0, 1.0)
    study.tell(trial, (1.0, 2.0))
    assert view.holds({"x": 0.3})
    assert not view.holds({"x": 0.31})
    assert not view.holds({"x": 0.3, "y": 0.3})


def test_the_trials_of_other_drivers_are_told_apart(opened):
    mine, other = opened(), opened()
    study_of(mine).ask()
    theirs = study_of(other).ask()
    assert other.claim(theirs._trial_id, "trains", "weights", most=1)
    mine.sync()
    (running,) = mine.running_elsewhere()
    assert (running.number, running.user_attrs["trains"]) == (theirs.number, "weights")


def test_an_attribute_that_several_change_at_once_has_what_each_has_added(opened):
    views = [opened() for _ in range(4)]

    def add(place: int) -> None:
        views[place].change_attribute("found", lambda stored: [*(stored or []), place])

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(add, range(4)))
    assert sorted(views[0].attribute("found")) == [0, 1, 2, 3]
