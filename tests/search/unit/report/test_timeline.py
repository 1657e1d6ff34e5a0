"""How long workers and devices had nothing to do."""

from __future__ import annotations

import pytest

from vitsearch.report.timeline import lanes
from vitsearch.storage.ledger.costs import Run, StageRun

RUNS = [Run(1, "here", 2, 0.0, 100.0), Run(2, "here", 2, 500.0, 600.0)]


def stage(start, seconds, where="worker here/1", run=1):
    return StageRun(run, "train", "", start, seconds, 1.0, where)


def test_stages_at_the_same_time_count_once():
    (lane,) = lanes(RUNS, [stage(0, 20), stage(10, 20), stage(50, 10)])
    assert (lane.busy_s, lane.there_s, lane.idle_share) == (40, 100, pytest.approx(0.6))


def test_a_worker_is_there_in_the_runs_in_which_it_did_something():
    rows = lanes(RUNS, [stage(0, 50), stage(500, 10, "worker here/2", run=2), stage(20, 10, "device local")])
    assert {lane.name: lane.there_s for lane in rows} == {
        "worker here/2": 100,
        "worker here/1": 100,
        "device local": 100,
    }


def test_a_board_that_runs_share_is_there_once():
    beside = [Run(1, "here", 2, 0.0, 100.0), Run(2, "there", 2, 0.0, 100.0), Run(3, "there", 2, 50.0, 150.0)]
    (lane,) = lanes(beside, [stage(50 * run - 50, 50, "device pi", run) for run in (1, 2)])
    assert (lane.busy_s, lane.there_s) == (100, 100)
    (lane,) = lanes(beside, [stage(start, 50, "device pi", run) for start, run in ((0, 1), (50, 2), (100, 3))])
    assert (lane.there_s, lane.idle_share) == (150, 0.0)


def test_devices_come_last():
    names = [lane.name for lane in lanes(RUNS, [stage(0, 1, "device local"), stage(0, 1)])]
    assert names == ["worker here/1", "device local"]


def test_a_clock_that_differs_gives_no_negative_idle_time():
    (lane,) = lanes(RUNS, [stage(-10, 120)])
    assert lane.idle_share == 0.0
