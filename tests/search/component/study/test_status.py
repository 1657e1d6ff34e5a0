"""The state of a study that ran to its end."""

from __future__ import annotations

import shutil

import vitsearch as vs
from vitsearch.core.record import Record
from vitsearch.storage.stage_cost import StageCost
from vitsearch.study.status import _failures, status


def test_status_counts_every_trial(finished):
    with finished.opened() as (study, ledger):
        state = status(study, ledger)
        outcomes = state.outcomes
        records = study.records().values()
    assert (state.trained, state.wanted, state.open) == (8, 8, 0)
    assert sum(outcomes.values()) == len(records)
    assert outcomes["confirmed"] == sum(record.is_confirmed for record in records) >= 8 + 2, "and the leaderboard"
    assert outcomes.get("duplicate", 0) == sum(record.duplicate_of is not None for record in records)
    assert state.failures == {}
    assert len(state.leaderboard) == 2


def test_status_has_what_each_kind_of_stage_has_cost_and_the_busy_share(make_study):
    study = make_study(trials=1)
    study.runner.cost = lambda job: StageCost(0.25, {}, 0.0, 0.5, "worker here/1")
    study.run()
    with study.opened() as (opened, ledger):
        state = status(opened, ledger)
    spent = {str(stage): 0.25 * number for stage, number in study.runner.runs.items()}
    assert {stage: seconds for stage, seconds in state.cpu_seconds.items() if seconds} == spent
    assert state.cpu_seconds["measure"] == 0.0, "the fake device takes no time"
    assert state.busy_share > 0.0


def test_a_second_run_that_makes_nothing_costs_no_stage_anything(make_study):
    study = make_study(trials=1)
    study.runner.cost = lambda job: StageCost(0.25, {}, 0.0, 0.5, "worker here/1")
    study.run()
    with study.opened() as (opened, ledger):
        before = status(opened, ledger).cpu_seconds
    study.run()
    with study.opened() as (opened, ledger):
        assert status(opened, ledger).cpu_seconds == before


def test_the_address_of_the_database_is_enough_on_another_machine(make_study, postgresql, tmp_path, monkeypatch):
    study = make_study(trials=1).with_space(storage=postgresql())
    study.run()
    shutil.rmtree(study.folder / "artifacts")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    monkeypatch.setenv("HOME", str(elsewhere))
    state = vs.open_study(study.space.storage).status()
    assert (state.study, state.trained, state.open) == ("fake", 1, 0)
    assert len(state.leaderboard) == 2


def test_a_failure_names_its_model(plan):
    failed = Record("failed", plan, "measuring failed (timeout): device nano: no result after 300 s")
    assert _failures({5: failed, 6: Record("dominated", plan)}) == {
        5: "fake_vit@28 fp32: measuring failed (timeout): device nano: no result after 300 s"
    }
