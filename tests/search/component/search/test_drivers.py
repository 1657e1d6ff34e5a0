"""Several drivers on one study, at the same time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from optuna.trial import TrialState
from sqlalchemy import text

from support.marks import long
from support.studies import without_patience
from vitsearch.core.stage import Stage
from vitsearch.search.driver import SearchEnd
from vitsearch.stages import ExportJob, ProxyJob, ScreenJob, TrainJob
from vitsearch.study.study import Study

DRIVERS = 3


@pytest.fixture
def together(fake_study, storage):
    """The study after several runs of it that were started at the same moment on a new database."""
    fake_study = fake_study.with_space(storage=storage)
    with ThreadPoolExecutor(DRIVERS) as threads:
        ends = list(threads.map(lambda _: fake_study.run(), range(DRIVERS)))
    return fake_study, ends


@pytest.mark.long
def test_drivers_train_together_what_the_file_asks_for(together):
    study, ends = together
    assert ends == [SearchEnd("8 plans trained", complete=True)] * DRIVERS
    assert study.trained == study.runner.runs[Stage.TRAIN] == 8
    assert study.numbers_by_state().keys() <= {TrialState.COMPLETE, TrialState.PRUNED}


@pytest.mark.long
def test_drivers_make_no_stage_twice(together):
    study, _ = together
    counted = "SELECT count(*) FROM vs_artifact WHERE kind IN ('screen', 'model')"
    with study.opened() as (_, ledger), ledger._engine.connect() as connection:
        results = connection.exec_driver_sql(counted).scalar_one()
    assert study.runner.runs[Stage.SCREEN] + study.runner.runs[Stage.EXPORT] == results


def test_drivers_of_an_exhausted_space_wait_for_each_other(fake_study, storage):
    small = fake_study.with_space(
        storage=storage, space__head_pruning_ratio=[0.0, 0.33], space__ffn_pruning_ratio=[0.0, 0.5],
        space__resolution=[28], space__pruning_scope=["uniform"], search__trials=50,
    )  # fmt: skip
    with ThreadPoolExecutor(2) as threads:
        ends = list(threads.map(lambda _: small.run(), range(2)))
    assert any(end.reason.endswith("all 8 plans of the space have been tried") for end in ends)
    assert all(end.complete for end in ends), "the other may find that the front has converged"
    assert not [record.reason for record in small.records().values() if "still running" in record.reason]


@pytest.mark.parametrize("moment", [TrainJob, *long(ScreenJob, ProxyJob, ExportJob)])
def test_trials_that_another_driver_took_for_lost_are_asked_again_and_nothing_is_made_twice(make_study, moment):
    study, taken = make_study(trials=4), []

    def take_all(job):
        if isinstance(job, moment) and study.runner.runs[Stage.SCREEN] > 3 and not taken:
            taken.append(take_for_lost(study.space))

    study.runner.before = take_all
    assert study.run().complete
    assert taken
    assert study.numbers_by_state()[TrialState.FAIL] == taken[0] > 0
    assert study.numbers_by_state()[TrialState.RUNNING] == study.numbers_by_state()[TrialState.WAITING] == 0
    assert study.trained == study.runner.runs[Stage.TRAIN] == 4


def take_for_lost(space):
    """What a driver on another machine does with trials whose heartbeats it has not seen for long; how many."""
    other = Study.change_existing(space.storage, space.study)
    with other._view._engine.begin() as connection:
        connection.execute(text("UPDATE vs_trial SET beat_at = 0"))
    running = len(other._trials(TrialState.RUNNING))
    without_patience(other).recover()
    other.close()
    return running
