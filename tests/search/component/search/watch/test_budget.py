"""When a search has spent what it may spend."""

from __future__ import annotations

import pytest

from vitsearch.core.stage import Stage
from vitsearch.search.watch.budget import LOOK_S, Budget
from vitsearch.space.sections import Search
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
