"""Several drivers on one study, at the same time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from optuna.trial import TrialState

from vitsearch.core.stage import Stage
from vitsearch.search.driver import SearchEnd

DRIVERS = 3


@pytest.fixture
def together(fake_study, storage):
    """The study after several runs of it that were started at the same moment on a new database."""
    fake_study = fake_study.with_space(storage=storage)
    with ThreadPoolExecutor(DRIVERS) as threads:
        ends = list(threads.map(lambda _: fake_study.run(), range(DRIVERS)))
    return fake_study, ends


def test_drivers_train_together_what_the_file_asks_for(together):
    study, ends = together
    assert ends == [SearchEnd("8 plans are trained", complete=True)] * DRIVERS
    assert study.trained == study.runner.made[Stage.TRAIN] == 8
    assert study.numbers_by_state().keys() <= {TrialState.COMPLETE, TrialState.PRUNED}


def test_drivers_make_no_stage_twice(together):
    study, _ = together
    counted = "SELECT count(*) FROM vs_artifact WHERE kind IN ('screen', 'model')"
    with study.opened() as (_, ledger), ledger._engine.connect() as connection:
        results = connection.exec_driver_sql(counted).scalar_one()
    assert study.runner.made[Stage.SCREEN] + study.runner.made[Stage.EXPORT] == results
