"""When a search has spent what it may spend."""

from __future__ import annotations

import time

import pytest

from vitsearch.core.stage import Stage
from vitsearch.search.watch.budget import LOOK_S, Budget
from vitsearch.space.sections import Search
from vitsearch.stages import TrainJob
from vitsearch.storage.ledger import Ledger
from vitsearch.storage.stage_cost import StageCost


class Clock:
    now_s = 100.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def costs(storage):
    ledger = Ledger.open(storage)
    ledger.costs.start_run("study", 2)
    yield ledger.costs
    ledger.close()


def work(costs, ran_on, seconds):
    costs.note(Stage.TRAIN, StageCost(1.0, {}, 0.0, seconds, ran_on))
    costs.write()


def budget(costs, clock, **limits):
    return Budget(Search(**limits), costs, "study", clock)


def test_without_a_budget_nothing_is_spent(costs):
    work(costs, "worker here/1", 1e6)
    assert budget(costs, Clock()).why_spent() is None


def test_the_wall_time_is_that_of_this_run(costs):
    clock = Clock()
    limited = budget(costs, clock, budget="1m")
    clock.now_s += 59.0
    assert limited.why_spent() is None
    clock.now_s += 2.0
    assert limited.why_spent() == "the budget of 60 s is spent"


@pytest.mark.parametrize(("jump_s", "limit", "is_spent"), [(3600.0, "30m", False), (-3600.0, "0.001s", True)])
def test_a_jump_of_the_wall_clock_neither_spends_nor_extends_it(costs, monkeypatch, jump_s, limit, is_spent):
    limited = Budget(Search(budget=limit), costs, "study")
    now_s = time.time
    monkeypatch.setattr(time, "time", lambda: now_s() + jump_s)
    time.sleep(0.01)
    assert (limited.why_spent() is not None) == is_spent


@pytest.mark.parametrize("jump_s", [3600.0, -3600.0])
def test_a_run_whose_wall_clock_jumps_ends_as_without_and_counts_the_same_hours(fake_study, monkeypatch, jump_s):
    """The clock jumps while the second training is under way, and stays there."""
    now_s, few = time.time, fake_study.with_space(search__budget="30m", search__trainer_budget="30m", search__trials=3)

    def jump(job):
        if isinstance(job, TrainJob) and few.runner.runs["train"] == 1:
            monkeypatch.setattr(time, "time", lambda: now_s() + jump_s)

    few.runner.before = jump
    ended = few.run()
    assert ended.complete, ended.reason
    assert few.trained == 3
    with few.opened() as (study, ledger):
        assert study.unfinished() == 0
        assert 0.0 <= ledger.costs.worked(few.space.study).trainers < 600.0
    assert few.run().complete, "it resumes"


@pytest.mark.parametrize(
    ("name", "ran_on", "who"),
    [("trainer_budget", "worker here/1", "trainers"), ("device_budget", "device local", "devices")],
)
def test_the_hours_are_those_of_all_runs(costs, name, ran_on, who):
    clock = Clock()
    limited = budget(costs, clock, **{name: "1h"})
    work(costs, ran_on, 1800.0)
    assert limited.why_spent() is None
    work(costs, ran_on, 1900.0)
    assert limited.why_spent() is None, "the database is not asked each time"
    clock.now_s += LOOK_S
    assert limited.why_spent() == f"the {who} have worked 3700 s, their budget is 3600 s"
    assert budget(costs, clock, **{name: "1h"}).why_spent() is not None


def test_the_hours_of_the_others_do_not_count(costs):
    work(costs, "device local", 4000.0)
    assert budget(costs, Clock(), trainer_budget="1h").why_spent() is None
