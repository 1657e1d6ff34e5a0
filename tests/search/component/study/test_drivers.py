"""Trials of drivers that died, that were silent for long, or that run beside this one."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import optuna
import pytest
from optuna.trial import TrialState
from sqlalchemy import text

from support import PYTHON_PATH
from support.studies import ME, METRICS, only, trials, without_patience
from vitsearch.core.record import Keys, Record
from vitsearch.storage.driver_id import DriverId
from vitsearch.study.database.opening import GRACE_S


def dead_driver() -> DriverId:
    """Of a real process of this machine that has ended."""
    code = (
        "import json; from vitsearch.storage.driver_id import DriverId; print(json.dumps(DriverId.current().to_json()))"
    )
    environment = {"PYTHONPATH": PYTHON_PATH}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, env=environment)
    return DriverId.from_json(json.loads(done.stdout))


def silent_since(study, open_trial, seconds):
    """Move the trial's heartbeat into the past."""
    with study._view._engine.begin() as connection:
        where = {"seconds": seconds, "number": open_trial.number}
        connection.execute(text("UPDATE vs_trial SET beat_at = beat_at - :seconds WHERE number = :number"), where)


def test_trials_of_a_driver_that_died_here_keep_their_number(open_study):
    study, plans = open_study()
    lost = study.ask(plans, dead_driver())
    again, _ = open_study()
    assert again.recover() == 1
    assert again.ask(plans, ME).number == lost.number


def test_they_keep_it_also_when_it_died_long_ago(open_study):
    study, plans = open_study()
    lost = study.ask(plans, dead_driver())
    silent_since(study, lost, GRACE_S + 60)
    assert study.recover() == 1
    resumed = study.ask(plans, ME)
    assert (resumed.number, resumed.plan) == (lost.number, lost.plan)


def test_trials_of_a_driver_that_lives_are_left_alone(open_study):
    study, plans = open_study()
    study.ask(plans, ME)
    study.ask(plans, replace(ME, host="elsewhere"))
    assert study.recover() == 0
    assert {trial.state for trial in trials(study).values()} == {TrialState.RUNNING}


@pytest.mark.parametrize("jump_s", [3600.0, -3600.0])
def test_a_clock_of_the_database_that_jumps_takes_no_trial_from_a_driver_that_lives(open_study, jump_s):
    study, plans = open_study()
    trial = study.ask(plans, replace(ME, host="elsewhere"))
    silent_since(study, trial, jump_s)
    other, _ = open_study()
    assert other.recover() == 0
    assert {each.state for each in trials(study).values()} == {TrialState.RUNNING}
    study.beat([trial])
    without_patience(other).recover()
    assert {each.state for each in trials(study).values()} == {TrialState.RUNNING}


def test_a_driver_knows_whether_another_one_runs_on_its_machine(open_study):
    study, plans = open_study()
    other, _ = open_study()
    study.ask(plans, ME)
    other.ask(plans, replace(ME, host="elsewhere"))
    study.records()
    assert not study.has_other_driver_here()
    other.ask(plans, ME)
    study.records()
    assert study.has_other_driver_here()


def test_a_trial_has_its_driver_before_it_has_a_plan(open_study):
    study, plans = open_study()

    class KilledWhileDrawing(optuna.samplers.RandomSampler):
        def sample_independent(self, *_):
            raise SystemExit

    study.sample_with(KilledWhileDrawing())
    with pytest.raises(SystemExit):
        study.ask(plans, dead_driver())
    other, _ = open_study()
    assert other.recover() == 1
    assert other.ask(plans, ME).number == 0


def test_silent_trials_of_another_machine_are_asked_again_by_parameters_alone(open_study, storage):
    study, plans = open_study(storage)
    lost = study.ask(plans, replace(ME, host="elsewhere"))
    silent_since(study, lost, GRACE_S + 60)
    assert without_patience(study).recover() == 0
    assert trials(study)[lost.number].state == TrialState.FAIL
    resumed = study.ask(plans, ME)
    assert resumed.number != lost.number
    assert (resumed.plan, resumed.trial.params) == (lost.plan, lost.trial.params)
    assert resumed.trial.constraints == {}
    assert trials(study)[resumed.number].user_attrs["enqueued"] == f"trial {lost.number} was lost"


def test_a_driver_that_was_silent_in_an_outage_keeps_its_trials(open_study, storage):
    """Whoever is connected first sees all others silent."""
    study, plans = open_study(storage)
    open_trial = study.ask(plans, replace(ME, host="elsewhere"))
    first, _ = open_study(storage)
    silent_since(study, open_trial, GRACE_S + 60)
    first.recover()
    study.beat([open_trial])
    without_patience(first).recover()
    assert only(study).state == TrialState.RUNNING


def test_a_heartbeat_keeps_a_trial(open_study, storage):
    study, plans = open_study(storage)
    open_trial = study.ask(plans, replace(ME, host="elsewhere"))
    silent_since(study, open_trial, GRACE_S + 60)
    study.beat([open_trial])
    without_patience(study).recover()
    assert only(study).state == TrialState.RUNNING


def test_what_a_reaped_driver_tells_late_is_ignored(open_study):
    study, plans = open_study()
    lost = study.ask(plans, replace(ME, host="elsewhere"))
    silent_since(study, lost, GRACE_S + 60)
    without_patience(study).recover()
    keys = Keys("w", "g", None, "d")
    assert not study.tell(lost, Record("confirmed", lost.plan, keys=keys, metrics=METRICS))
    assert trials(study)[lost.number].state == TrialState.FAIL
    assert study.records() == {}


def test_a_reaped_driver_sees_it_trains_nothing_and_puts_nothing_back(open_study):
    study, plans = open_study()
    lost = study.ask(plans, replace(ME, host="elsewhere"))
    other, _ = open_study()
    silent_since(study, lost, GRACE_S + 60)
    without_patience(other).recover()
    assert not study.claim_training(lost.number, "w" * 64, 8)
    assert study.has_ended(lost)
    study.release(lost)
    assert trials(other)[lost.number].state == TrialState.FAIL


def test_of_two_that_take_back_a_trial_the_second_leaves_it_to_the_first(open_study, monkeypatch):
    study, plans = open_study()
    lost = study.ask(plans, dead_driver())
    first, _ = open_study()
    second, _ = open_study()
    seen = second._trials(TrialState.RUNNING)
    assert first.recover() == 1
    open_trial = first.ask(plans, ME)
    assert open_trial.number == lost.number
    monkeypatch.setattr(second, "_trials", lambda state: seen)
    assert second.recover() == 0
    assert first.tell(open_trial, Record("confirmed", open_trial.plan, metrics=METRICS))
