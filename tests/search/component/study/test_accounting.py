"""What a study and its trials have cost, with fakes whose stages take half a second each."""

from __future__ import annotations

import pytest

from vitsearch.core.stage import Stage
from vitsearch.storage.ledger import Ledger
from vitsearch.storage.stage_cost import StageCost
from vitsearch.study.accounting import account
from vitsearch.study.study import Study


@pytest.fixture
def study(make_study):
    study = make_study(trials=2)
    study.runner.cost = lambda job: StageCost(0.25, {}, 1000.0, 0.5, "worker here/1")
    study.run()
    return study


def accounted(study):
    with study.opened() as (opened, ledger):
        return account(opened, ledger)


def test_each_stage_is_counted_once_however_many_trials_use_it(study):
    total = accounted(study)
    assert total.together.trainer == 0.5 * sum(study.runner.runs.values())
    of_trials = sum(seconds.trainer for seconds in total.of_trials.values())
    assert 0.0 < of_trials < total.together.trainer, "the base belongs to no trial alone"


def test_what_another_study_has_made_is_reused(study):
    other = study.with_space(study="other")
    before = sum(study.runner.runs.values())
    other.run()
    total = accounted(other)
    assert total.together.trainer == 0.5 * (sum(study.runner.runs.values()) - before)
    assert total.together.reused > 0.0


def test_the_efficiency_is_the_longest_of_trainers_device_and_trial_over_the_time_of_the_runs(study):
    total = accounted(study)
    assert total.eta == pytest.approx(total.together.trainer / total.wall_seconds)


def test_a_study_that_was_never_run_has_no_efficiency(fake_study):
    study, ledger = Study.open(fake_study.space), Ledger.open(fake_study.space.storage)
    total = account(study, ledger)
    study.close()
    ledger.close()
    assert (total.wall_seconds, total.eta, total.of_trials) == (0, None, {})


def test_several_boards_share_what_devices_took(study):
    with study.opened() as (opened, ledger):
        ledger.costs.start_run(study.space.study, cores=1)
        cost = StageCost.of_device("nano-1", 1000.0, 1000.0, {})
        ledger.costs.note(Stage.MEASURE, cost)
        ledger.costs.write()
        alone = account(opened, ledger).eta
        boards = study.space.to_json() | {"devices": ["nano-1", "nano-2"]}
        opened.remember("space", boards)
        assert account(opened, ledger).eta == pytest.approx(alone / 2, rel=0.1)
